//! What was counted.

use std::time::Duration;

/// Of one object.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Addresses that were asked for, each as an interrupted pc and as a return address.
    pub asked: u64,
    /// Of those: what the table says is left to the unwind information.
    pub left: u64,
    /// Rules that only the full evaluator can follow.
    pub full: u64,
    /// Rules of a kind of their own.
    pub special: u64,
    /// Addresses without a rule.
    pub none: u64,
    /// Steps that were followed on drawn stacks.
    pub followed: u64,
    /// Frames of them.
    pub frames: u64,
    /// Rows of the table, and its bytes.
    pub rows: usize,
    /// Bytes of the table.
    pub bytes: usize,
    /// Bytes of the unwind information.
    pub unwind: usize,
    /// Bytes of code.
    pub code: u64,
    /// How long compiling took.
    pub compiled_in: Duration,
    /// Where the fast path differs.
    pub differences: u64,
    /// The first of these.
    pub examples: Vec<String>,
}

/// Most differences that are told in full.
const EXAMPLES: usize = 20;

impl Tally {
    /// Counts a difference.
    pub fn differs(&mut self, example: impl FnOnce() -> String) {
        self.differences += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    /// Whether the table is as small as it must be: 8 bytes a row, 1.2 times what it was compiled from.
    pub fn is_small(&self) -> bool {
        self.bytes <= 8 * self.rows && 10 * self.bytes <= 12 * self.unwind
    }
}
