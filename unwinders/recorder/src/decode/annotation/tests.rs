use super::*;
use crate::Value;
use crate::layout::annotation::SIZE;
use std::vec;
use std::vec::Vec;

/// A slot with a key and no value.
fn slot(key: &str) -> Vec<u8> {
    let mut slot = vec![0; SIZE];
    slot[..8].copy_from_slice(&READY.to_le_bytes());
    slot[KEY..KEY + key.len()].copy_from_slice(key.as_bytes());
    slot
}

/// Puts a value into the cell of its ticket.
fn put(slot: &mut [u8], ticket: u32, kind: u64, length: u64, value: &[u8]) {
    let head = u64::from(ticket.wrapping_add(1)) | (value.len() as u64) << BYTES_SHIFT | kind << KIND_SHIFT;
    let mut padded = value.to_vec();
    padded.resize(value.len().next_multiple_of(8), 0);
    let sum = words(&padded).fold(Sum::of(head).and(length), Sum::and).value();
    let mut cell = (head | sum << SUM_SHIFT).to_le_bytes().to_vec();
    cell.extend(length.to_le_bytes());
    cell.extend(padded);
    let at = CELLS + ticket as usize % COUNT * CELL;
    slot[at..at + cell.len()].copy_from_slice(&cell);
    slot[TICKETS..TICKETS + 4].copy_from_slice(&(ticket + 1).to_le_bytes());
}

fn value(slot: &[u8]) -> Option<(Value<'_>, u64)> {
    Annotation::decode(slot).unwrap().value.map(|seen| (seen.value, seen.length))
}

#[test]
fn the_newest_value_counts() {
    let mut slot = slot("request");
    for (ticket, text) in ["one", "two", "three", "four", "five"].iter().enumerate() {
        put(&mut slot, u32::try_from(ticket).unwrap(), kind::TEXT, text.len() as u64, text.as_bytes());
    }
    assert_eq!(Annotation::decode(&slot).unwrap().key, "request");
    assert_eq!(Annotation::decode(&slot).unwrap().tickets, 5);
    assert_eq!(value(&slot), Some((Value::Text("five"), 4)));
}

#[test]
fn a_value_that_is_being_written_leaves_the_one_before() {
    let mut slot = slot("request");
    put(&mut slot, 0, kind::UNSIGNED, 8, &7_u64.to_le_bytes());
    put(&mut slot, 1, kind::TEXT, 300, b"the beginning");
    assert_eq!(value(&slot), Some((Value::Text("the beginning"), 300)));
    let (second, bits) = (CELLS + CELL, (VALUE + 16) * 8);
    for bit in 0..bits {
        let mut damaged = slot.clone();
        damaged[second + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(value(&damaged), Some((Value::Unsigned(7), 8)), "bit {bit}");
    }
}

#[test]
fn tickets_go_round() {
    let mut slot = slot("n");
    put(&mut slot, u32::MAX - 1, kind::SIGNED, 8, &1_i64.to_le_bytes());
    put(&mut slot, 0, kind::SIGNED, 8, &2_i64.to_le_bytes());
    assert_eq!(value(&slot), Some((Value::Signed(2), 8)));
}

#[test]
fn a_cell_in_anothers_place_is_none() {
    let mut slot = slot("n");
    put(&mut slot, 0, kind::BOOL, 8, &1_u64.to_le_bytes());
    slot.copy_within(CELLS..CELLS + CELL, CELLS + CELL);
    slot[CELLS] ^= 1;
    assert_eq!(value(&slot), None);
}

#[test]
fn a_slot_without_a_key_is_none_and_one_without_a_value_has_none() {
    assert_eq!(Annotation::decode(&[0; SIZE]), None);
    assert_eq!(value(&slot("k")), None);
    assert_eq!(Annotation::decode(&slot("k")[..KEY]), None);
}

#[test]
fn values_of_no_kind_are_none() {
    let mut slot = slot("k");
    put(&mut slot, 0, 9, 8, &[1; 8]);
    put(&mut slot, 1, kind::TEXT, 3, &[b'x'; 240]);
    assert_eq!(value(&slot).map(|(_, length)| length), Some(240));
    put(&mut slot, 1, kind::FLOAT, 8, &[]);
    assert_eq!(value(&slot), None);
}
