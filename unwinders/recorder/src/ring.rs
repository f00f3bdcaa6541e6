//! The protocol by which a thread writes into its ring while its own signal handlers do, and others read.
//!
//! Who writes: one thread, and the handlers that interrupt it; they nest like a stack, each ends before what it interrupted
//! goes on. Who reads: anybody, in this process or another, at any time, also after the writer was killed.
//!
//! ```text
//!   enter     nest += 1, and the outermost's stack pointer with it
//!   reserve   old = reserve; reserve += length          one instruction: whoever interrupts takes what is behind it
//!   fill      time and fields, then the head            a head is one only at its position, with its sum
//!   leave     the outermost: commit = reserve; nest -= 1, and again if a handler came in between
//! ```
//!
//! Positions only grow; a ring of `size` bytes holds at `position % size` what was written there last. No record crosses a
//! page: what was reserved across an edge is filled with records of nothing, and reserved again. So taking a position in a
//! page drops what was in that page a round ago, all of it at once, and the moving of `reserve` is what says so.
//!
//! What holds, for whoever reads `commit` first and `reserve` last:
//!
//! * I1 a nested writer never has a byte that the outer one reserved;
//! * I2 only the outermost writer moves `commit`;
//! * I3 nothing at or above `commit` is shown while its process lives, and below it there is no record that its writer did not finish, but for those
//!   that were left (below), which have no head;
//! * I4 on a full ring the oldest page goes, or the new event, counted;
//! * I5 whoever is killed takes with it what is not committed and nothing else;
//! * I6 a writer takes a bounded number of steps, whatever interrupts it.
//!
//! A handler that leaves by `siglongjmp` ends the writer that it interrupted in the middle. The next one finds the stack
//! pointer of a writer that is not there any more ([`Ring::is_left`]), counts it, and is the outermost itself.

use crate::layout::record::{LONGEST, POSITION_BITS, SITE_SHIFT, SUM_SHIFT, WORDS_SHIFT};
use crate::layout::slot::NEST_BITS;
use crate::layout::{DEEPEST, PAGE, Sum, mode};

/// Pages crossed in a row, or commits interrupted in a row, after which a writer gives up.
const TRIES: usize = 4;
/// Bytes of a word.
const WORD: u64 = 8;
/// Bytes of a page, as positions count.
const PAGE_BYTES: u64 = PAGE as u64;

/// A word of a thread's slot that the protocol uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// Positions below are taken.
    Reserve,
    /// Positions below are whole.
    Commit,
    /// Writers that are under way, and the outermost's stack pointer.
    Nest,
    /// Events dropped because the ring was full.
    Dropped,
    /// Events refused because of nesting.
    Refused,
    /// Writers that were left.
    Left,
}

/// A thread's ring and the words that go with it: shared memory, or a model of it.
///
/// All accesses are those of one thread and of handlers on it, so `add` need not be atomic for others; for handlers it must
/// be. Others only read.
pub trait Ring {
    /// A word, as this thread sees it.
    fn load(&self, word: Word) -> u64;
    /// Stores a word.
    fn store(&self, word: Word, value: u64);
    /// Adds to a word and gives what it was, so that no handler comes in between.
    fn add(&self, word: Word, value: u64) -> u64;
    /// Everything that was put is visible before `value` is.
    fn publish(&self, word: Word, value: u64);
    /// The taking of a position is visible before whatever is put next.
    fn taken(&self);
    /// Stores a word at a position of the ring.
    fn put(&self, position: u64, value: u64);
    /// Stores a head at a position: everything that was put before is visible before it.
    fn finish(&self, position: u64, head: u64);
    /// Bytes of the ring: a power of two.
    fn size(&self) -> u64;
    /// [`mode`].
    fn mode(&self) -> u64;
    /// The position at which this thread's records begin.
    fn base(&self) -> u64;
    /// Whether a writer whose stack pointer was `outer` cannot be under way any more, now that one runs at `sp`.
    fn is_left(&self, outer: u64, sp: u64) -> bool;
    /// Whether this is still the process that the ring belongs to: a handler may have forked in the middle of a write, and the
    /// child goes on with it.
    fn is_own(&self) -> bool {
        true
    }
}

/// Why an event is not in the ring. All are counted in the thread's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The ring is full, and keeps what it has.
    Full,
    /// Too many writers interrupted each other, or took so much that the outermost one would be overwritten.
    Nested,
}

/// Writes a record of `words` words, its head and what `fill` puts behind it. `sp` is the stack pointer, more or less.
///
/// # Errors
/// Where it is not written; that is counted.
#[inline(always)]
pub fn write<R: Ring>(
    ring: &R,
    sp: u64,
    site: u16,
    words: usize,
    fill: impl FnOnce(&mut Filler<'_, R>),
) -> Result<(), Refused> {
    let nested = enter(ring, sp)?;
    let written = match reserve(ring, words, nested) {
        Ok(position) => {
            let head = head(position, site, words);
            let mut filler = Filler { ring, position, sum: Sum::of(head) };
            fill(&mut filler);
            ring.finish(position, head | filler.sum.value() << SUM_SHIFT);
            Ok(())
        }
        Err(refused) => Err(count(ring, refused)),
    };
    leave(ring, sp, nested);
    written
}

/// Puts the words of a record behind its head.
pub struct Filler<'r, R: Ring> {
    ring: &'r R,
    position: u64,
    sum: Sum,
}

impl<R: Ring> Filler<'_, R> {
    /// Puts the next word.
    #[inline(always)]
    pub fn put(&mut self, word: u64) {
        self.position = self.position.wrapping_add(WORD);
        self.ring.put(self.position, word);
        self.sum = self.sum.and(word);
    }
}

/// A head without its sum.
#[inline(always)]
fn head(position: u64, site: u16, words: usize) -> u64 {
    let words = (words & 0xff) as u64;
    (position / WORD) & ((1 << POSITION_BITS) - 1) | words << WORDS_SHIFT | u64::from(site) << SITE_SHIFT
}

/// Begins. Says how many writers were under way.
#[inline(always)]
fn enter<R: Ring>(ring: &R, sp: u64) -> Result<u64, Refused> {
    let state = ring.load(Word::Nest);
    if state & NEST_BITS == 0 {
        // One store, and a handler before it leaves things as they were: who is outermost is never half said.
        ring.store(Word::Nest, sp & !NEST_BITS | 1);
        return Ok(0);
    }
    enter_nested(ring, sp, state)
}

#[cold]
fn enter_nested<R: Ring>(ring: &R, sp: u64, state: u64) -> Result<u64, Refused> {
    if ring.is_left(state & !NEST_BITS, sp) {
        ring.add(Word::Left, 1);
        ring.store(Word::Nest, sp & !NEST_BITS | 1);
        return Ok(0);
    }
    let nested = state & NEST_BITS;
    if nested >= DEEPEST {
        return Err(count(ring, Refused::Nested));
    }
    ring.store(Word::Nest, state.wrapping_add(1));
    Ok(nested)
}

/// Takes room for a record, and fills what must be left out.
#[inline(always)]
fn reserve<R: Ring>(ring: &R, words: usize, nested: u64) -> Result<u64, Refused> {
    let length = (words.min(LONGEST) as u64).wrapping_mul(WORD);
    if nested != 0 || ring.mode() != mode::OVERWRITE {
        has_room(ring, nested)?;
    }
    let old = ring.add(Word::Reserve, length);
    ring.taken();
    let last = old.wrapping_add(length).wrapping_sub(1);
    let edge = last & !(PAGE_BYTES - 1);
    if old >= edge && (ring.mode() == mode::OVERWRITE || last < limit(ring)) {
        return Ok(old);
    }
    reserve_across(ring, length, nested, old)
}

/// What was taken is not all in one page, or not all before the end.
#[cold]
fn reserve_across<R: Ring>(ring: &R, length: u64, nested: u64, first: u64) -> Result<u64, Refused> {
    let limit = if ring.mode() == mode::OVERWRITE { u64::MAX } else { limit(ring) };
    let mut old = first;
    for left in (0..TRIES).rev() {
        let end = old.wrapping_add(length);
        let edge = end.wrapping_sub(1) & !(PAGE_BYTES - 1);
        if old >= edge && end <= limit {
            return Ok(old);
        }
        nothing(ring, old.min(limit), edge.min(limit));
        nothing(ring, old.max(edge).min(limit), end.min(limit));
        if end > limit {
            return Err(Refused::Full);
        }
        if left > 0 {
            has_room(ring, nested)?;
            old = ring.add(Word::Reserve, length);
            ring.taken();
        }
    }
    Err(Refused::Nested)
}

/// Whether a record may be taken room for.
fn has_room<R: Ring>(ring: &R, nested: u64) -> Result<(), Refused> {
    if ring.mode() != mode::OVERWRITE && ring.load(Word::Reserve) >= limit(ring) {
        return Err(Refused::Full);
    }
    if nested == 0 {
        return Ok(());
    }
    // The outermost writer's record is above `commit`: it must not be a round behind. Each writer that is under way may have
    // come past this by one record.
    let taken = ring.load(Word::Reserve).wrapping_sub(ring.load(Word::Commit));
    let room = (ring.size() / 4 * 3).saturating_sub(PAGE_BYTES);
    if taken > room { Err(Refused::Nested) } else { Ok(()) }
}

/// Where a ring that keeps what it has ends.
fn limit<R: Ring>(ring: &R) -> u64 {
    ring.base().wrapping_add(ring.size())
}

/// Fills positions of one page with nothing.
fn nothing<R: Ring>(ring: &R, from: u64, to: u64) {
    if from < to {
        let words = usize::try_from(to.wrapping_sub(from) / WORD).unwrap_or_default();
        let head = head(from, 0, words);
        ring.finish(from, head | Sum::of(head).value() << SUM_SHIFT);
    }
}

#[cold]
fn count<R: Ring>(ring: &R, refused: Refused) -> Refused {
    let word = match refused {
        Refused::Full => Word::Dropped,
        Refused::Nested => Word::Refused,
    };
    ring.add(word, 1);
    refused
}

/// Ends. What the outermost writer and all who interrupted it have written is committed.
#[inline(always)]
fn leave<R: Ring>(ring: &R, sp: u64, nested: u64) {
    if !ring.is_own() {
        // What the child put is what its parent puts. How far the ring has come is the parent's to say.
        return;
    }
    let state = ring.load(Word::Nest);
    if nested != 0 {
        // 0 only where somebody took the outermost writer for one that was left.
        return ring.store(Word::Nest, if state & NEST_BITS == 0 { state } else { state.wrapping_sub(1) });
    }
    if state & NEST_BITS == 1 {
        let seen = ring.load(Word::Reserve);
        ring.publish(Word::Commit, seen);
        ring.store(Word::Nest, 0);
        if ring.load(Word::Reserve) == seen {
            return;
        }
    }
    commit_again(ring, sp);
}

/// A handler came in between, was nested, and did not commit. Or one jumped out of another, so that the writer in between is
/// still counted. Or one took this writer for one that was left, so that this one is not. All have ended: they nest.
#[cold]
fn commit_again<R: Ring>(ring: &R, sp: u64) {
    for _ in 0..TRIES {
        ring.store(Word::Nest, sp & !NEST_BITS | 1);
        let seen = ring.load(Word::Reserve);
        ring.publish(Word::Commit, seen);
        ring.store(Word::Nest, 0);
        if ring.load(Word::Reserve) == seen {
            return;
        }
    }
    // The next writer commits it.
}
