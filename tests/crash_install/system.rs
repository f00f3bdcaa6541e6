//! What the kernel says, asked without the C library, and threads made as a C program makes them.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

/// `SS_DISABLE`.
pub const DISABLED: i32 = 2;

/// What a signal does: the kernel's structure, bit for bit.
pub fn action(signal: i32) -> [u64; 4] {
    let mut action = [0_u64; 4];
    // SAFETY: writes the four words of the kernel's `struct sigaction`.
    let answer =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, std::ptr::null::<u64>(), action.as_mut_ptr(), 8) };
    assert_eq!(answer, 0);
    action
}

pub fn set_action(signal: i32, action: [u64; 4]) {
    // SAFETY: an action that was in force before.
    let answer = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null::<u64>(), 8) };
    assert_eq!(answer, 0);
}

/// All of them, but those that the C library changes when it makes its first thread.
pub fn actions() -> Vec<[u64; 4]> {
    (1..=64).filter(|signal| ![32, 33].contains(signal)).map(action).collect()
}

/// This thread's alternate stack: address, flags, size.
pub fn alternate() -> (usize, i32, usize) {
    let mut stack = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: writes the structure.
    let answer = unsafe { libc::syscall(libc::SYS_sigaltstack, std::ptr::null::<u8>(), stack.as_mut_ptr()) };
    assert_eq!(answer, 0);
    // SAFETY: it was written.
    let stack = unsafe { stack.assume_init() };
    (stack.ss_sp.addr(), stack.ss_flags, stack.ss_size)
}

pub fn set_alternate(low: *mut c_void, size: usize) {
    let stack = libc::stack_t { ss_sp: low, ss_flags: 0, ss_size: size };
    // SAFETY: memory of the caller's that stays.
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }, 0);
}

/// What the kernel may write for a signal.
pub fn frame() -> usize {
    // SAFETY: reads a word of the process.
    usize::try_from(unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) }).unwrap()
}

/// An alternate stack on which there is room for a handler of ours to be entered: whoever has one keeps it.
pub fn enough() -> usize {
    frame() + 1024
}

/// The size of those that we give.
pub fn given() -> usize {
    (frame() + 8192).max(16 << 10)
}

/// Runs `function` in a thread made by `pthread_create` with this stack size, and waits for it.
pub fn in_pthread(stack: usize, function: extern "C" fn(*mut c_void) -> *mut c_void) -> *mut c_void {
    join(pthread(stack, function))
}

pub fn pthread(stack: usize, function: extern "C" fn(*mut c_void) -> *mut c_void) -> libc::pthread_t {
    let (mut thread, mut attributes) = (0, MaybeUninit::uninit());
    // SAFETY: each call writes or reads what the one before wrote.
    let made = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        assert_eq!(libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack), 0);
        libc::pthread_create(&raw mut thread, attributes.as_ptr(), function, std::ptr::null_mut())
    };
    assert_eq!(made, 0);
    thread
}

pub fn join(thread: libc::pthread_t) -> *mut c_void {
    let mut result = std::ptr::null_mut();
    // SAFETY: a thread that nobody has joined.
    let joined: c_int = unsafe { libc::pthread_join(thread, &raw mut result) };
    assert_eq!(joined, 0);
    result
}

/// Uses up the stack.
#[inline(never)]
pub fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 32]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1) + room[3] }
}

/// How a child ends that does this.
pub fn child(play: impl FnOnce()) -> i32 {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {
            play();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: writes a number.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status
        }
    }
}
