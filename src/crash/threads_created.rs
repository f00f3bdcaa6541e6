//! Threads that are made from now on: `pthread_create`, put before the C library's.
//!
//! Whoever calls it (std, C++, a library) calls ours, which is exported: it gives the thread its alternate stack before the
//! thread's own function runs, and takes it back when the thread ends. Without an installed handler it only passes on.
//!
//! The next one is found with `dlsym(RTLD_NEXT)`; in a program without a dynamic loader (`crt-static`) it is
//! `__pthread_create`, as both glibc and musl call it there.

use super::alternate::{self, Armed};
use crate::this_process;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// `pthread_exit` unwinds through it.
type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

/// Whether threads are given alternate stacks.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// How many threads have none because there was no memory.
static WITHOUT: AtomicUsize = AtomicUsize::new(0);
/// The value of a thread that has one: what gives it back at the thread's end.
static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();

/// From now on, or no longer.
pub(super) fn give(active: bool) {
    if active {
        KEY.get_or_init(|| {
            let mut key = 0;
            // SAFETY: `end` takes what `begin` sets.
            (unsafe { libc::pthread_key_create(&raw mut key, Some(end)) } == 0).then_some(key)
        });
    }
    ACTIVE.store(active, Ordering::Release);
}

/// How many threads were made since the program began that got no alternate stack, for want of memory.
pub fn threads_without() -> usize {
    WITHOUT.load(Ordering::Relaxed)
}

/// What a new thread is to run.
struct Begin {
    start: Start,
    argument: *mut c_void,
}

/// `pthread_create(3)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let Some(create) = next() else { return libc::ENOSYS };
    if !ACTIVE.load(Ordering::Acquire) {
        // SAFETY: as the caller promises.
        return unsafe { create(thread, attributes, start, argument) };
    }
    this_process::refresh_if_free();
    let place = Box::into_raw(Box::new(Begin { start, argument }));
    // SAFETY: as the caller promises; `begin` takes what it is given.
    let failed = unsafe { create(thread, attributes, begin, place.cast()) };
    if failed != 0 {
        // SAFETY: no thread was made that has it.
        drop(unsafe { Box::from_raw(place) });
    }
    failed
}

#[cfg(target_feature = "crt-static")]
fn next() -> Option<Create> {
    unsafe extern "C" {
        fn __pthread_create(
            thread: *mut libc::pthread_t,
            attributes: *const libc::pthread_attr_t,
            start: Start,
            argument: *mut c_void,
        ) -> c_int;
    }
    Some(__pthread_create)
}

#[cfg(not(target_feature = "crt-static"))]
fn next() -> Option<Create> {
    static NEXT: std::sync::atomic::AtomicPtr<c_void> = std::sync::atomic::AtomicPtr::new(std::ptr::null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        // SAFETY: a string that ends with zero.
        next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) };
        NEXT.store(next, Ordering::Relaxed);
    }
    // SAFETY: null, or a function of this kind.
    unsafe { std::mem::transmute::<*mut c_void, Option<Create>>(next) }
}

/// Where a thread begins. What unwinds through here finds nothing to do.
extern "C-unwind" fn begin(place: *mut c_void) -> *mut c_void {
    let Begin { start, argument } = prepare(place);
    start(argument)
}

/// Gives the thread its alternate stack. What it is to run.
#[inline(never)]
fn prepare(place: *mut c_void) -> Begin {
    match (alternate::arm_this_thread(), KEY.get()) {
        (Ok(armed), Some(Some(key))) => {
            let armed = Box::into_raw(Box::new(armed));
            // SAFETY: the key was made; `end` takes the value.
            unsafe { libc::pthread_setspecific(*key, armed.cast()) };
        }
        (Ok(armed), _) => alternate::disarm_this_thread(&armed),
        (Err(_), _) => {
            WITHOUT.fetch_add(1, Ordering::Relaxed);
        }
    }
    // SAFETY: as `pthread_create` made it, for this thread alone.
    *unsafe { Box::from_raw(place.cast::<Begin>()) }
}

/// Where a thread ends that has one.
unsafe extern "C" fn end(armed: *mut c_void) {
    // SAFETY: as `begin` made it.
    let armed = *unsafe { Box::from_raw(armed.cast::<Armed>()) };
    alternate::disarm_this_thread(&armed);
}
