//! The flight recorder's last moments, copied into a record as they lie in its memory.
//!
//! ```text
//!   header ─► annotations that are ready ─► sites ─► the crashed thread: slot, last two pages
//!                                                 └► others, the newest first: slot, last page
//! ```
//!
//! Nobody is stopped, and nobody waited for: threads write on meanwhile. Of each thread is read first how far it has
//! committed, then its slot, then its pages, and last whether they were overwritten in between: what is put into the record
//! is as whole as it was, and what is not shows it by its sums. The memory is somebody's file, which may be cut short at any
//! time: it is read by loads that may fail.

mod copy;
mod words;

pub(crate) use words::write;

use crate::record::{Gap, Item};
use crate::report::{Report, checked};
use crate::syscall::{self, Clock};
use copy::{Copying, Order, Unreadable};

/// The part of the time that is left which this may take at most.
const SHARE: u64 = 4;

/// Records what is in the recorder, if one was started.
pub(crate) fn record(report: &mut Report<'_>) {
    let Some(arena) = surestack_recorder::started() else { return };
    let began = syscall::now(Clock::Monotonic);
    let until = began.saturating_add(report.deadline().saturating_sub(began) / SHARE);
    let memory = checked();
    let copying = Copying::of(arena, &memory);
    let mut order = Order {
        crashed: u64::from(report.process) << 32 | u64::from(report.thread),
        has_time: || syscall::now(Clock::Monotonic) < until,
        put: |at, bytes: &[u8]| report.put(&Item::Recorder { at, bytes }),
    };
    match copying.copy(&mut order) {
        Ok(0) => {}
        Ok(number) => report.put(&Item::Gap { what: Gap::RecorderThreads, number }),
        Err(Unreadable(number)) => report.put(&Item::Gap { what: Gap::Recorder, number }),
    }
}
