//! No handler of the program's runs in the thread that holds all others: it might wait for one of them.

use std::marker::PhantomData;
use surestack_capture::syscall;

/// All signals but faults wait until this is dropped. Of the thread that made it.
pub(super) struct Mask {
    before: u64,
    of_this_thread: PhantomData<*const ()>,
}

/// Faults: blocked, they would end the process with no word.
const FAULTS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

impl Mask {
    /// From now on.
    pub fn all() -> Self {
        let faults = FAULTS.iter().fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
        Self { before: syscall::set_blocked(!faults).unwrap_or(0), of_this_thread: PhantomData }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        let _ = syscall::set_blocked(self.before);
    }
}
