//! What is not in a recorder, by name.

use super::ThreadEvents;
use serde::Serialize;
use surestack_recorder::decode::Counters;

/// What was counted instead of kept, over all threads and processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// Events dropped because a ring was full, of threads that have a slot now.
    pub dropped: u64,
    /// Events refused because writers were nested too deeply.
    pub refused: u64,
    /// Events whose writer never ended.
    pub left: u64,
    /// Events that were dropped because their site found no room.
    pub undescribed: u64,
    /// Sites that found no room.
    pub sites_lost: u64,
    /// Events that were dropped because their thread has no slot.
    pub unplaced: u64,
    /// Threads that found no slot.
    pub threads_refused: u64,
    /// Threads for whose ring there was no memory, or no room on the disk.
    pub no_space: u64,
    /// Slots that went from a thread that had ended to another, its events with them.
    pub reused: u64,
    /// Annotations that found no slot.
    pub annotations_lost: u64,
}

impl Losses {
    pub(super) fn of(counters: &Counters, threads: &[ThreadEvents]) -> Self {
        let sum = |count: fn(&ThreadEvents) -> u64| threads.iter().map(count).fold(0, u64::saturating_add);
        Self {
            dropped: sum(|thread| thread.dropped),
            refused: sum(|thread| thread.refused),
            left: sum(|thread| thread.left),
            undescribed: counters.undescribed,
            sites_lost: counters.sites_lost,
            unplaced: counters.unplaced,
            threads_refused: counters.threads_refused,
            no_space: counters.no_space,
            reused: counters.reused,
            annotations_lost: counters.annotations_lost,
        }
    }

    /// What there is of them, one sentence each.
    pub fn words(&self) -> Vec<String> {
        let all = [
            (self.dropped, "events dropped: the ring of their thread was full"),
            (self.refused, "events refused: too many writers interrupted each other"),
            (self.left, "events never finished: a handler that interrupted them jumped elsewhere"),
            (self.undescribed, "events dropped: there was no room to say what they mean"),
            (self.sites_lost, "sites of events not described: there was no room"),
            (self.unplaced, "events dropped: their thread has no slot"),
            (self.threads_refused, "times a thread found no slot"),
            (self.no_space, "times a thread's ring found no memory, or no room on the disk"),
            (self.reused, "slots taken over from threads that had ended, whose events are gone"),
            (self.annotations_lost, "annotations dropped: all slots had other keys"),
        ];
        all.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}
