//! What events mean: each place in the code that writes events is described in the arena once, when it first does.

use crate::arena::Arena;
use crate::layout::{Sum, header, record, site};
use crate::pack::{Packer, cut, tail};
use core::sync::atomic::{AtomicU64, Ordering};

/// Sets of types that one place can write: a generic function has one place for all its types.
const KINDS: usize = 4;
/// The number of a site for which there was no room.
const LOST: u64 = 0xffff;

/// A place in the code that writes events.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    target: &'static str,
    file: &'static str,
    line: u32,
    level: u8,
    fields: &'static [&'static str],
    /// The kinds of the fields and the number under which that is described. 0 where there is none yet.
    known: [AtomicU64; KINDS],
}

impl Site {
    /// The place at `file` and `line`, in the module `target`, that writes `name` with these fields, of which the first
    /// twelve count. The level is an index of [`site::LEVELS`].
    pub const fn new(
        name: &'static str,
        target: &'static str,
        file: &'static str,
        line: u32,
        level: u8,
        fields: &'static [&'static str],
    ) -> Self {
        Self { name, target, file, line, level, fields, known: [const { AtomicU64::new(0) }; KINDS] }
    }

    /// The number of the description with these kinds, if there is room for one.
    #[inline(always)]
    pub(crate) fn number(&self, arena: &Arena, kinds: u64) -> Option<u16> {
        for known in &self.known {
            // Acquire pairs with the Release below: whoever has the number finds the description whole. Only other
            // processes read it, and they by its head; the order is for the process that is killed in between.
            let entry = known.load(Ordering::Acquire);
            if entry != 0 && entry >> 16 == kinds {
                return u16::try_from(entry & 0xffff).ok().filter(|number| u64::from(*number) != LOST);
            }
            if entry == 0 {
                break;
            }
        }
        self.describe(arena, kinds)
    }

    #[cold]
    fn describe(&self, arena: &Arena, kinds: u64) -> Option<u16> {
        let free = self.known.iter().find(|known| known.load(Ordering::Relaxed) == 0)?;
        let number = self.put(arena, kinds);
        if number.is_none() {
            arena.count(header::SITES_LOST);
        }
        let entry = kinds << 16 | number.map_or(LOST, u64::from);
        // Another thread, or a handler in between, may have had the same place: then there are two descriptions of it.
        let _ = free.compare_exchange(0, entry, Ordering::Release, Ordering::Relaxed);
        number
    }

    fn strings(&self) -> impl Iterator<Item = &'static str> {
        let place = [cut(self.name, site::STRING), cut(self.target, site::STRING), tail(self.file, site::STRING)];
        let fields = self.fields.iter().take(record::FIELDS).map(|field| cut(field, site::STRING));
        place.into_iter().chain(fields)
    }

    fn put(&self, arena: &Arena, kinds: u64) -> Option<u16> {
        let length = self.strings().fold(0_usize, |sum, text| sum.saturating_add(text.len()).saturating_add(1));
        let words = site::HEAD.saturating_add(length.div_ceil(8));
        let taken = (words as u64).wrapping_mul(8);
        let used = arena.word(header::SITES_USED).fetch_add(taken, Ordering::Relaxed);
        let offset = usize::try_from(used).ok()?.checked_add(8)?;
        let end = offset.checked_add(words.checked_mul(8)?)?;
        if end > arena.geometry().sites_size {
            return None;
        }
        let number = u16::try_from(offset / 8).ok()?;

        let begin = arena.geometry().sites.wrapping_add(offset);
        let fields = self.fields.len().min(record::FIELDS) as u64;
        let head = words as u64 | u64::from(self.level) << 32 | fields << 40;
        let mut sum = Sum::of(head);
        let mut at = begin;
        let mut put = |word| {
            at = at.wrapping_add(8);
            arena.word(at).store(word, Ordering::Relaxed);
            sum = sum.and(word);
        };
        put(kinds);
        put(u64::from(self.line) | (length as u64) << 32);
        let mut packer = Packer::new(&mut put);
        for text in self.strings() {
            // None is longer than `site::STRING`.
            packer.bytes(&[text.len() as u8]);
            packer.bytes(text.as_bytes());
        }
        packer.end();
        // Whoever reads this head by Acquire reads what belongs to it.
        arena.word(begin).store(head | sum.value() << 16, Ordering::Release);
        Some(number)
    }
}
