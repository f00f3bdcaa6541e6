//! The stacks of our threads, in the table that handlers read.

use std::mem::MaybeUninit;
use surestack_capture::Range;
use surestack_capture::stacks::{Line, THREADS, ThreadStack};
use surestack_capture::syscall;

/// A thread whose stacks are known as long as this lives.
#[derive(Debug)]
#[must_use = "the thread is forgotten when this is dropped"]
pub struct KnownThread {
    line: Line,
}

impl Drop for KnownThread {
    fn drop(&mut self) {
        self.line.clear();
    }
}

/// Makes this thread's stack known, and the alternate stack that it has now: [`Backtrace`](super::Backtrace)s on them need
/// no system call. To be dropped by the thread before it ends. Threads that are made while the crash handler is installed
/// are known without it.
pub fn know_this_thread() -> KnownThread {
    let stack = this_stack();
    THREADS.retire(stack);
    // SAFETY: asks only.
    let alternate = unsafe { syscall::alternate_stack(None) }.map_or(Range { low: 0, high: 0 }, |stack| range(&stack));
    let line = write_down(&ThreadStack { thread: syscall::thread_id(), stack, alternate });
    line.remember(|| Box::leak(Box::default()));
    KnownThread { line }
}

/// A line of the table for this thread.
pub(crate) fn write_down(thread: &ThreadStack) -> Line {
    loop {
        if let Some(line) = THREADS.claim(thread) {
            return line;
        }
        THREADS.add(Box::leak(Box::default()));
    }
}

/// Where a stack begins and ends; from 0 to 0 where there is none.
pub(crate) fn range(stack: &syscall::AlternateStack) -> Range {
    const DISABLED: i32 = 2;
    let low = u64::try_from(stack.low).unwrap_or(0);
    match u64::try_from(stack.size) {
        Ok(size) if stack.flags & DISABLED == 0 => Range { low, high: low.saturating_add(size) },
        _ => Range { low: 0, high: 0 },
    }
}

/// This thread's stack as the C library has it; from 0 to 0 where it does not know.
pub(crate) fn this_stack() -> Range {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut low, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: writes the attributes of a thread that runs, ours.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return Range { low: 0, high: 0 };
    }
    // SAFETY: they were written.
    unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size) };
    // SAFETY: they are not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    range(&syscall::AlternateStack { low: low.addr(), flags: 0, size })
}
