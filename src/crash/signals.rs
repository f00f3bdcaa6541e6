//! What signals do, before us and with us, bit for bit.
//!
//! Handlers are a stack: who installs last is asked first, and passes on to who was there before. When we go and somebody
//! has installed on top meanwhile, that one still passes signals on to us. So our entry stays beneath it and passes them on
//! to who was there before us. If we are installed again then, signals reach us through whoever is on top: setting our
//! action a second time would make the two pass a signal to each other for ever.

use super::alternate::system;
use super::error::InstallError;
use std::io;
use surestack_capture::syscall::{self, SignalAction};

/// A signal that was ours at some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caught {
    pub(super) signal: i32,
    /// What it did before us.
    previous: SignalAction,
    /// What we had it do.
    ours: SignalAction,
}

/// What a signal does now.
pub(super) fn action(signal: i32) -> io::Result<SignalAction> {
    // SAFETY: only reads.
    unsafe { syscall::signal_action(signal, None) }.map_err(system)
}

/// Catches a signal.
pub(super) fn catch(signal: i32) -> Result<Caught, InstallError> {
    let refused = |source| InstallError::System { what: "cannot catch a signal", source };
    let previous = action(signal).map_err(refused)?;
    // Before the action: the handler may run before this function returns.
    surestack_capture::remember(signal, &previous);
    let ours = ours().ok_or(InstallError::Unsupported)?;
    // SAFETY: the entry may run at any instruction of any thread.
    unsafe { syscall::signal_action(signal, Some(&ours)) }.map_err(|error| refused(system(error)))?;
    // The kernel keeps two signals out of every mask: as it says it is how it is compared.
    let ours = action(signal).map_err(refused)?;
    Ok(Caught { signal, previous, ours })
}

/// What we have signals do. Only what the thread itself raises gets through while a handler runs.
#[cfg(target_arch = "x86_64")]
fn ours() -> Option<SignalAction> {
    const SA_RESTORER: u64 = 0x0400_0000;
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER).cast_unsigned();
    let raised = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
    let mask = raised.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)));
    let (handler, restorer) = (surestack_capture::entry(), surestack_capture::restorer());
    Some(SignalAction { handler, flags: u64::from(flags) | SA_RESTORER, restorer, mask })
}

#[cfg(not(target_arch = "x86_64"))]
fn ours() -> Option<SignalAction> {
    None
}

impl Caught {
    /// Whether the kernel enters at ours first.
    pub(super) fn is_on_top(&self) -> bool {
        action(self.signal).is_ok_and(|now| now == self.ours)
    }

    /// Whether the kernel enters at a handler, which may pass signals on to us.
    pub(super) fn may_be_reached(&self) -> bool {
        action(self.signal).is_ok_and(|now| ![libc::SIG_DFL, libc::SIG_IGN].contains(&now.handler))
    }

    /// Gives the signal back. Whether that was possible: not if somebody else has set another action since.
    pub(super) fn release(&self) -> bool {
        // SAFETY: what it did before, as the kernel had it.
        self.is_on_top() && unsafe { syscall::signal_action(self.signal, Some(&self.previous)) }.is_ok()
    }
}
