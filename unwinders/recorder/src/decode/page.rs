//! The records of a page.

use super::{bits, word, words};
use crate::layout::record::{LONGEST, POSITION_BITS, SITE_SHIFT, SUM_SHIFT, WORDS_SHIFT};
use crate::layout::{PAGE, Sum};
use core::ops::Range;

/// Bytes of a word, as positions count.
const WORD: u64 = 8;
/// The bits of a head that are its sum.
const SUM: u64 = 0xffff << SUM_SHIFT;

/// Goes through what a page of a ring holds: its records, and what is between them.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    bytes: &'a [u8],
    /// The position of its first byte.
    first: u64,
    at: u64,
    to: u64,
}

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A record whose sum is right.
    Record(Record<'a>),
    /// Bytes that are none: of a writer that was left in the middle, or damaged.
    Hole {
        /// Where they begin.
        position: u64,
        /// How many.
        bytes: u64,
    },
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it lies.
    pub position: u64,
    /// The number of its site.
    pub site: u16,
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// Its fields, words that only its site explains.
    pub fields: &'a [u8],
}

impl<'a> Page<'a> {
    /// The part of a page between two positions, of which the first says which page. What is missing at the end of `bytes`
    /// is not there.
    pub fn new(bytes: &'a [u8], positions: Range<u64>) -> Self {
        let first = positions.start & !(PAGE as u64 - 1);
        let end = first.saturating_add(bytes.len().min(PAGE) as u64);
        Self { bytes, first, at: positions.start, to: positions.end.min(end) }
    }

    /// Bytes of the record whose head is at a position, and itself where it is more than nothing.
    fn record(&self, position: u64) -> Option<(u64, Option<Record<'a>>)> {
        let rest = self.bytes.get(usize::try_from(position.checked_sub(self.first)?).ok()?..)?;
        let head = word(rest, 0)?;
        if (head ^ (position / WORD)) & ((1 << POSITION_BITS) - 1) != 0 {
            return None;
        }
        let (count, site) = (bits(head, WORDS_SHIFT, 8), u16::try_from(head >> SITE_SHIFT).ok()?);
        let length = WORD.checked_mul(count as u64)?;
        if count == 0 || count > LONGEST || length > self.to.checked_sub(position)? {
            return None;
        }
        let (sum, expected) = (Sum::of(head & !SUM), (head & SUM) >> SUM_SHIFT);
        if site == 0 {
            return (sum.value() == expected).then_some((length, None));
        }
        let body = rest.get(8..usize::try_from(length).ok()?)?;
        if words(body).fold(sum, Sum::and).value() != expected {
            return None;
        }
        let (time, fields) = (word(body, 0)?, body.get(8..)?);
        Some((length, Some(Record { position, site, time, fields })))
    }
}

impl<'a> Iterator for Page<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let mut hole = self.at;
        while self.at < self.to {
            let found = self.record(self.at);
            if found.is_some() && hole < self.at {
                break;
            }
            let length = found.map_or(WORD, |(length, _)| length);
            self.at = self.at.saturating_add(length).min(self.to);
            match found {
                Some((_, Some(record))) => return Some(Piece::Record(record)),
                Some((_, None)) => hole = self.at,
                None => {}
            }
        }
        (hole < self.at).then(|| Piece::Hole { position: hole, bytes: self.at.saturating_sub(hole) })
    }
}

#[cfg(test)]
mod tests;
