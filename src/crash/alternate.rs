//! Alternate stacks: made, given to threads, taken back, and the table of who has which.
//!
//! One is as large as the kernel's signal frame may get on this machine (`AT_MINSIGSTKSZ`) and 8 KiB more, at least 16 KiB,
//! with an unreadable page below: the handler leaves for a stack of its own at once. They are never unmapped, but given to
//! the next thread.

use crate::this_process::stacks::{range, remember_traces, this_stack, write_down};
use std::io;
use std::sync::{Mutex, TryLockError};
use surestack_capture::stacks::{Line, THREADS, ThreadStack, ThreadStacks};
use surestack_capture::syscall::{self, AlternateStack};

/// `SS_DISABLE`: there is no alternate stack.
pub(super) const DISABLED: i32 = 2;

/// None.
pub(super) const NONE: AlternateStack = AlternateStack { low: 0, flags: DISABLED, size: 0 };

/// What the first instructions of the handler need besides the kernel's frame.
const ENTRY: usize = 1024;

/// Lowest addresses of those that nobody has.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// The threads that are known, and their stacks: what a handler reads.
pub fn threads() -> &'static ThreadStacks {
    &THREADS
}

/// What the kernel may write for a signal, at most.
fn frame() -> usize {
    // SAFETY: reads a word that the kernel gave the process; 0 where it gave none (before Linux 5.14).
    let minimum = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    usize::try_from(minimum).unwrap_or(0).max(libc::MINSIGSTKSZ)
}

fn page() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// How large ours are.
pub(super) fn size() -> usize {
    frame().saturating_add(8 << 10).max(16 << 10).next_multiple_of(page())
}

/// Whether a handler can be entered on this one.
pub(super) fn is_enough(stack: &AlternateStack) -> bool {
    stack.flags & DISABLED == 0 && stack.size >= frame().saturating_add(ENTRY)
}

/// One that nobody has.
pub(super) fn take() -> io::Result<AlternateStack> {
    let size = size();
    // In a child of `fork` whoever held the lock may be gone: never wait.
    let free = match FREE.try_lock() {
        Ok(mut free) => free.pop(),
        Err(TryLockError::Poisoned(free)) => free.into_inner().pop(),
        Err(TryLockError::WouldBlock) => None,
    };
    let low = free.map_or_else(|| map(size), Ok)?;
    Ok(AlternateStack { low, flags: 0, size })
}

/// Memory with an unreadable page below. Its lowest address.
pub(super) fn map(size: usize) -> io::Result<usize> {
    let page = page();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    // SAFETY: new memory, at a place that the kernel chooses.
    let whole = unsafe { libc::mmap(std::ptr::null_mut(), page + size, libc::PROT_NONE, flags, -1, 0) };
    if whole == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let stack = whole.wrapping_byte_add(page);
    // SAFETY: part of the memory that was just mapped.
    if unsafe { libc::mprotect(stack, size, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: what was just mapped, and nobody knows of.
        unsafe { libc::munmap(whole, page + size) };
        return Err(error);
    }
    Ok(stack.expose_provenance())
}

/// Gives one of ours back, which is in force nowhere and which nobody is on.
pub(super) fn give_back(stack: &AlternateStack) {
    // Where others are at it, it is lost: a page or two that are not touched again.
    if let Ok(mut free) = FREE.try_lock() {
        free.push(stack.low);
    }
}

/// This thread's alternate stack as the kernel has it.
pub(super) fn current() -> io::Result<AlternateStack> {
    // SAFETY: only reads.
    unsafe { syscall::alternate_stack(None) }.map_err(system)
}

/// Sets this thread's.
///
/// # Safety
/// It is the thread's alone, and stays.
pub(super) unsafe fn set(stack: &AlternateStack) -> io::Result<()> {
    // SAFETY: as the caller promises.
    unsafe { syscall::alternate_stack(Some(stack)) }.map(|_| ()).map_err(system)
}

pub(super) fn system(error: syscall::Errno) -> io::Error {
    io::Error::from_raw_os_error(error.0)
}

/// A thread that was given one of ours, or has one that is large enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    /// Its line in the table.
    pub(super) line: Line,
    /// Its id.
    pub(super) thread: u32,
    /// What it was given.
    pub(super) ours: Option<AlternateStack>,
    /// What it had before.
    pub(super) previous: AlternateStack,
}

/// Gives this thread an alternate stack, unless it has one that is large enough, and writes it down.
pub(super) fn arm_this_thread() -> io::Result<Armed> {
    let previous = current()?;
    let ours = if is_enough(&previous) { None } else { Some(take()?) };
    if let Some(ours) = &ours {
        // SAFETY: it was mapped for one thread, and is never unmapped.
        unsafe { set(ours) }?;
    }
    let thread = syscall::thread_id();
    let stack = this_stack();
    THREADS.retire(stack);
    let line = write_down(&ThreadStack { thread, stack, alternate: range(&ours.unwrap_or(previous)) });
    remember_traces(&line);
    Ok(Armed { line, thread, ours, previous })
}

/// Undoes that, in the same thread. Whoever set another one since then keeps it.
pub(super) fn disarm_this_thread(armed: &Armed) {
    armed.line.clear();
    let Some(ours) = &armed.ours else { return };
    let restored = match current() {
        // SAFETY: it was in force before ours; nobody else has set another since then.
        Ok(now) if now.low == ours.low => unsafe { set(&armed.previous) },
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    // It fails if we are on it: then it stays in force.
    if restored.is_ok() {
        give_back(ours);
    }
}
