//! Annotations: what holds for the whole process, the last value of each key.
//!
//! Who writes: any thread, any handler. Who reads: anybody, at any time. A writer takes a ticket and has the cell that goes
//! with it for itself, unless three others come and go while it writes; then the sum of that cell is wrong, and readers take
//! the newest cell whose sum is right. Nobody waits, and a writer that is killed spoils one cell of four.
//!
//! A key that two write for the first time at once can come to two slots; the first of them counts from then on.

use crate::arena::{Arena, started};
use crate::event::Dropped;
use crate::layout::{Sum, annotation, header, kind};
use crate::pack::{cut, words};
use crate::value::{Field, Value};
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Words of a key.
const KEY_WORDS: usize = annotation::KEY_ROOM / 8;

/// Keeps the value of a key, in place of the one before. Keys are cut at 32 bytes, text at 240; its whole length is kept.
///
/// From anywhere, signal handlers included.
///
/// # Errors
/// Where there is no recorder, or no slot for another key.
#[inline]
pub fn annotate(key: &str, value: impl Field) -> Result<(), Dropped> {
    match started() {
        Some(arena) => arena.annotate(key, value.value()),
        None => Err(Dropped::NotStarted),
    }
}

impl Arena {
    fn annotate(&self, key: &str, value: Value<'_>) -> Result<(), Dropped> {
        let mut name = [0; KEY_WORDS];
        let key = if key.len() > annotation::KEY_ROOM { cut(key, annotation::KEY_ROOM) } else { key };
        name.iter_mut().zip(words(key.as_bytes())).for_each(|(to, from)| *to = from);
        let Some(slot) = self.find(&name) else {
            self.count(header::ANNOTATIONS_LOST);
            return Err(Dropped::NoSlot);
        };
        self.put(slot, value);
        Ok(())
    }

    /// The slot of a key: the first with its name from where it belongs on, or the first that is free.
    fn find(&self, name: &[u64; KEY_WORDS]) -> Option<usize> {
        let slots = self.geometry().annotation_slots;
        let first = annotation::belongs(name.iter().copied(), slots as u64) as usize;
        for index in (first..slots).chain(0..first) {
            let slot = self.geometry().annotations.wrapping_add(index.wrapping_mul(annotation::SIZE));
            let word = |offset: usize| self.word(slot.wrapping_add(offset));
            let key = |place: usize| word(annotation::KEY.wrapping_add(place.wrapping_mul(8)));
            let state = word(annotation::STATE);
            // Acquire pairs with the Release below: a slot that is ready has its key.
            let mut found = state.load(Ordering::Acquire);
            if found == 0 {
                match state.compare_exchange(0, annotation::CLAIMED, Ordering::Acquire, Ordering::Acquire) {
                    Ok(_) => {
                        name.iter().enumerate().for_each(|(place, word)| key(place).store(*word, Ordering::Relaxed));
                        state.store(annotation::READY, Ordering::Release);
                        return Some(slot);
                    }
                    Err(other) => found = other,
                }
            }
            let is_it = || name.iter().enumerate().all(|(place, word)| key(place).load(Ordering::Relaxed) == *word);
            if found == annotation::READY && is_it() {
                return Some(slot);
            }
        }
        None
    }

    fn put(&self, slot: usize, value: Value<'_>) {
        let ticket = self.word(slot.wrapping_add(annotation::TICKETS)).fetch_add(1, Ordering::Relaxed);
        let index = (ticket as usize) % annotation::COUNT;
        let cell = slot.wrapping_add(annotation::CELLS).wrapping_add(index.wrapping_mul(annotation::CELL));
        let word = |offset: usize| self.word(cell.wrapping_add(offset));
        let head: &AtomicU64 = word(annotation::HEAD);
        head.store(0, Ordering::Relaxed);
        // Pairs with the Acquire fence of a reader before it reads the head again.
        fence(Ordering::Release);

        let (text, single) = match value {
            Value::Text(text) => (cut(text, annotation::VALUE_ROOM).as_bytes(), None),
            value => (&[][..], value.word()),
        };
        let whole = match value {
            Value::Text(text) => text.len(),
            _ => 8,
        };
        let kept = if single.is_some() { 8 } else { text.len() };
        let begun = (ticket.wrapping_add(1) & 0xffff_ffff) | (kept as u64) << 48 | value.kind() << 56;
        let mut sum = Sum::of(begun).and(whole as u64);
        word(annotation::LENGTH).store(whole as u64, Ordering::Relaxed);
        let mut at = annotation::VALUE;
        for value in single.into_iter().chain(words(text)) {
            word(at).store(value, Ordering::Relaxed);
            sum = sum.and(value);
            at = at.wrapping_add(8);
        }
        // Whoever reads this head by Acquire reads what belongs to it.
        head.store(begun | sum.value() << 32, Ordering::Release);
    }
}

const _: () = assert!(kind::TEXT < 16 && annotation::VALUE_ROOM < 256);
