//! The file of a record: unnamed when it was opened, named as soon as there is something in it.

use crate::plan::Plan;
use crate::record::Sink;
use crate::syscall::{self, Answer, Descriptor, Errno};
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether the file that was opened at install holds a record already.
static USED: AtomicBool = AtomicBool::new(false);

/// Where a record goes.
pub(crate) struct File {
    to: Option<Descriptor>,
}

impl File {
    /// The file prepared by the plan; another one in its directory where that is used already, or where this process is not
    /// the one that prepared it and would share it.
    pub fn new(plan: &Plan, process: u32) -> Self {
        /// `O_TMPFILE | O_RDWR | O_CLOEXEC`
        const UNNAMED: i32 = 0o20_200_000 | 0o2 | 0o2_000_000;
        const PRIVATE: usize = 0o600;
        let own = process == plan.process && !USED.swap(true, Ordering::Relaxed);
        let fresh = || syscall::open_at(plan.directory?, c".", UNNAMED, PRIVATE).ok();
        Self { to: if own { plan.record } else { fresh().or(plan.record) } }
    }
}

impl Sink for File {
    type Error = Errno;

    fn put(&mut self, bytes: &[u8]) -> Answer {
        match self.to {
            Some(to) => syscall::write_all(to, bytes),
            None => Ok(()),
        }
    }
}
