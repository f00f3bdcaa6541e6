//! A deep stack of C, C++ and Rust, through the C library and the C++ library.
#![allow(dead_code, reason = "each user takes its part")]

use std::ffi::{CString, c_int, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

type Next = unsafe extern "C" fn(*mut c_void);
type Round = unsafe extern "C" fn(Next, *mut c_void) -> c_int;

/// The functions that a round goes through.
pub struct Wide {
    rounds: [Round; 2],
}

/// What one level hands to the next.
struct Level<'w> {
    wide: &'w Wide,
    left: usize,
    at_the_end: &'w mut dyn FnMut(),
}

impl Wide {
    /// Builds the libraries in `folder` and loads them.
    pub fn load(folder: &Path) -> Self {
        let rounds = [("wide.c", "gcc", "wide_c"), ("wide.cc", "g++", "wide_cc")];
        let rounds = rounds.map(|(source, compiler, function)| symbol(&library(folder, source, compiler), function));
        // SAFETY: they are functions of this type.
        Self { rounds: rounds.map(|round| unsafe { std::mem::transmute::<*mut c_void, Round>(round) }) }
    }

    /// Calls `at_the_end` below `rounds` rounds, about seven frames each.
    pub fn descend(&self, rounds: usize, at_the_end: &mut dyn FnMut()) {
        let mut level = Level { wide: self, left: rounds, at_the_end };
        down(&mut level);
    }
}

/// Builds one of the libraries, if it is not there yet.
pub fn library(folder: &Path, source: &str, compiler: &str) -> PathBuf {
    let library = folder.join(format!("{source}.so"));
    if library.exists() {
        return library;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/names").join(source);
    let mut build = Command::new(compiler);
    build.args(["-g", "-O2", "-fPIC", "-shared", "-Wl,--build-id", "-o"]).arg(&library).arg(source);
    assert!(build.status().expect("a compiler").success());
    library
}

/// Where a function of a library is, which stays loaded.
fn symbol(library: &Path, name: &str) -> *mut c_void {
    let path = CString::new(library.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: the library has no constructors of note.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{} cannot be loaded", library.display());
    let name = CString::new(name).expect("a name");
    // SAFETY: the handle is one.
    let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
    assert!(!found.is_null());
    found
}

#[inline(never)]
fn down(level: &mut Level<'_>) {
    let Some(left) = level.left.checked_sub(1) else { return (level.at_the_end)() };
    level.left = left;
    let round = level.wide.rounds[left % 2];
    // A closure of Rust's own in between.
    let mut go = || {
        // SAFETY: `next` takes what it is given here.
        black_box(unsafe { round(next, std::ptr::from_mut(level).cast()) });
    };
    through(&mut go);
    black_box(left);
}

#[inline(never)]
fn through(go: &mut dyn FnMut()) {
    inner(go);
    black_box(());
}

#[inline(always)]
fn inner(go: &mut dyn FnMut()) {
    go();
    black_box(());
}

unsafe extern "C" fn next(level: *mut c_void) {
    // SAFETY: as `down` passes it; it waits for us.
    down(unsafe { &mut *level.cast::<Level<'_>>() });
    black_box(());
}
