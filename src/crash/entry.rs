//! Where the kernel enters, and what it goes on to.

use super::alternate::system;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicPtr, Ordering};
use surestack_capture::syscall::{self, SignalAction};

static PREVIOUS: [AtomicPtr<SignalAction>; 32] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 32];

/// Says what a signal did before us.
pub(super) fn pass_on_to(signal: i32, previous: &SignalAction) {
    if let Some(place) = usize::try_from(signal).ok().and_then(|signal| PREVIOUS.get(signal)) {
        place.store(Box::leak(Box::new(*previous)), Ordering::Release);
    }
}

/// Has the kernel enter at a signal.
pub(super) fn set(signal: i32) -> io::Result<()> {
    // SAFETY: a structure of numbers, all of which may be zero.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = (enter as *const ()).addr();
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: `enter` may run at any instruction.
    let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if set == 0 { Ok(()) } else { Err(system(syscall::Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0)))) }
}

/// Puts the previous action back, under which the instruction faults again.
extern "C" fn enter(signal: libc::c_int, _information: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let place = usize::try_from(signal).ok().and_then(|signal| PREVIOUS.get(signal));
    // SAFETY: null, or what `pass_on_to` leaked.
    let previous = place.and_then(|place| unsafe { place.load(Ordering::Acquire).as_ref() });
    // SAFETY: what the signal did before.
    let _ = unsafe { syscall::signal_action(signal, Some(previous.unwrap_or(&SignalAction::default()))) };
}
