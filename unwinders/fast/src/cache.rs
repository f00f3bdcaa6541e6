//! Rules by pc, for all threads: one word an entry, so that none can be torn, and nobody waits.
//!
//! ```text
//!   bit 63 … 44   43 … 33              32 … 0
//!   the rule      1, and the modules'  the pc's bits 15 … 47, of which the highest says
//!                 generation           that the pc was interrupted
//! ```
//!
//! An entry's place is made of the pc's lower bits and some above them, so that place and entry together hold all 48 bits:
//! a rule that is found is the rule of this very pc. It is the rule that this generation of the modules has there; entries of
//! generations before are not found. Ten bits of the generation are kept, and everything is forgotten before they come round.
//!
//! What is written after the modules changed, by somebody who was interrupted in between, is taken out again by its writer.

use crate::Packed;
use crate::packed::BITS;
use core::sync::atomic::{AtomicU64, Ordering};

/// Entries. 10,000 different return addresses should find room.
const ENTRIES: usize = 1 << PLACE;
/// Bits of a place.
const PLACE: u32 = 15;
/// From how far above bits are folded into the place: functions of one size, a power of two, fall into different places.
const FOLD: u32 = 7;
/// Where the rule begins.
const RULE: u32 = 64 - BITS;
/// Where the generation begins: behind 48 - 15 bits of the pc.
const GENERATION: u32 = 33;
/// The bit that is set in each entry.
const USED: u64 = 1 << 10;
/// After so many generations entries are forgotten; twice as many can be told apart, twice.
const TURN: u64 = 256;

/// A pc with what it points at, in 48 bits: bit 47 says that it was interrupted. User space has 47.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The bit that says that the pc was interrupted.
    pub const EXACT: u64 = 1 << 47;

    /// Of a return address; none if that is not in user space.
    #[inline(always)]
    pub const fn of_return(pc: u64) -> Option<Self> {
        if pc < Self::EXACT { Some(Self(pc)) } else { None }
    }

    /// Of interrupted code.
    #[inline(always)]
    pub const fn of_exact(pc: u64) -> Option<Self> {
        if pc < Self::EXACT { Some(Self(pc | Self::EXACT)) } else { None }
    }

    /// What [`Key::bits`] gave.
    #[inline(always)]
    pub(crate) const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 48 bits.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    fn place(self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "15 bits of it are used")]
        let folded = (self.0 ^ (self.0 >> FOLD)) as usize;
        folded & (ENTRIES - 1)
    }
}

/// A generation of the modules, as entries have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

impl Generation {
    /// One that no entry has: not those that were never written either, which are 0.
    pub const NEVER: Self = Self(1 << GENERATION);

    /// Of a map whose count of changes is `count`, odd while it is being changed.
    pub const fn of(count: u64) -> Self {
        Self((((count >> 1) & (USED - 1)) | USED) << GENERATION)
    }
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    entries: [AtomicU64; ENTRIES],
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    /// An empty one: zeros.
    pub const fn new() -> Self {
        Self { entries: [const { AtomicU64::new(0) }; ENTRIES] }
    }

    /// The rule of a pc, if it is here. The 44 lower bits of the answer mean nothing.
    #[inline(always)]
    pub fn find(&self, key: Key, generation: Generation) -> Option<Found> {
        let word = self.entries.get(key.place()).map_or(0, |entry| entry.load(Ordering::Relaxed));
        let differs = (word ^ (key.0 >> PLACE | generation.0)) << BITS;
        if differs == 0 { Some(Found(word)) } else { None }
    }

    /// Remembers the rule of a pc, found while the modules' generation was this. `now` says which it is.
    pub fn put(&self, key: Key, generation: Generation, rule: Packed, now: impl Fn() -> Generation) {
        let word = u64::from(rule.bits()) << RULE | key.0 >> PLACE | generation.0;
        let Some(entry) = self.entries.get(key.place()) else { return };
        if generation == Generation::NEVER || now() != generation {
            return;
        }
        entry.store(word, Ordering::Relaxed);
        // Whoever was interrupted between the question and the store: what was stored is of modules that are gone.
        if now() != generation {
            let _ = entry.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// To be called after each change of the modules, with the map's count: forgets everything before counts are told apart
    /// no more.
    pub fn changed(&self, count: u64) {
        if (count >> 1).is_multiple_of(TURN) {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.iter().for_each(|entry| entry.store(0, Ordering::Relaxed));
    }
}

/// A rule in the upper bits of a word.
#[derive(Clone, Copy, Debug)]
pub struct Found(u64);

impl Found {
    /// One that was not found in the cache.
    pub const fn of(rule: Packed) -> Self {
        Self((rule.bits() as u64) << RULE)
    }

    /// The rule.
    pub const fn rule(self) -> Packed {
        Packed::from_bits((self.0 >> RULE) as u32)
    }

    /// What its canonical frame address is counted from.
    #[inline(always)]
    pub(crate) const fn base(self) -> Base {
        match (self.0.cast_signed() < 0, (self.0 >> RULE) & 3) {
            (false, _) => Base::Sp,
            (true, 0) => Base::Fp,
            (true, _) => Base::Other,
        }
    }

    /// How many words above sp the canonical frame address is, for [`Base::Sp`].
    #[inline(always)]
    pub(crate) const fn words_above_sp(self) -> u64 {
        // The highest bit is 0.
        self.0 >> (RULE + 8)
    }

    /// The same above fp, for [`Base::Fp`].
    #[inline(always)]
    pub(crate) const fn words_above_fp(self) -> u64 {
        (self.0 << 1) >> (RULE + 9)
    }

    /// For both: how many words from the canonical frame address the frame pointer was saved; [`NOT_SAVED`] if it was not.
    #[inline(always)]
    pub(crate) const fn saved(self) -> i64 {
        (self.0 << 12).cast_signed() >> 58
    }
}

/// What canonical frame addresses are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Sp,
    Fp,
    Other,
}

/// What [`Found::saved`] says of a frame pointer that was not saved.
pub(crate) const NOT_SAVED: i64 = -1;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::{Special, Unpacked};
    use std::boxed::Box;
    use std::cell::Cell;

    const NOW: Generation = Generation::of(8);

    fn made() -> Box<Cache> {
        Box::new(Cache::new())
    }

    #[test]
    fn a_pc_finds_its_own_rule_and_no_other_pc_does() {
        let cache = made();
        let key = Key::of_return(0x7f12_3456_789a).unwrap();
        let rule = Packed::special(Special::Outermost);
        cache.put(key, NOW, rule, || NOW);
        assert_eq!(cache.find(key, NOW).map(Found::rule), Some(rule));
        for bit in 0..47 {
            let other = Key::of_return(0x7f12_3456_789a ^ 1 << bit).unwrap();
            assert!(cache.find(other, NOW).is_none(), "bit {bit}");
        }
        assert!(cache.find(Key::of_exact(0x7f12_3456_789a).unwrap(), NOW).is_none());
    }

    #[test]
    fn nothing_is_found_in_an_empty_cache() {
        let cache = made();
        assert!((0..1 << 20).all(|pc| cache.find(Key::of_return(pc).unwrap(), Generation::of(0)).is_none()));
    }

    #[test]
    fn nothing_is_ever_found_in_no_generation() {
        let cache = made();
        cache.put(Key::of_return(0x1234).unwrap(), Generation::NEVER, Packed::special(Special::Signal), || NOW);
        assert!((0..1 << 20).all(|pc| cache.find(Key::of_return(pc).unwrap(), Generation::NEVER).is_none()));
    }

    #[test]
    fn addresses_that_are_not_of_user_space_have_no_place() {
        assert!(Key::of_return(1 << 47).is_none() && Key::of_exact(u64::MAX).is_none());
    }

    #[test]
    fn a_rule_of_other_modules_is_not_found() {
        let cache = made();
        let key = Key::of_return(0x5555_0000_1234).unwrap();
        cache.put(key, NOW, Packed::special(Special::Signal), || NOW);
        assert!((10..1024).all(|count| cache.find(key, Generation::of(count)).is_none()));
        assert!(
            cache.find(key, Generation::of(9)).is_some(),
            "the map is being changed: readers still have the old one"
        );
    }

    #[test]
    fn what_was_stored_too_late_is_taken_out_again() {
        let cache = made();
        let key = Key::of_return(0x5555_0000_1234).unwrap();
        let asked = Cell::new(0);
        // The modules change between the store and the second question.
        let now = || if asked.replace(asked.get() + 1) == 0 { NOW } else { Generation::of(10) };
        cache.put(key, NOW, Packed::special(Special::Signal), now);
        assert_eq!(asked.get(), 2);
        assert!(cache.find(key, NOW).is_none());
    }

    #[test]
    fn entries_are_forgotten_before_their_generation_comes_round() {
        let cache = made();
        let key = Key::of_return(0x5555_0000_1234).unwrap();
        cache.put(key, NOW, Packed::special(Special::Signal), || NOW);
        let round = (1..).map(|change| 8 + 2 * change).find(|count| {
            cache.changed(*count);
            Generation::of(*count) == NOW
        });
        assert_eq!(round, Some(8 + 2 * 1024));
        assert!(cache.find(key, NOW).is_none());
    }

    #[test]
    fn functions_of_one_size_do_not_share_places() {
        for size in [16_u64, 32, 48, 64, 80, 96, 128, 256] {
            let mut places: std::vec::Vec<usize> =
                (0..10_000).map(|n| Key::of_return(0x7f00_0000_0000 + n * size + 9).unwrap().place()).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.len() > 7_000, "{size}: {}", places.len());
        }
    }

    #[test]
    fn the_rule_of_nearly_all_code_reads_the_same_both_ways() {
        // Where the frame pointer was saved is a negative number.
        for bits in (0..1_u32 << 19).filter(|bits| bits >> 2 & 32 != 0) {
            let rule = Packed::from_bits(bits);
            let (words, saved) = (Found::of(rule).words_above_sp(), Found::of(rule).saved());
            assert_eq!(words, Found::of(rule).words_above_fp());
            let Unpacked::BySp { cfa, fp } = rule.unpacked() else { panic!("{bits:#x}") };
            assert_eq!(Found::of(rule).base(), Base::Sp);
            assert_eq!((words * 8, saved * -8), (cfa, fp.cast_signed()), "{bits:#x}");
        }
    }
}
