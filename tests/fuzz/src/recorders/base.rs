//! Recorders that are whole, small, and known: one that overwrites, of the real writer, and one that keeps its beginning,
//! whose rings are written by the protocol over memory of its own.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;
use surestack::recorder::{Options, Recording, Value, annotate, event, start};
use surestack_recorder::decode::{Header, Site, Slot};
use surestack_recorder::layout::{header, mode, record, slot, sum};
use surestack_recorder::ring::{Ring, Word, write};

/// A recorder, what is read of it, and where in its bytes each event's meaning lies.
pub struct Base {
    pub bytes: Vec<u8>,
    pub recording: Recording,
    pub sites: Vec<(String, Range<usize>)>,
}

impl Base {
    fn of(bytes: Vec<u8>) -> Self {
        let recording = Recording::read(&bytes.as_slice()).expect("a whole recorder");
        assert!(recording.damage.is_empty(), "{:?}", recording.damage);
        let (begin, size) = (recording.header.sites as usize, recording.header.sites_size as usize);
        let sites = (begin..begin + size).step_by(8).filter_map(|at| {
            let site = Site::decode(&bytes[at..begin + size])?;
            let size = Site::bytes(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?))?;
            Some((site.event.to_owned(), at..at + size))
        });
        let sites = sites.collect();
        Self { bytes, recording, sites }
    }
}

/// Both.
pub fn all() -> Vec<Base> {
    let kept = kept(real());
    vec![Base::of(real().to_vec()), Base::of(kept)]
}

/// What this process records, once, in three threads, of which one comes round several times and one writes little.
pub fn real() -> &'static [u8] {
    static REAL: OnceLock<Vec<u8>> = OnceLock::new();
    REAL.get_or_init(recorded)
}

fn recorded() -> Vec<u8> {
    let options = Options::memory().threads(3).ring_size(32 << 10).sites_size(2048).annotations(4);
    let started = start(options).expect("a recorder is started once");
    annotate("version", "4.2.1");
    for number in 0..6 {
        annotate("requests", number);
    }
    let long = "a text that takes room, so that there are not too many of them ".repeat(3);
    (0..600).for_each(|index| event!(info: "round", index = index, text = &*long));
    let few = || (0..40).for_each(|index| event!("few", index = index, share = 0.5, name = "ä", is = index % 2 == 0));
    std::thread::spawn(few).join().expect("a thread");
    let other = || event!(error: "once", at = Value::Address(0x7f00_1234), below = -1, text = "\x1b[2J");
    std::thread::spawn(other).join().expect("a thread");
    std::fs::read(started.path()).expect("its memory can be read")
}

/// The same with rings that are full and kept.
fn kept(real: &[u8]) -> Vec<u8> {
    let mut bytes = real.to_vec();
    for copy in header::COPIES {
        bytes[copy + header::MODE..][..8].copy_from_slice(&mode::DROP_NEWEST.to_le_bytes());
        seal(&mut bytes, copy);
    }
    let header = Header::decode(&bytes).expect("its header");
    let sites: Vec<_> = Base::of(real.to_vec()).sites;
    let once = sites.iter().find(|(name, _)| name == "once").map(|(_, range)| range.start).expect("a site");
    let site = u16::try_from((once - header.sites as usize) / 8).expect("its number");
    for index in 0..2 {
        let at = header.slot(index).expect("a slot") as usize;
        let zero = [slot::BASE, slot::RESERVE, slot::COMMIT, slot::NEST, slot::LEFT, slot::DROPPED];
        zero.iter().for_each(|word| bytes[at + word..][..8].fill(0));
        let ring = header.page(index, 0).expect("a ring") as usize;
        bytes[ring..ring + header.ring_size as usize].fill(0);
        let drawn = Drawn { bytes: RefCell::new(bytes), slot: at, ring, size: header.ring_size };
        for time in 1..1500 {
            // Address, number, and a text of eight bytes.
            let words = [header.monotonic + time * 1000, time, !time, 8 | 8 << 32, time];
            let written = write(&drawn, 0x7000, site, 1 + words.len(), |filler| {
                words.into_iter().for_each(|word| filler.put(word));
            });
            if written.is_err() {
                break;
            }
        }
        bytes = drawn.bytes.into_inner();
        let slot = Slot::decode(&bytes[at..]).expect("a slot");
        assert!(slot.reserve >= record::LONGEST as u64);
    }
    bytes
}

/// Makes the sum of a copy of the header right.
pub fn seal(bytes: &mut [u8], copy: usize) {
    let Some(copy) = bytes.get_mut(copy..copy + header::SIZE) else { return };
    let (fixed, end) = copy.split_at_mut(header::SUM);
    end.copy_from_slice(&sum(fixed).to_le_bytes());
}

/// A ring in a recorder's bytes.
struct Drawn {
    bytes: RefCell<Vec<u8>>,
    slot: usize,
    ring: usize,
    size: u64,
}

impl Drawn {
    fn at(&self, word: Word) -> usize {
        self.slot
            + match word {
                Word::Reserve => slot::RESERVE,
                Word::Commit => slot::COMMIT,
                Word::Nest => slot::NEST,
                Word::Dropped => slot::DROPPED,
                Word::Refused => slot::REFUSED,
                Word::Left => slot::LEFT,
            }
    }

    fn set(&self, at: usize, value: u64) {
        self.bytes.borrow_mut()[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

impl Ring for Drawn {
    fn load(&self, word: Word) -> u64 {
        let at = self.at(word);
        self.bytes.borrow()[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
    }

    fn store(&self, word: Word, value: u64) {
        self.set(self.at(word), value);
    }

    fn add(&self, word: Word, value: u64) -> u64 {
        let old = self.load(word);
        self.store(word, old + value);
        old
    }

    fn publish(&self, word: Word, value: u64) {
        self.store(word, value);
    }

    fn taken(&self) {}

    fn put(&self, position: u64, value: u64) {
        self.set(self.ring + (position % self.size) as usize, value);
    }

    fn finish(&self, position: u64, head: u64) {
        self.put(position, head);
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn mode(&self) -> u64 {
        mode::DROP_NEWEST
    }

    fn base(&self) -> u64 {
        0
    }

    fn is_left(&self, _: u64, _: u64) -> bool {
        false
    }
}
