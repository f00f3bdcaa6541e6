//! Hostile recorders: whole ones, damaged, and read as `surestack recorder` does.
//!
//! What must hold: the reader comes back within a number of reads; a thread whose slot, pages and sites nobody touched is
//! read as it was; so is every event on a page that nobody touched. What cannot hold: that no damaged record is taken for
//! another, since its sum has 16 bits. How often that is seen is one of the outcomes.

mod base;

use crate::Fuzzed;
use crate::random::Random;
pub use base::real;
use base::{Base, seal};
use std::cell::Cell;
use std::io::sink;
use std::ops::Range;
use surestack::recorder::{Event, Follow, Recording, Source, ThreadEvents, json, text};
use surestack_recorder::layout::{PAGE, header, slot};

/// Reads of a source that any of these files may take: a page and a slot for each page of its rings, several times, and for
/// each slot that a forged header can have in a file of this size.
const READS: u64 = 20_000;

/// Recorders to be damaged.
pub struct Recorders {
    bases: Vec<Base>,
}

/// A damaged recorder, and what was changed.
struct Damaged {
    bytes: Vec<u8>,
    touched: Vec<Range<usize>>,
    /// A copy of the header was changed and its sum made right, so that anything may be read.
    forged: bool,
    /// Pages were copied whole, so that records are where others were.
    spliced: bool,
}

/// Bytes whose reads are counted.
struct Counted<'b> {
    bytes: &'b [u8],
    reads: Cell<u64>,
}

impl Source for Counted<'_> {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < READS, "too many reads");
        self.bytes.read(offset, into)
    }

    fn size(&self) -> Option<u64> {
        self.bytes.size()
    }
}

impl Recorders {
    /// Those of this process.
    pub fn new() -> Self {
        Self { bases: base::all() }
    }
}

impl Fuzzed for Recorders {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let base = random.one(&self.bases);
        let mut damaged = Damaged { bytes: base.bytes.clone(), touched: vec![], forged: false, spliced: false };
        for _ in 0..=random.below(4) {
            damaged.mutate(base, &random.one(&self.bases).bytes, random);
        }
        let counted = Counted { bytes: &damaged.bytes, reads: Cell::new(0) };
        let Ok(found) = Recording::read(&counted) else {
            assert!(header::COPIES.iter().all(|copy| damaged.touches(*copy..copy + header::SIZE)), "a copy is whole");
            return "refused";
        };
        if random.once_in(16) {
            print(&found);
            counted.reads.set(0);
            let mut follow = Follow::new(&counted).expect("it was read");
            assert_eq!(follow.come().len() + follow.rest().len(), found.merged().len());
        }
        if damaged.forged {
            return "forged";
        }
        let false_events: usize = base
            .recording
            .threads
            .iter()
            .map(|expected| {
                let found = found.threads.iter().find(|thread| thread.slot == expected.slot);
                damaged.compare(base, expected, found)
            })
            .sum();
        match (false_events, damaged.spliced, found.damage.is_empty()) {
            (1.., false, _) => "read, with an event that never was",
            (_, _, true) => "read, no damage",
            _ => "read, with damage",
        }
    }
}

/// As `surestack recorder` prints it.
fn print(found: &Recording) {
    let shown = found.merged();
    text::head(&mut sink(), &found.header, &found.annotations).expect("nowhere to fail");
    text::events(&mut sink(), found, &shown).expect("nowhere to fail");
    text::tail(&mut sink(), &found.threads, &found.losses, &found.damage).expect("nowhere to fail");
    serde_json::to_writer(sink(), &json::document(found, &shown)).expect("nowhere to fail");
}

impl Damaged {
    fn touches(&self, range: Range<usize>) -> bool {
        self.touched.iter().any(|touched| touched.start < range.end && range.start < touched.end)
    }

    /// One of several kinds of damage.
    fn mutate(&mut self, base: &Base, other: &[u8], random: &mut Random) {
        let part = self.part(base, random);
        match random.below(16) {
            0 => {
                let size = if random.once_in(2) {
                    part.start + random.index(part.len())
                } else {
                    random.index(self.bytes.len())
                };
                self.touched.push(size..base.bytes.len());
                self.bytes.truncate(size);
            }
            1 | 2 => {
                let pages = base.bytes.len() / PAGE;
                let (from, to) = (random.index(pages) * PAGE, random.index(pages) * PAGE);
                let page = &other[from..from + PAGE];
                self.put(to, page);
                self.spliced = true;
                self.forged |= to == 0;
            }
            3 => {
                let copy = *random.one(&header::COPIES);
                let word = copy + 16 + random.index(12) * 8;
                let value = self.hostile(random);
                self.put(word, &value.to_le_bytes());
                seal(&mut self.bytes, copy);
                self.forged = true;
            }
            4..=9 => {
                let value = self.hostile(random);
                self.put(part.start + random.index(part.len() / 8) * 8, &value.to_le_bytes());
            }
            _ => {
                for _ in 0..=random.below(6) {
                    let at = part.start + random.index(part.len());
                    if let Some(byte) = self.bytes.get(at).copied() {
                        self.put(at, &[byte ^ 1 << random.below(8)]);
                    }
                }
            }
        }
    }

    /// Where to damage: each part of the file is as likely as the others, whatever its size.
    fn part(&self, base: &Base, random: &mut Random) -> Range<usize> {
        let header = &base.recording.header;
        let [annotations, sites, threads, rings] =
            [header.annotations, header.sites, header.threads, header.rings].map(|at| at as usize);
        let used = base.sites.iter().map(|(_, range)| range.end).max().unwrap_or(threads);
        let parts = [
            0..header::SIZE,
            header::COPIES[1]..header::COPIES[1] + header::SIZE,
            header::PROCESSES..header::END,
            annotations..sites,
            sites..used,
            threads..threads + header.thread_slots as usize * slot::SIZE,
            rings..base.bytes.len(),
            rings..base.bytes.len(),
        ];
        random.one(&parts).clone()
    }

    /// A word that breaks positions, sizes and counts.
    fn hostile(&self, random: &mut Random) -> u64 {
        match random.below(5) {
            0 => random.number(),
            1 => 1 << random.below(64),
            2 => random.below(self.bytes.len() as u64 + 1) & !7,
            3 => u64::MAX - random.below(4096),
            _ => random.below(64),
        }
    }

    /// Writes what fits.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.touched.push(at..at + bytes.len());
        }
    }

    /// That what is intact is there; says how many events are there that never were.
    fn compare(&self, base: &Base, expected: &ThreadEvents, found: Option<&ThreadEvents>) -> usize {
        let header = &base.recording.header;
        let at = header.slot(expected.slot).expect("its slot") as usize;
        if self.touches(at..at + slot::SIZE) {
            return 0;
        }
        let found = found.expect("a thread whose slot is whole");
        let page = |event: &Event| header.page(expected.slot, event.position).expect("its page") as usize;
        let untouched = |event: &Event| {
            let mut sites = base.sites.iter().filter(|(name, _)| **name == *event.name);
            sites.all(|(_, range)| !self.touches(range.clone())) && !self.touches(page(event)..page(event) + PAGE)
        };
        if expected.events.iter().all(untouched) {
            assert_eq!(expected, found);
            return 0;
        }
        let key = |event: &Event| (event.time, event.position);
        for event in expected.events.iter().filter(|event| untouched(event)) {
            let place = found.events.binary_search_by_key(&key(event), key).expect("an event on a page that is whole");
            assert_eq!(*event, found.events[place]);
        }
        let is_new = |event: &&Event| expected.events.binary_search_by_key(&key(event), key).is_err();
        found.events.iter().filter(is_new).count()
    }
}
