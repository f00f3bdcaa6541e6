//! What a reader makes of a ring: written after the format's description, and not after the writer.

use surestack_recorder::layout::{PAGE, Sum, mode, record};

/// What is known of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes.
    pub size: u64,
    /// What happens where it is full.
    pub mode: u64,
    /// Where it begins.
    pub base: u64,
}

/// What a ring has between two positions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records, each with where it lies. Those of nothing are not among them.
    pub records: Vec<(u64, Vec<u64>)>,
    /// Words that are in no record.
    pub holes: Vec<u64>,
}

impl Shape {
    /// Positions that may be read.
    pub fn valid(&self, reserve: u64, commit: u64) -> std::ops::Range<u64> {
        let page = PAGE as u64;
        match self.mode {
            mode::OVERWRITE => self.base.max((reserve / page * page + page).saturating_sub(self.size))..commit,
            _ => self.base..commit.min(self.base + self.size),
        }
    }

    /// Which word of the ring has a position.
    pub fn cell(&self, position: u64) -> usize {
        (position % self.size / 8) as usize
    }
}

/// How many words a head at a position says, where it is one: what it says of its sum is not looked at here.
pub fn length(head: u64, position: u64) -> Option<usize> {
    let words = (head >> record::WORDS_SHIFT & 0xff) as usize;
    let here = (head ^ (position / 8)) & ((1 << record::POSITION_BITS) - 1) == 0;
    let inside = position % PAGE as u64 + words as u64 * 8 <= PAGE as u64;
    (here && inside && words > 0).then_some(words)
}

/// Whether the words of a record have the sum that its head says.
pub fn is_sum_right(words: &[u64]) -> bool {
    let Some((head, rest)) = words.split_first() else { return false };
    let nothing = head >> record::SITE_SHIFT == 0;
    let rest = if nothing { &[] } else { rest };
    let sum = rest.iter().fold(Sum::of(head & !(0xffff << record::SUM_SHIFT)), |sum, word| sum.and(*word)).value();
    head >> record::SUM_SHIFT & 0xffff == sum
}

/// Reads what does not change meanwhile: the ring of a process that was killed.
pub fn read(shape: &Shape, memory: &[u64], positions: std::ops::Range<u64>) -> Found {
    let mut found = Found::default();
    let mut position = positions.start;
    while position < positions.end {
        let words = length(memory[shape.cell(position)], position)
            .map(|length| (0..length as u64).map(|at| memory[shape.cell(position + at * 8)]).collect::<Vec<u64>>());
        match words {
            Some(words) if is_sum_right(&words) => {
                let end = position + words.len() as u64 * 8;
                if words[0] >> record::SITE_SHIFT != 0 {
                    found.records.push((position, words));
                }
                position = end;
            }
            _ => {
                found.holes.push(position);
                position += 8;
            }
        }
    }
    found
}
