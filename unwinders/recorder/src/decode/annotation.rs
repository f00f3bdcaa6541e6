//! Annotations: a key, and the newest of its values that is whole.

use super::{Seen, WORD, bits, readable, until_zero, word, words};
use crate::layout::annotation::{
    CELL, CELLS, COUNT, HEAD, KEY, KEY_ROOM, LENGTH, READY, STATE, TICKETS, VALUE, VALUE_ROOM, belongs,
};
use crate::layout::{Sum, kind};

/// Where the sum lies in a cell's head.
const SUM_SHIFT: u32 = 32;
/// Where the number of bytes that are there lies.
const BYTES_SHIFT: u32 = 48;
/// Where the kind lies.
const KIND_SHIFT: u32 = 56;

/// An annotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Annotation<'a> {
    /// What is annotated.
    pub key: &'a str,
    /// How often it was.
    pub tickets: u64,
    /// Its newest value that is whole; nothing before the first, or where all cells are damaged.
    pub value: Option<Seen<'a>>,
    name: &'a [u8],
}

impl<'a> Annotation<'a> {
    /// Reads a slot; nothing where it has no key.
    pub fn decode(slot: &'a [u8]) -> Option<Self> {
        if word(slot, STATE)? != READY {
            return None;
        }
        let name = slot.get(KEY..)?.get(..KEY_ROOM)?;
        let key = readable(until_zero(name));
        let cells = slot.get(CELLS..)?.chunks_exact(CELL).take(COUNT).enumerate();
        let whole =
            cells.filter_map(|(index, cell)| decode_cell(cell).filter(|(ticket, _)| *ticket as usize % COUNT == index));
        // Tickets go round after 2^32.
        let newest = whole.reduce(|one, other| if other.0.wrapping_sub(one.0) < 1 << 31 { other } else { one });
        Some(Self { key, tickets: word(slot, TICKETS)?, value: newest.map(|(_, value)| value), name })
    }

    /// The slot, of so many, from which on its key is looked for.
    pub fn belongs(&self, slots: u64) -> u64 {
        belongs(words(self.name), slots)
    }
}

/// The ticket and the value of a cell whose sum is right.
fn decode_cell(cell: &[u8]) -> Option<(u32, Seen<'_>)> {
    let head = word(cell, HEAD)?;
    let (there, length) = (bits(head, BYTES_SHIFT, 8), word(cell, LENGTH)?);
    let room = cell.get(VALUE..)?.get(..VALUE_ROOM)?;
    let summed = room.get(..there.checked_next_multiple_of(WORD)?)?;
    let sum = words(summed).fold(Sum::of(head & !(0xffff << SUM_SHIFT)).and(length), Sum::and);
    if sum.value() != head >> SUM_SHIFT & 0xffff {
        return None;
    }
    let ticket = u32::try_from(head & u64::from(u32::MAX)).ok()?.checked_sub(1)?;
    let kind = head >> KIND_SHIFT;
    let seen = match kind {
        kind::TEXT => Seen::text(room.get(..there)?, length.max(there as u64)),
        _ => Seen::word(kind, word(summed, 0)?)?,
    };
    Some((ticket, seen))
}

#[cfg(test)]
mod tests;
