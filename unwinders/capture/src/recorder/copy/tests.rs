//! Arenas drawn by hand, and what is copied of them.

use super::*;
use core::cell::Cell;
use std::vec;
use std::vec::Vec;
use surestack_recorder::layout::SMALLEST_RING;
use surestack_walk::{Bytes, Error};

const BASE: u64 = 0x7f00_0000_0000;
const RING: usize = SMALLEST_RING;
const CRASHED: u64 = 7 << 32 | 71;

/// An arena in a vector.
struct Drawn {
    bytes: Vec<u8>,
    geometry: Geometry,
}

impl Drawn {
    fn new(threads: usize) -> Self {
        let geometry = Geometry::new(threads, RING, 4096, 3).unwrap();
        Self { bytes: vec![0; geometry.size], geometry }
    }

    fn word(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// A used slot, all of it committed, and the time of the first record of its last page.
    fn thread(&mut self, index: usize, owner: u64, base: u64, commit: u64, time: u64) {
        let at = self.geometry.threads + index * slot::SIZE;
        for (offset, value) in [(slot::STATE, state::USED), (slot::OWNER, owner), (slot::BASE, base)] {
            self.word(at + offset, value);
        }
        self.word(at + slot::RESERVE, commit);
        self.word(at + slot::COMMIT, commit);
        let page = usize::try_from((commit.max(1) - 1) % RING as u64).unwrap() / PAGE * PAGE;
        self.word(self.geometry.rings + index * RING + page + 8, time);
    }

    /// The pieces as offset and length, and what came of it.
    fn copied(&self) -> (Vec<(usize, usize)>, Result<u64, Unreadable>) {
        let memory = Bytes { address: BASE, bytes: &self.bytes };
        let (pieces, end) = copied(&memory, self.geometry);
        let same = |(at, bytes): &(usize, Vec<u8>)| self.bytes[*at..at + bytes.len()] == bytes[..];
        assert!(pieces.iter().all(same));
        (pieces.into_iter().map(|(at, bytes)| (at, bytes.len())).collect(), end)
    }
}

/// Offsets and what is there.
type Pieces = Vec<(usize, Vec<u8>)>;

fn copied(memory: &impl Memory, geometry: Geometry) -> (Pieces, Result<u64, Unreadable>) {
    let mut pieces = vec![];
    let put = |at, bytes: &[u8]| pieces.push((usize::try_from(at).unwrap(), bytes.to_vec()));
    let copying = Copying { memory, base: BASE, geometry };
    let end = copying.copy(&mut Order { crashed: CRASHED, has_time: || true, put });
    (pieces, end)
}

#[test]
fn the_crashed_thread_comes_first_with_two_pages_and_others_by_when_they_wrote_last_with_one() {
    let mut drawn = Drawn::new(5);
    let Geometry { annotations, sites, threads, rings, .. } = drawn.geometry;
    drawn.word(annotations + annotation::SIZE, annotation::READY);
    drawn.word(annotations + 2 * annotation::SIZE, annotation::CLAIMED);
    drawn.word(header::SITES_USED, 96);
    let page = PAGE as u64;
    // An earlier round, the second page of it and a bit; the end of the first page; nothing yet.
    drawn.thread(0, 7 << 32 | 72, 0, RING as u64 + page + 40, 500);
    drawn.thread(1, 7 << 32 | 73, 0, page, 900);
    drawn.thread(2, CRASHED, page, 3 * page + 8, 100);
    drawn.thread(4, 8 << 32 | 74, 64, 64, 300);
    let slot = |index: usize| (threads + index * slot::SIZE, slot::SIZE);
    let page = |index: usize, page: usize| (rings + index * RING + page * PAGE, PAGE);
    let expected = [
        (0, PAGE),
        (annotations + annotation::SIZE, annotation::SIZE),
        (sites, 104),
        slot(2),
        page(2, 3),
        page(2, 2),
        slot(1),
        page(1, 0),
        slot(0),
        page(0, 1),
        slot(4),
    ];
    assert_eq!(drawn.copied(), (expected.to_vec(), Ok(0)));
}

#[test]
fn a_ring_that_keeps_what_it_has_is_copied_at_its_end() {
    let mut drawn = Drawn::new(1);
    drawn.word(header::MODE, mode::DROP_NEWEST);
    let ring = RING as u64;
    drawn.thread(0, CRASHED, ring, 2 * ring + 4096, 0);
    let (pieces, end) = drawn.copied();
    let last = drawn.geometry.rings + RING - PAGE;
    assert_eq!((&pieces[3..], end), (&[(last, PAGE), (last - PAGE, PAGE)][..], Ok(0)));
}

#[test]
fn of_too_many_threads_the_newest_are_copied_and_the_others_counted() {
    let mut drawn = Drawn::new(OTHERS + 3);
    for index in 0..OTHERS + 3 {
        drawn.thread(index, 1 << 32 | index as u64, 0, 64, index as u64 + 1);
    }
    let (pieces, end) = drawn.copied();
    let place = |index: usize| drawn.geometry.threads + index * slot::SIZE;
    let slots: Vec<usize> = pieces.iter().filter(|(_, size)| *size == slot::SIZE).map(|(at, _)| *at).collect();
    assert_eq!((slots, end), ((3..OTHERS + 3).rev().map(place).collect(), Ok(3)));
}

#[test]
fn of_threads_for_which_there_is_no_time_the_number_is_kept() {
    let mut drawn = Drawn::new(2 * OFTEN);
    drawn.word(header::NEXT_THREAD, OFTEN as u64 + 9);
    for index in 0..OFTEN + 9 {
        drawn.thread(index, 1 << 32 | index as u64, 0, 64, 5);
    }
    drawn.thread(3, CRASHED, 0, 64, 5);
    let memory = Bytes { address: BASE, bytes: &drawn.bytes };
    let copying = Copying { memory: &memory, base: BASE, geometry: drawn.geometry };
    let mut slots = 0;
    let put = |_, bytes: &[u8]| slots += usize::from(bytes.len() == slot::SIZE);
    let end = copying.copy(&mut Order { crashed: CRASHED, has_time: || false, put });
    // The crashed thread alone, and none of those that were seen or not looked at.
    assert_eq!((end, slots), (Ok(OFTEN as u64 + 8), 1));
}

#[test]
fn memory_that_ends_ends_the_copy_and_says_where() {
    let mut drawn = Drawn::new(2);
    drawn.thread(0, 1 << 32 | 1, 0, 64, 5);
    drawn.thread(1, CRASHED, 0, 64, 5);
    // The file was cut short in the middle of its rings.
    drawn.bytes.truncate(drawn.geometry.rings + PAGE);
    let (pieces, end) = copied(&Bytes { address: BASE, bytes: &drawn.bytes }, drawn.geometry);
    let crashed = drawn.geometry.rings + RING;
    assert_eq!(end, Err(Unreadable(as_word(crashed))));
    assert_eq!(pieces.last().unwrap().0, drawn.geometry.threads + slot::SIZE);
    assert_eq!(copied(&Bytes { address: BASE, bytes: &[] }, drawn.geometry).1, Err(Unreadable(0)));
}

/// An arena whose only thread writes whenever it is looked at.
struct Written<'d> {
    drawn: &'d Drawn,
    commit: Cell<u64>,
    step: u64,
}

impl Memory for Written<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        Bytes { address: BASE, bytes: &self.drawn.bytes }.read(address, into)?;
        let slot = BASE + as_word(self.drawn.geometry.threads);
        for offset in [slot::RESERVE, slot::COMMIT] {
            let at = slot + as_word(offset);
            let within = at.checked_sub(address).and_then(|within| into.get_mut(usize::try_from(within).ok()?..));
            if let Some(word) = within.and_then(|rest| rest.first_chunk_mut()) {
                *word = self.commit.get().to_le_bytes();
                self.commit.set(self.commit.get() + self.step);
            }
        }
        Ok(())
    }
}

#[test]
fn a_thread_that_writes_meanwhile_has_committed_no_more_than_was_read_first() {
    let mut drawn = Drawn::new(1);
    drawn.thread(0, CRASHED, 0, 64, 5);
    let (pieces, end) = copied(&Written { drawn: &drawn, commit: Cell::new(64), step: 64 }, drawn.geometry);
    let slot = &pieces.iter().find(|(at, _)| *at == drawn.geometry.threads).unwrap().1;
    let word = |at: usize| u64::from_le_bytes(*slot[at..].first_chunk().unwrap());
    assert_eq!((word(slot::COMMIT), word(slot::RESERVE), end), (128, 192, Ok(0)));
}

#[test]
fn a_page_that_was_overwritten_meanwhile_is_not_put() {
    let mut drawn = Drawn::new(1);
    drawn.thread(0, CRASHED, 0, 64, 5);
    let memory = Written { drawn: &drawn, commit: Cell::new(64), step: RING as u64 / 2 };
    let (pieces, _) = copied(&memory, drawn.geometry);
    assert_eq!(pieces.iter().filter(|(at, _)| *at >= drawn.geometry.rings).count(), 0, "{:?}", pieces.last());
}
