use super::*;
use std::vec;
use std::vec::Vec;

/// The words of a record, with its sum.
fn record(position: u64, site: u16, words: &[u64]) -> Vec<u64> {
    let count = words.len() as u64 + 1;
    let head = (position / 8) & 0xff_ffff | count << WORDS_SHIFT | u64::from(site) << SITE_SHIFT;
    let sum = words.iter().fold(Sum::of(head), |sum, word| sum.and(*word)).value();
    let mut all = vec![head | sum << SUM_SHIFT];
    all.extend(words);
    all
}

/// Room that was reserved and filled with nothing.
fn nothing(position: u64, count: u64) -> Vec<u64> {
    let head = (position / 8) & 0xff_ffff | count << WORDS_SHIFT;
    let mut all = vec![0x5555; count as usize];
    all[0] = head | Sum::of(head).value() << SUM_SHIFT;
    all
}

fn page(parts: &[Vec<u64>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = parts.concat().into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.resize(PAGE, 0);
    bytes
}

/// What is found: records by site and time, holes by their size.
fn found(bytes: &[u8], positions: Range<u64>) -> Vec<(u64, u64, u64)> {
    let each = |piece| match piece {
        Piece::Record(record) => (record.position, u64::from(record.site), record.time),
        Piece::Hole { position, bytes } => (position, 0, bytes),
    };
    Page::new(bytes, positions).map(each).collect()
}

#[test]
fn records_come_in_order_and_nothing_between_them_is_left_out() {
    let at = 5 * PAGE as u64;
    let bytes = page(&[record(at, 1, &[100]), nothing(at + 16, 3), record(at + 40, 2, &[200, 7])]);
    assert_eq!(found(&bytes, at..at + 64), [(at, 1, 100), (at + 40, 2, 200)]);
}

#[test]
fn fields_are_the_words_behind_the_time() {
    let bytes = page(&[record(0, 1, &[100, 7, 8])]);
    let fields: Vec<u8> = [7_u64, 8].into_iter().flat_map(u64::to_le_bytes).collect();
    let expected = Piece::Record(Record { position: 0, site: 1, time: 100, fields: &fields });
    assert_eq!(Page::new(&bytes, 0..32).collect::<Vec<_>>(), [expected]);
}

#[test]
fn what_was_never_finished_is_a_hole_and_what_is_behind_it_is_found() {
    let bytes = page(&[record(0, 1, &[100]), vec![0, 0xdead, 0xbeef], record(40, 2, &[200])]);
    assert_eq!(found(&bytes, 0..56), [(0, 1, 100), (16, 0, 24), (40, 2, 200)]);
}

#[test]
fn a_record_of_an_earlier_round_is_none() {
    let bytes = page(&[record(0, 1, &[100])]);
    let at = 8 * PAGE as u64;
    assert_eq!(found(&bytes, at..at + 16), [(at, 0, 16)]);
}

#[test]
fn a_record_with_any_bit_changed_is_a_hole() {
    let whole = page(&[record(0, 1, &[100, 7]), record(24, 2, &[200])]);
    for bit in 0..24 * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(found(&bytes, 0..40), [(0, 0, 24), (24, 2, 200)], "bit {bit}");
    }
}

#[test]
fn nothing_above_the_end_is_shown_nor_what_reaches_over_it() {
    let bytes = page(&[record(0, 1, &[100]), record(16, 2, &[200, 7])]);
    assert_eq!(found(&bytes, 0..32), [(0, 1, 100), (16, 0, 16)]);
    assert_eq!(found(&bytes, 0..16), [(0, 1, 100)]);
}

#[test]
fn a_record_does_not_cross_its_page() {
    let mut bytes = vec![0; PAGE - 16];
    bytes.extend(record(PAGE as u64 - 16, 1, &[100, 7]).into_iter().flat_map(u64::to_le_bytes));
    assert_eq!(found(&bytes, PAGE as u64 - 16..2 * PAGE as u64), [(PAGE as u64 - 16, 0, 16)]);
}

#[test]
fn a_page_that_ends_early_is_read_to_its_end() {
    let mut bytes = page(&[record(0, 1, &[100]), record(16, 2, &[200])]);
    bytes.truncate(28);
    assert_eq!(found(&bytes, 0..32), [(0, 1, 100), (16, 0, 12)]);
}

#[test]
fn positions_at_the_end_of_all_numbers_end() {
    assert_eq!(found(&[0; PAGE], u64::MAX - 7..u64::MAX), [(u64::MAX - 7, 0, 7)]);
}
