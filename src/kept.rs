//! Answers that are kept, up to a number of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Most answers of one kind that are kept: more than the stacks of a program have distinct return addresses, as many as
/// fit a table of 8,192 places, and in rows, the largest of them, 7 MiB. A forged core has as many distinct addresses as
/// it has words.
pub const MOST: usize = 7 << 10;

/// Answers by what was asked. When [`MOST`] are kept, all are dropped: whatever is kept here can be found again.
#[derive(Debug)]
pub struct Kept<K, V>(HashMap<K, V, BuildHasherDefault<Multiply>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash, V> Kept<K, V> {
    /// The answer to `asked`: the one that is kept, or else what `find` says, which is kept from now on.
    pub fn get_or_find(&mut self, asked: K, find: impl FnOnce() -> V) -> &V {
        if self.0.len() >= MOST && !self.0.contains_key(&asked) {
            self.0.clear();
        }
        self.0.entry(asked).or_insert_with(find)
    }

    /// The answer to `asked`, if it is kept.
    pub fn get(&self, asked: &K) -> Option<&V> {
        self.0.get(asked)
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many answers are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Hashes addresses: one multiplication by an odd constant (2^64 divided by the golden ratio) for each word.
///
/// A target can make its own addresses collide, which costs it time and nobody else.
#[derive(Default)]
pub struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word.try_into().unwrap_or(0));
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word.unsigned_abs().try_into().unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_asked_again() {
        let mut kept = Kept::default();
        assert_eq!(*kept.get_or_find(7u64, || 1), 1);
        assert_eq!(*kept.get_or_find(7, || unreachable!()), 1);
    }

    #[test]
    fn a_million_distinct_questions_leave_no_more_answers_than_are_kept() {
        let mut kept = Kept::default();
        for asked in 0..1_000_000u64 {
            assert_eq!(*kept.get_or_find(asked, || asked + 1), asked + 1);
            assert!(kept.len() <= MOST);
        }
        assert_eq!(kept.0.capacity(), MOST, "the table fits");
    }

    #[test]
    fn a_full_house_still_has_its_answers() {
        let mut kept = Kept::default();
        for asked in 0..MOST as u64 {
            kept.get_or_find(asked, || asked);
        }
        assert_eq!(*kept.get_or_find(3, || unreachable!()), 3);
    }
}
