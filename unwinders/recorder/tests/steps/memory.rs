//! A recorder in memory that outlives who writes into it, and what it holds.

use crate::stepping::Counts;
use std::ops::Deref;
use surestack_recorder::decode::{Annotation, Counters, Header, Page, Piece, Seen, Site, Slot};
use surestack_recorder::layout::{MAGIC, PAGE, VERSION, annotation, header, mode, slot, sum};
use surestack_recorder::{Geometry, Value};

/// Of one recorder after the other.
pub struct Memory {
    base: Shared,
    pub geometry: Geometry,
}

/// Where memory is that processes share.
#[derive(Clone, Copy)]
struct Shared(*mut u8);

// SAFETY: no more than an address.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// What a thread wrote.
pub struct Thread {
    pub slot: Slot,
    /// Bytes that were taken and not committed.
    pub open: u64,
    pub events: Vec<Event>,
    /// Bytes that are no record.
    pub holes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub fields: Vec<Field>,
}

/// What a value says.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    Number(u64),
    Signed(i64),
    Float(f64),
    Text(String, u64),
}

impl Field {
    fn of(seen: &Seen<'_>) -> Self {
        match seen.value {
            Value::Unsigned(value) => Self::Number(value),
            Value::Signed(value) => Self::Signed(value),
            Value::Float(value) => Self::Float(value),
            Value::Text(text) => Self::Text(text.to_owned(), seen.length),
            other => panic!("{other:?}"),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped, and whoever writes has ended when it is read.
        unsafe { std::slice::from_raw_parts(self.base.0, self.geometry.size) }
    }
}

/// New memory, which processes that are made from now on share.
fn map(size: usize) -> *mut u8 {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: takes memory from nobody.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size, access, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    base.cast()
}

/// Counters that processes share.
pub fn shared() -> &'static Counts {
    // SAFETY: new memory, zeros, which are counters; never unmapped.
    unsafe { &*map(size_of::<Counts>()).cast() }
}

impl Memory {
    /// Room for so many threads.
    pub fn new(threads: usize) -> Self {
        let geometry = Geometry::new(threads, 8 * PAGE, PAGE, 8).unwrap();
        Self { base: Shared(map(geometry.size)), geometry }
    }

    pub fn base(&self) -> *mut u8 {
        self.base.0
    }

    /// Nothing but a header.
    pub fn begin(&mut self) {
        let Geometry { size, annotations, annotation_slots, sites, sites_size, .. } = self.geometry;
        let Geometry { threads, thread_slots, rings, ring_size, .. } = self.geometry;
        // SAFETY: mapped, and nobody else has it now.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.base.0, size) };
        bytes.fill(0);
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        let numbers = [
            (header::VERSION, VERSION as usize),
            (header::FILE_SIZE, size),
            (header::ANNOTATIONS, annotations),
            (header::ANNOTATION_SLOTS, annotation_slots),
            (header::SITES, sites),
            (header::SITES_SIZE, sites_size),
            (header::THREADS, threads),
            (header::THREAD_SLOTS, thread_slots),
            (header::RINGS, rings),
            (header::RING_SIZE, ring_size),
            (header::MODE, mode::OVERWRITE as usize),
        ];
        for (at, number) in numbers {
            bytes[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
        }
        let sum = sum(&bytes[..header::SUM]);
        bytes[header::SUM..header::SUM + 8].copy_from_slice(&sum.to_le_bytes());
    }

    /// What it was before.
    pub fn put_back(&self, bytes: &[u8]) {
        // SAFETY: as many bytes as are mapped; who else has this memory waits or has ended.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.0, bytes.len().min(self.geometry.size)) };
    }

    pub fn counters(&self) -> Counters {
        Counters::decode(self).unwrap()
    }

    /// The value of a key. Two that began with it at once may have a slot each, and one of them no value yet.
    pub fn value(&self, key: &str) -> Option<Field> {
        let slots = &self[self.geometry.annotations..self.geometry.sites];
        let found = slots.chunks_exact(annotation::SIZE).filter_map(Annotation::decode);
        found.filter(|found| found.key == key).find_map(|found| found.value.as_ref().map(Field::of))
    }

    /// The threads that have a slot.
    ///
    /// # Errors
    /// Where a slot cannot be, or an event has no description.
    pub fn threads(&self) -> Result<Vec<Thread>, String> {
        let header = Header::decode(self).map_err(|refused| refused.to_string())?;
        let slots = self[self.geometry.threads..].chunks_exact(slot::SIZE).take(self.geometry.thread_slots);
        let used = slots.map(|slot| Slot::decode(slot).unwrap()).enumerate().filter(|(_, slot)| slot.is_used());
        used.map(|(index, slot)| self.thread(&header, index as u64, slot)).collect()
    }

    fn thread(&self, header: &Header, index: u64, slot: Slot) -> Result<Thread, String> {
        let shown = slot.shown(header).map_err(|unsound| format!("slot {index}: {unsound}"))?;
        let mut thread = Thread { slot, open: slot.open(header), events: vec![], holes: 0 };
        let mut at = shown.start;
        while at < shown.end {
            let next = (at / PAGE as u64 + 1) * PAGE as u64;
            let page = header.page(index, at).ok_or("no such page")? as usize;
            for piece in Page::new(&self[page..page + PAGE], at..next.min(shown.end)) {
                match piece {
                    Piece::Hole { bytes, .. } => thread.holes += bytes,
                    Piece::Record(record) => {
                        let place = self.geometry.sites + usize::from(record.site) * 8;
                        let site = self.get(place..self.geometry.sites + self.geometry.sites_size);
                        let site: Site<'_> = site.and_then(Site::decode).ok_or("an event without a description")?;
                        let fields: Vec<Field> = site.kinds.fields(&record).map(|seen| Field::of(&seen)).collect();
                        if fields.len() != site.names().count() {
                            return Err(format!("{} of {} fields", fields.len(), site.names().count()));
                        }
                        thread.events.push(Event { name: site.event.to_owned(), fields });
                    }
                }
            }
            at = next;
        }
        Ok(thread)
    }
}
