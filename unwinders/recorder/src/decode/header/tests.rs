use super::*;
use crate::Geometry;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

/// A copy as whoever starts a recorder writes it, but for these words.
fn copy(other: &[(usize, u64)]) -> Vec<u8> {
    let geometry = Geometry::new(3, SMALLEST_RING, 4096, 4).unwrap();
    let sizes = [geometry.size, geometry.annotations, geometry.annotation_slots, geometry.sites, geometry.sites_size];
    let more = [geometry.threads, geometry.thread_slots, geometry.rings, geometry.ring_size];
    let mut copy = vec![0; header::SIZE];
    copy[..16].copy_from_slice(&MAGIC);
    let mut put = |at: usize, word: u64| copy[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put(header::VERSION, u64::from(VERSION));
    sizes.iter().chain(&more).zip((header::FILE_SIZE..).step_by(8)).for_each(|(size, at)| put(at, *size as u64));
    [(header::PROCESS, 17), (header::MONOTONIC, 5), (header::REALTIME, 6), (header::PROGRAM_LENGTH, 4)]
        .into_iter()
        .chain(other.iter().copied())
        .for_each(|(at, word)| put(at, word));
    copy[header::PROGRAM..header::PROGRAM + 4].copy_from_slice(b"/bin");
    let sum = sum(&copy[..header::SUM]);
    copy[header::SUM..].copy_from_slice(&sum.to_le_bytes());
    copy
}

fn why(other: &[(usize, u64)]) -> std::string::String {
    Header::decode(&copy(other)).map_or_else(|refused| refused.to_string(), |_| "nothing".to_string())
}

#[test]
fn a_header_says_where_everything_lies() {
    let header = Header::decode(&copy(&[])).unwrap();
    assert_eq!((header.process, header.program(), header.monotonic, header.realtime), (17, "/bin", 5, 6));
    assert_eq!((header.annotations, header.sites, header.threads, header.rings), (4096, 12288, 16384, 20480));
    assert_eq!(header.file_size, 20480 + 3 * 32768);
    assert_eq!((header.slot(2), header.slot(3)), (Some(16384 + 256), None));
    assert_eq!((header.annotation(3), header.annotation(4)), (Some(4096 + 3 * 1088), None));
    assert_eq!((header.site(0), header.site(511), header.site(512)), (None, Some((16384 - 8, 8)), None));
    assert_eq!(header.page(1, 32768 + 4096 + 24), Some(20480 + 32768 + 4096));
    assert_eq!(header.page(3, 0), None);
}

#[test]
fn a_header_with_any_bit_changed_is_none_and_the_other_copy_counts() {
    let whole = copy(&[]);
    for bit in 0..header::SIZE * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        assert_eq!(Header::first_of([&damaged, &whole]), Header::decode(&whole));
    }
}

#[test]
fn of_two_copies_that_do_not_hold_the_one_that_says_more_is_named() {
    let other = copy(&[(header::VERSION, 7)]);
    assert_eq!(Header::first_of([&[], &other]), Err(Refused::Version(7)));
    assert_eq!(Header::first_of([&[0; 512], &[0; 100]]), Err(Refused::Magic));
    assert_eq!(Header::first_of([&MAGIC[..7], &[]]), Err(Refused::Short(7)));
    assert_eq!(Header::first_of([&[0; 7], &[]]), Err(Refused::Magic));
}

#[test]
fn parts_that_cannot_be_are_refused_whatever_their_sum() {
    assert_eq!(why(&[]), "nothing");
    assert_eq!(why(&[(header::ANNOTATIONS, 4088)]), "its annotations lie over what is before them");
    assert_eq!(why(&[(header::ANNOTATION_SLOTS, 8)]), "its sites lie over what is before them");
    assert_eq!(why(&[(header::SITES, 12289)]), "its sites lie over what is before them");
    assert_eq!(why(&[(header::SITES_SIZE, 4104)]), "its threads lie over what is before them");
    assert_eq!(why(&[(header::THREAD_SLOTS, 33)]), "its rings lie over what is before them");
    assert_eq!(why(&[(header::THREAD_SLOTS, u64::MAX)]), "its parts are larger than any file");
    assert_eq!(why(&[(header::RINGS, u64::MAX - 7)]), "its parts are larger than any file");
    assert_eq!(why(&[(header::FILE_SIZE, 20480 + 3 * 32768 - 1)]), "its parts do not end within the file");
    assert_eq!(why(&[(header::RING_SIZE, 20480)]), "its rings have a size that none has");
    assert_eq!(why(&[(header::RING_SIZE, 16384)]), "its rings have a size that none has");
    assert_eq!(why(&[(header::MODE, 2)]), "its mode is none");
    assert_eq!(why(&[(header::PROCESS, 1 << 32)]), "its process has no number");
    assert_eq!(why(&[(header::VERSION, 1 << 32 | 1)]), "its format has version 4294967297, and only 1 can be read");
}
