use super::*;
use crate::layout::{MAGIC, SMALLEST_RING, VERSION, header};
use std::vec;
use std::vec::Vec;

const SIZE: u64 = SMALLEST_RING as u64;
const PAGE_BYTES: u64 = PAGE as u64;

/// A slot with these words.
fn slot(words: &[(usize, u64)]) -> Slot {
    let mut bytes: Vec<u8> = vec![0; slot::SIZE];
    let named =
        [(slot::STATE, state::USED), (slot::OWNER, 17 << 32 | 18), (slot::NAME, u64::from_le_bytes(*b"worker\0x"))];
    for (at, word) in named.iter().chain(words) {
        bytes[*at..*at + 8].copy_from_slice(&word.to_le_bytes());
    }
    Slot::decode(&bytes).unwrap()
}

fn positions(base: u64, reserve: u64, commit: u64) -> Slot {
    slot(&[(slot::BASE, base), (slot::RESERVE, reserve), (slot::COMMIT, commit)])
}

/// A header of one thread.
fn of(mode: u64) -> Header {
    let mut copy = [0_u8; header::SIZE];
    copy[..16].copy_from_slice(&MAGIC);
    let page = PAGE_BYTES;
    let words = [(header::VERSION, u64::from(VERSION)), (header::FILE_SIZE, 2 * page + SIZE), (header::MODE, mode)];
    let parts =
        [(header::ANNOTATIONS, page), (header::SITES, page), (header::THREADS, page), (header::THREAD_SLOTS, 1)];
    let rings = [(header::RINGS, 2 * page), (header::RING_SIZE, SIZE)];
    for (at, word) in words.into_iter().chain(parts).chain(rings) {
        copy[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    let sum = crate::layout::sum(&copy[..header::SUM]);
    copy[header::SUM..].copy_from_slice(&sum.to_le_bytes());
    Header::decode(&copy).unwrap()
}

#[test]
fn a_slot_says_whose_it_is() {
    let slot = slot(&[(slot::NEST, 0x7ffd_1233), (slot::DROPPED, 4), (slot::LEFT, 5)]);
    assert_eq!((slot.pid, slot.tid, slot.name(), slot.is_used()), (17, 18, Some("worker"), true));
    assert_eq!((slot.writing, slot.dropped, slot.left), (3, 4, 5));
    assert_eq!(Slot::decode(&[0; 127]), None);
    assert_eq!(Slot::decode(&[0; 128]).and_then(|slot| slot.name().map(str::len)), None);
}

#[test]
fn a_ring_that_overwrites_shows_all_but_the_page_that_is_being_taken() {
    let header = of(mode::OVERWRITE);
    assert_eq!(positions(0, 0, 0).shown(&header), Ok(0..0));
    assert_eq!(positions(0, 96, 64).shown(&header), Ok(0..64));
    assert_eq!(positions(0, SIZE, SIZE).shown(&header), Ok(0..SIZE));
    assert_eq!(positions(0, SIZE + 8, SIZE).shown(&header), Ok(PAGE_BYTES..SIZE));
    assert_eq!(positions(SIZE, SIZE + 8, SIZE + 8).shown(&header), Ok(SIZE..SIZE + 8));
    assert_eq!(positions(0, 3 * SIZE, SIZE).shown(&header), Ok(SIZE..SIZE));
    assert_eq!(positions(0, 96, 64).open(&header), 32);
}

#[test]
fn a_ring_that_keeps_what_it_has_shows_its_beginning() {
    let header = of(mode::DROP_NEWEST);
    assert_eq!(positions(0, SIZE + 96, SIZE + 96).shown(&header), Ok(0..SIZE));
    assert_eq!(positions(SIZE, 2 * SIZE, SIZE + 64).shown(&header), Ok(SIZE..SIZE + 64));
    assert_eq!(positions(0, SIZE + 96, SIZE + 96).open(&header), 0);
    assert_eq!(positions(0, SIZE + 96, SIZE - 8).open(&header), 8);
}

#[test]
fn a_slot_that_nothing_was_committed_in_since_it_was_taken_over_shows_nothing() {
    assert_eq!(positions(PAGE_BYTES, PAGE_BYTES + 32, 64).shown(&of(mode::OVERWRITE)), Ok(64..64));
    assert_eq!(positions(PAGE_BYTES, PAGE_BYTES + 32, 64).open(&of(mode::OVERWRITE)), 32);
}

#[test]
fn positions_that_cannot_be_are_named() {
    let header = of(mode::OVERWRITE);
    assert_eq!(positions(0, 32, 64).shown(&header), Err(Unsound::Commit(64, 32)));
    assert_eq!(positions(64, 32, 32).shown(&header), Err(Unsound::Base(64, 32)));
    assert_eq!(positions(0, 33, 32).shown(&header), Err(Unsound::Unaligned(33)));
    assert_eq!(slot(&[(slot::STATE, 3)]).shown(&header), Err(Unsound::State(3)));
    let last = u64::MAX - 7;
    assert!(positions(0, last, last).shown(&header).is_ok_and(|shown| shown.end - shown.start <= SIZE));
    assert!(positions(last, last, last).shown(&of(mode::DROP_NEWEST)).is_ok());
}
