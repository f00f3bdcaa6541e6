//! Room for all threads to be asked to stand.

use surestack_capture::threads::{self, Room, Slot};

/// Threads that there is room for from the start.
const FIRST: usize = 4096;

/// Makes room for twice as many threads as there are, for ever. Allocates.
pub(crate) fn for_threads() {
    let running = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let wanted = running.saturating_mul(2).max(FIRST);
    let missing = wanted.saturating_sub(threads::room());
    if missing > 0 {
        let slots: Vec<Slot> = (0..missing).map(|_| Slot::empty()).collect();
        threads::add_room(Box::leak(Box::new(Room::of(Box::leak(slots.into_boxed_slice())))));
    }
}
