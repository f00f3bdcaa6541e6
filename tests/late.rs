//! A library that was loaded where another one was, and nobody told us.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod temporary;

use std::ffi::{CString, c_void};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use surestack::this_process;
use surestack_capture::{Loader, Mappings, Range, Surroundings};
use surestack_walk::Modules;

/// A library with one function of this name, which has so much room on its stack.
fn library(name: &str, room: usize) -> PathBuf {
    let (path, source) = (temporary::path(&format!("{name}.so")), temporary::path(&format!("{name}.c")));
    let text = format!("int {name}(int n) {{ volatile char room[{room}]; room[n] = 1; return room[n]; }}");
    std::fs::write(&source, text).unwrap();
    let flags = ["-O1", "-shared", "-fPIC", "-o"];
    assert!(Command::new("gcc").args(flags).arg(&path).arg(&source).status().unwrap().success());
    path
}

fn load(path: &std::path::Path, function: &str) -> (*mut c_void, u64) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let function = CString::new(function).unwrap();
    // SAFETY: strings that end with zero, and a library without initialisers.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        (handle, libc::dlsym(handle, function.as_ptr()).expose_provenance() as u64)
    }
}

extern "C" fn step_over(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: what the kernel passed.
    let pc = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] };
    if let Some(next) = surestack_capture::recover(*pc as u64) {
        *pc = next as i64;
    }
}

#[test]
fn a_library_where_another_one_was_is_not_taken_for_it() {
    // SAFETY: it answers loads of ours that fail, and nothing else faults here.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = step_over as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
    }
    surestack_capture::arm(true);
    let (first, second) = (library("first", 64), library("second", 4000));
    let (handle, address) = load(&first, "first");
    this_process::refresh();
    // SAFETY: it was opened.
    unsafe { libc::dlclose(handle) };
    let (_, there) = load(&second, "second");
    assert_eq!(address & !0xfff, there & !0xfff, "the loader puts it where the other one was");

    let mut room = vec![0_u8; 1 << 20];
    let low = room.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: a string that ends with zero.
    let list = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_r_debug".as_ptr()) }.expose_provenance();
    let maps = std::fs::File::open("/proc/self/maps").unwrap().into_raw_fd();
    let mut around = Surroundings::new(this_process::modules(), Mappings::new(Some(maps)));
    let stale = around.find(there).unwrap().index;
    around.learn(&Loader { list, room: Range { low, high: low + (1 << 20) } });
    let now = around.find(there).unwrap();
    assert_ne!(now.index, stale);
    assert!(now.unwind.eh_frame.is_some());
    assert_eq!(around.generation(), None, "what the map says of the other one is old");
    std::mem::forget(room);
}
