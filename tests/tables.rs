//! Which modules get a table, which do not and why, and that their frames are the same all the same.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod temporary;

use std::ffi::{CStr, CString, c_void};
use std::hint::black_box;
use std::process::Command;
use std::sync::Mutex;
use surestack::this_process::{Backtrace, Layers, NoTable, Trace, compile, prepare, refresh, tables};
use surestack::walk::{CodeAddress, End, Root, Section, UnwindSections};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const LIBRARY: &str =
    "long through(long (*f)(long), long n) { volatile char room[ROOM]; room[n % 40] = 1; return f(n) + room[n % 40]; }";

/// A library that calls back, and its path.
fn library(name: &str, options: &[&str]) -> std::path::PathBuf {
    let (source, path) = (temporary::path(&format!("{name}.c")), temporary::path(&format!("{name}.so")));
    std::fs::write(&source, LIBRARY).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-shared", "-fPIC", "-Wl,--build-id", "-o"]).args([&path, &source]).args(options);
    assert!(gcc.status().unwrap().success());
    path
}

type Through = unsafe extern "C" fn(extern "C" fn(i64) -> i64, i64) -> i64;

fn open(path: &std::path::Path) -> Through {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a library of ours, that runs nothing when it is loaded, and stays.
    unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "{:?}", CStr::from_ptr(libc::dlerror()));
        let through = libc::dlsym(library, c"through".as_ptr());
        assert!(!through.is_null());
        std::mem::transmute::<*mut c_void, Through>(through)
    }
}

/// What is called back: the same frames by all layers.
extern "C" fn called(number: i64) -> i64 {
    let expected: Vec<CodeAddress> = Trace::<64>::capture().frames().map(|frame| frame.pc).collect();
    let mut backtrace = Backtrace::<64>::EMPTY;
    for layers in [Layers::Evaluator, Layers::NoCache, Layers::NoMemory, Layers::All, Layers::All] {
        backtrace.capture_with(layers);
        let frames: Vec<CodeAddress> = backtrace.frames().collect();
        assert_eq!(frames[1..], expected[1..], "{layers:?}");
        assert_eq!(backtrace.end(), Some(End::Root(Root::UndefinedReturn)), "{layers:?}");
    }
    black_box(number)
}

#[test]
fn a_library_gets_its_table_and_one_whose_file_is_gone_gets_none_and_the_same_frames() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let prepared = prepare();
    prepared.compiling.as_ref().unwrap();
    let (kept, gone) = (library("kept", &["-DROOM=40"]), library("gone", &["-DROOM=80"]));
    let others = [library("other", &["-DROOM=120"]), library("nameless", &["-DROOM=160", "-Wl,--build-id=none"])];
    let [other, nameless] = &others;
    let functions = [&kept, &gone, other, nameless].map(|path| open(path));
    std::fs::remove_file(&gone).unwrap();
    // Another file in its place, with another build ID.
    std::fs::remove_file(other).unwrap();
    std::fs::copy("/proc/self/exe", other).unwrap();
    refresh();
    let done = tables();
    let of = |path: &std::path::Path| {
        let path = path.to_str().unwrap().as_bytes();
        done.iter().find(|module| module.record.path == path).map(|module| module.table.map(|table| table.rows() > 3))
    };
    assert_eq!(of(&kept), Some(Ok(true)));
    for path in [&gone, other, nameless] {
        assert_eq!(of(path), Some(Err(NoTable::NoFile)), "{path:?}");
    }
    for through in functions {
        for number in 0..3 {
            // SAFETY: it calls back, and returns.
            assert_eq!(unsafe { through(called, number) }, number + 1);
        }
    }
    drop(prepared);
}

/// `.eh_frame_hdr` at 0x1000 with these functions, and an `.eh_frame` at 0x1100 of no entry.
fn sections(starts: &[i32]) -> (Vec<u8>, Vec<u8>) {
    let mut hdr = vec![1, 0x1b, 3, 0x3b, 0xfc, 0x00, 0, 0];
    hdr.extend(u32::try_from(starts.len()).unwrap().to_le_bytes());
    for start in starts {
        hdr.extend(start.to_le_bytes());
        hdr.extend(0x100_i32.to_le_bytes());
    }
    (hdr, vec![0; 64])
}

fn compiled(starts: &[i32]) -> Result<usize, NoTable> {
    let (hdr, frames) = sections(starts);
    let unwind = UnwindSections {
        eh_frame_hdr: Some(Section { address: 0x1000, bytes: &hdr }),
        eh_frame: Some(Section { address: 0x1100, bytes: &frames }),
        ..UnwindSections::default()
    };
    compile(&unwind, |_, _| false).map(|table| table.rows())
}

#[test]
fn a_search_table_that_is_not_sorted_is_not_compiled_and_entries_that_nobody_can_read_are_asked_for() {
    assert_eq!(compiled(&[0x1000, 0x2000]), Ok(1));
    assert_eq!(compiled(&[0x2000, 0x1000]), Err(NoTable::Unsorted));
    assert_eq!(compiled(&[]), Err(NoTable::Nothing));
    assert_eq!(compile(&UnwindSections::default(), |_, _| false).map(|_| ()), Err(NoTable::Nothing));
}
