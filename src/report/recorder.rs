//! The flight recorder's part of a report: the last events, and the annotations.

use crate::recorder::{Event, Recording, ThreadEvents};
use crate::snapshot::recorder::{FoundRecorder, RecorderPlace};

/// What the flight recorder tells.
#[derive(Clone, Debug)]
pub struct FromRecorder {
    /// Where it was found.
    pub place: RecorderPlace,
    /// What is in it, or as much of it as was found.
    pub recording: Recording,
    /// The process, where it is known: a forked child's events are in the same recorder as its parent's.
    pub process: Option<u32>,
    /// The thread that took the signal that ended the process.
    pub crashed: Option<u32>,
    /// When that was, in nanoseconds of the monotonic clock, where it is known.
    pub moment: Option<u64>,
}

impl FromRecorder {
    /// Of a process in which this thread took the fatal signal at this moment.
    pub fn new(found: FoundRecorder, process: Option<u32>, crashed: Option<u32>, moment: Option<u64>) -> Self {
        let FoundRecorder { place, recording } = found;
        Self { place, recording, process, crashed, moment }
    }

    /// The crashed thread's part, if it has one. Of threads that had the same number one after the other it is the last.
    pub fn of_crashed(&self) -> Option<&ThreadEvents> {
        let threads = self.recording.threads.iter().filter(|thread| Some(thread.tid) == self.crashed);
        threads.filter(|thread| self.process.is_none_or(|pid| pid == thread.pid)).max_by_key(|thread| thread.began)
    }

    /// The moment that times are relative to: that of the crash, or else of the last event.
    pub fn now(&self) -> Option<u64> {
        let last = || self.recording.threads.iter().flat_map(|thread| &thread.events).map(|event| event.time).max();
        self.moment.or_else(last)
    }

    /// The last events of the crashed thread, oldest first.
    pub fn last_of_crashed(&self, count: usize) -> Vec<(&ThreadEvents, &Event)> {
        let Some(thread) = self.of_crashed() else { return vec![] };
        let skipped = thread.events.len().saturating_sub(count);
        thread.events.iter().skip(skipped).map(|event| (thread, event)).collect()
    }
}
