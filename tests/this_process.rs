//! Our own modules as the map has them, while libraries come and go.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod temporary;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use surestack::image::Image;
use surestack::this_process::{differences, modules, refresh};
use surestack_walk::{Mapping, Modules};

/// Libraries come and go for the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A library with one function, of this name.
fn library(name: &str) -> PathBuf {
    let (path, source) = (temporary::path(&format!("{name}.so")), temporary::path(&format!("{name}.c")));
    std::fs::write(&source, format!("int {name}(int n) {{ volatile char room[64]; room[n] = 1; return room[n]; }}"))
        .unwrap();
    let mut gcc = Command::new("gcc");
    let flags = ["-O1", "-shared", "-fPIC", "-Wl,--build-id", "-o"];
    assert!(gcc.args(flags).arg(&path).arg(&source).status().unwrap().success());
    path
}

/// A library that is loaded as long as this is.
struct Loaded(*mut libc::c_void);

impl Loaded {
    fn new(path: &std::path::Path) -> Self {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a string that ends with zero, and a library without initialisers.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        Self(handle)
    }

    fn bias(&self) -> u64 {
        // SAFETY: a handle of the loader's is the structure that it keeps of the library, which begins with the bias.
        unsafe { self.0.cast::<u64>().read() }
    }

    fn address(&self, name: &str) -> u64 {
        let name = CString::new(name).unwrap();
        // SAFETY: the library is loaded.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!address.is_null());
        address.addr() as u64
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: nothing of it is used any more.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

#[test]
fn every_mapping_of_code_is_in_the_map_and_another_enumeration_says_the_same() {
    let _alone = alone();
    refresh();
    assert_eq!(differences(), [""; 0]);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut seen = 0;
    for line in maps.lines().filter(|line| line.contains(" r-xp ")) {
        let Some((start, _)) = line.split_once('-') else { continue };
        let start = u64::from_str_radix(start, 16).unwrap();
        if line.ends_with("[vsyscall]") {
            continue;
        }
        assert_eq!(modules().mapping(start), Mapping::Code, "{line}");
        seen += 1;
    }
    assert!(seen >= 4, "the program, the C library, the loader, the vDSO:\n{maps}");
    assert_eq!(modules().find(0x10).map(|module| module.start), None);
}

#[test]
fn the_unwind_information_of_each_module_is_a_copy_of_what_its_file_has() {
    let _alone = alone();
    refresh();
    let mut compared = 0;
    for record in (0..).map_while(|index| modules().at(index).unwrap()) {
        let path = String::from_utf8_lossy(record.path).into_owned();
        let path = if path.is_empty() { "/proc/self/exe".into() } else { path };
        let Ok(image) = Image::open(path.as_ref()) else { continue };
        let (ours, its) = (record.unwind, image.unwind());
        assert_eq!(image.build_id().map(|id| id.to_string()).unwrap_or_default(), hex(record.build_id), "{path}");
        for (ours, its) in [(ours.eh_frame_hdr, its.eh_frame_hdr), (ours.eh_frame, its.eh_frame)] {
            let (ours, its) = (ours.unwrap(), its.unwrap());
            assert_eq!(ours.address, its.address, "{path}");
            assert!(ours.bytes == its.bytes, "{path}: {} bytes, {} in the file", ours.bytes.len(), its.bytes.len());
        }
        compared += 1;
    }
    assert!(compared >= 3, "the program, the C library, the loader");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_library_is_in_the_map_while_it_is_loaded_and_what_is_known_of_it_stays() {
    let _alone = alone();
    let path = library("comes");
    refresh();
    assert!(!refresh().changed, "nothing was loaded in between");
    let generation = modules().generation();
    let loaded = Loaded::new(&path);
    let address = loaded.address("comes");
    assert_eq!(modules().find(address).map(|module| module.bias), None, "nobody has asked the loader yet");
    assert!(refresh().changed);
    assert_ne!(modules().generation(), generation);
    let module = modules().find(address).expect("it is loaded");
    let bytes = module.unwind.eh_frame.unwrap().bytes;
    drop(loaded);
    assert!(refresh().changed);
    assert!(modules().find(address).is_none(), "it is gone");
    assert!(bytes.len() > 16 && bytes.ends_with(&[0; 4]), "what is known of it is not");
    // The same bytes are not copied again.
    let again = Loaded::new(&path);
    refresh();
    let module = modules().find(again.address("comes")).expect("it is loaded again");
    assert_eq!(module.unwind.eh_frame.unwrap().bytes.as_ptr(), bytes.as_ptr());
}

#[test]
fn a_library_that_lies_where_another_one_was_is_not_taken_for_it() {
    let _alone = alone();
    let (one, other) = (library("whoisthere"), library("someoneelse"));
    let known = |loaded: &Loaded, name| {
        let module = modules().find(loaded.address(name)).expect("it is loaded");
        let record = modules().at(module.index).unwrap().unwrap();
        (record.start, String::from_utf8_lossy(record.path).into_owned(), hex(record.build_id))
    };
    let build_id = |path: &PathBuf| Image::open(path).unwrap().build_id().unwrap().to_string();
    let loaded = Loaded::new(&one);
    refresh();
    let before = known(&loaded, "whoisthere");
    assert_eq!(before.2, build_id(&one));
    // Nobody asks the loader in between, which finds room at the same place.
    drop(loaded);
    let loaded = Loaded::new(&other);
    refresh();
    let after = known(&loaded, "someoneelse");
    assert_eq!(after.0, before.0, "the same place");
    assert_eq!((after.1.as_str(), after.2), (other.to_str().unwrap(), build_id(&other)));
}

#[test]
fn what_stays_is_not_read_again_when_another_library_comes_or_goes() {
    let _alone = alone();
    let (stays, comes) = (library("remains"), library("visits"));
    let stays = Loaded::new(&stays);
    refresh();
    let record = || modules().look_up(stays.address("remains")).unwrap().0.expect("it is loaded").record;
    let before: *const _ = record();
    let visitor = Loaded::new(&comes);
    assert!(refresh().changed);
    assert_eq!(modules().find(visitor.address("visits")).map(|module| module.bias), Some(visitor.bias()));
    assert!(std::ptr::eq(before, record()));
    drop(visitor);
    assert!(refresh().changed);
    assert!(std::ptr::eq(before, record()));
    assert_eq!(differences(), [""; 0]);
}

#[test]
fn ten_million_look_ups_while_libraries_come_and_go_find_no_wrong_module() {
    const LOOK_UPS: u64 = 10_000_000;
    const CYCLES: usize = 1_000;
    let _alone = alone();
    let (stays, comes) = (library("stays"), library("goes"));
    let stays = Loaded::new(&stays);
    refresh();
    let pinned = [
        stays.address("stays"),
        libc::getpid as *const () as u64,
        ten_million_look_ups_while_libraries_come_and_go_find_no_wrong_module as *const () as u64,
    ];
    let expected = pinned.map(|address| modules().find(address).expect("it is loaded").start);
    let done = AtomicBool::new(false);
    let (looked, raced) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut looked, mut raced) = (0u64, 0u64);
            while looked < LOOK_UPS || !done.load(Ordering::Relaxed) {
                for (address, start) in pinned.iter().zip(expected) {
                    match modules().look_up(*address) {
                        Ok((found, _)) => assert_eq!(found.expect("it stays").record.start, start),
                        Err(_) => raced += 1,
                    }
                    looked += 1;
                }
            }
            (looked, raced)
        });
        for _ in 0..CYCLES {
            let loaded = Loaded::new(&comes);
            assert!(refresh().changed);
            assert!(modules().find(loaded.address("goes")).is_some());
            drop(loaded);
            assert!(refresh().changed);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    println!("{looked} look-ups during {CYCLES} cycles, {raced} gave up");
    assert!(looked >= LOOK_UPS);
}
