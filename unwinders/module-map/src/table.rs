//! One copy of the table: a sorted list of words that are each read and written whole.

use crate::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, constant};
use crate::{Found, Record};
use core::ptr;

/// A place for one module. What it holds is only looked at while the latch says so.
#[derive(Debug)]
pub struct Slot {
    start: AtomicU64,
    end: AtomicU64,
    /// Null, or a record that lives as long as the process.
    record: AtomicPtr<Record>,
}

impl Slot {
    constant! {
        /// A place that holds nothing.
        pub fn empty() -> Self {
            Self { start: AtomicU64::new(0), end: AtomicU64::new(0), record: AtomicPtr::new(ptr::null_mut()) }
        }
    }

    fn put(&self, record: &'static Record) {
        self.start.store(record.start, Ordering::Relaxed);
        self.end.store(record.end, Ordering::Relaxed);
        // Release: the record was made before; whoever sees the pointer sees what it points at.
        self.record.store(ptr::from_ref(record).cast_mut(), Ordering::Release);
    }

    fn record(&self) -> Option<&'static Record> {
        let record = self.record.load(Ordering::Acquire);
        // SAFETY: only `put` writes the pointer, of a reference that is good as long as the process.
        unsafe { record.as_ref() }
    }
}

/// Places for modules. The length is fixed, and goes with the list: it is never read beyond its end, whatever count is read
/// beside it.
#[derive(Debug)]
pub struct Slots(pub &'static [Slot]);

/// One copy.
#[derive(Debug)]
pub(crate) struct Table {
    slots: AtomicPtr<Slots>,
    count: AtomicUsize,
}

impl Table {
    constant! {
        pub fn new(slots: &'static Slots) -> Self {
            Self { slots: AtomicPtr::new(ptr::from_ref(slots).cast_mut()), count: AtomicUsize::new(0) }
        }
    }

    fn slots(&self) -> &'static [Slot] {
        let slots = self.slots.load(Ordering::Acquire);
        // SAFETY: only `new` and `move_to` write the pointer, of references that are good as long as the process.
        unsafe { slots.as_ref() }.map_or(&[], |slots| slots.0)
    }

    pub fn room(&self) -> usize {
        self.slots().len()
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed).min(self.room())
    }

    /// The module that covers `address`.
    pub fn find(&self, address: u64) -> Option<Found> {
        let slots = self.slots();
        let count = self.count.load(Ordering::Relaxed).min(slots.len());
        let (mut low, mut high) = (0usize, count);
        while low < high {
            let middle = low.midpoint(high);
            let start = slots.get(middle)?.start.load(Ordering::Relaxed);
            if start <= address { low = middle.saturating_add(1) } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        let slot = slots.get(index)?;
        if address >= slot.end.load(Ordering::Relaxed) {
            return None;
        }
        slot.record().map(|record| Found { index, record })
    }

    /// The module at a position.
    pub fn at(&self, index: usize) -> Option<&'static Record> {
        self.slots().get(..self.count())?.get(index)?.record()
    }

    /// Writes as many records as there is room for.
    pub fn write(&self, records: &[&'static Record]) -> usize {
        let slots = self.slots();
        let written = slots.iter().zip(records).map(|(slot, record)| slot.put(record)).count();
        self.count.store(written, Ordering::Relaxed);
        written
    }

    /// Takes another list, with what is in this one.
    pub fn move_to(&self, list: &'static Slots) -> usize {
        let count = self.count();
        let kept = self.slots().iter().take(count).filter_map(Slot::record);
        let moved = kept.zip(list.0).map(|(record, to)| to.put(record)).count();
        self.slots.store(ptr::from_ref(list).cast_mut(), Ordering::Release);
        self.count.store(moved, Ordering::Relaxed);
        moved
    }
}
