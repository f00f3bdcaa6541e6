//! The previous trace of a thread, so that the next one need not be made anew.
//!
//! A frame's state (pc, sp, and fp where an outer rule needs it) and the words that the rules above it read decide what all
//! frames above it are. So: where a walk comes to a state that it came to last time, it only looks whether those words are
//! still the same. These loads do not wait for each other, as those of a walk do.
//!
//! ```text
//!   entries   │ new frames, as they are found ►    │ …  │ frames of the last time, the outermost at the end │
//!             0                              made ─┘    └─ met: the state that both have
//! ```
//!
//! Invariant: `entries[first..]` are consecutive frames of one walk of this thread, begun when the modules had changed
//! `changes` times; each is what its callee's rule gave from the words at `sp - 8` and, with [`CHECK`], at `slot`. Frames that
//! took more words than these are stepped to anew ([`REDO`]). The frame pointer of an entry is the true one where an outer
//! rule needs it ([`NEEDED`]); where none does it may be that of a trace before, and before one may, it is read anew
//! ([`Recall::renews`]). Whatever is read lies between the stack pointer of the frame at
//! which both met and the end of the stack on which the walk now is.

use crate::Words;
use crate::chase::State;

/// Most frames that are remembered.
const DEPTH: usize = 512;
/// Traces that may in turn be nothing like the one before them, before remembering is given up,
const PATIENCE: u32 = 8;
/// and after how many it is tried again.
const PAUSE: u32 = 32;

/// In a frame's `slot`: an outer rule needs its frame pointer.
const NEEDED: u64 = 1 << 48;
/// The word at the slot must be what it was.
pub(crate) const CHECK: u64 = 1 << 49;
/// The step to it must be made anew.
pub(crate) const REDO: u64 = 1 << 50;
/// The rule at its pc took its frame pointer.
const USES: u64 = 1 << 51;
/// Where a slot says how many of the frames behind this one need nothing but their return address compared.
const PLAIN: u32 = 52;
/// The address in a slot.
pub(crate) const ADDRESS: u64 = (1 << 48) - 1;

/// A frame that was passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its pc, as the cache has it.
    pub key: u64,
    pub sp: u64,
    pub fp: u64,
    /// Where its frame pointer was saved by its callee, 0 if it was not; and flags.
    pub slot: u64,
}

impl Entry {
    /// Whether the walk came to this state.
    #[inline(always)]
    pub fn is(&self, state: &State) -> bool {
        self.sp == state.sp && self.key == state.key.bits() && (self.slot & NEEDED == 0 || self.fp == state.fp)
    }
}

const NOBODY: Entry = Entry { key: 0, sp: 0, fp: 0, slot: 0 };

/// The previous trace of one thread.
#[derive(Debug)]
pub struct Remembered {
    entries: [Entry; DEPTH],
    first: usize,
    /// The whole number: a thread may sleep until any part of it has come round.
    changes: Option<u64>,
    /// Traces in turn that met nothing.
    strangers: u32,
}

impl Default for Remembered {
    fn default() -> Self {
        Self::new()
    }
}

impl Remembered {
    /// Of nothing.
    pub const fn new() -> Self {
        Self { entries: [NOBODY; DEPTH], first: DEPTH, changes: None, strangers: 0 }
    }

    /// Forgets it.
    pub fn forget(&mut self) {
        self.first = DEPTH;
    }

    /// For a trace that begins now, after so many changes of the modules; none while stacks are nothing like those before
    /// them.
    #[inline(always)]
    pub(crate) fn begin(&mut self, changes: u64) -> Option<Recalling<'_>> {
        if self.strangers >= PATIENCE {
            self.strangers = self.strangers.checked_add(1).unwrap_or(PATIENCE);
            if !self.strangers.is_multiple_of(PAUSE) {
                return None;
            }
        }
        if self.changes != Some(changes) {
            (self.first, self.changes) = (DEPTH, Some(changes));
        }
        let met = self.first;
        Some(Recalling { memory: self, made: 0, met, joined: false, open: true, kept: 0 })
    }
}

/// How a chase came to a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Where the frame pointer was saved by its callee, 0 if it was not; and [`REDO`].
    pub slot: u64,
    /// Whether the callee's rule took the frame pointer.
    pub used: Used,
}

/// Whether a rule took the frame pointer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Used {
    Fp,
    Sp,
}

/// What a chase asks its memory.
pub(crate) trait Recall {
    /// Whether it ever does.
    const REMEMBERS: bool;

    /// The remembered frame that is this one, if there is one. From there on frames are to be compared; then comes one of
    /// [`Recall::joins`] and [`Recall::keeps`].
    fn meets(&mut self, state: &State, arrival: Arrival) -> Option<usize>;
    /// A remembered frame.
    fn entry(&self, at: usize) -> Option<Entry>;
    /// Those behind it that need nothing but their return address compared, all on one stack.
    fn plain(&self, at: usize) -> &[Entry];
    /// From where both met to the last frame everything is as it was.
    fn joins(&mut self);
    /// From where both met to `last` everything is as it was, and then no more.
    fn keeps(&mut self, last: usize);
    /// Takes the frame pointers of all frames from where both met to `last` from where they were saved.
    fn renews(&mut self, last: usize, words: &impl Words);
    /// A frame that was not remembered.
    fn note(&mut self, state: &State, arrival: Arrival);
    /// Frames come behind those that were all as they were: to be said before the first of them is met or noted.
    fn goes_on(&mut self, words: &impl Words);
    /// What comes now was found in another way.
    fn stop(&mut self);
    /// The trace is over.
    fn finish(self);
}

/// Remembers nothing.
pub(crate) struct Forgetful;

impl Recall for Forgetful {
    const REMEMBERS: bool = false;

    #[inline(always)]
    fn meets(&mut self, _state: &State, _arrival: Arrival) -> Option<usize> {
        None
    }

    #[inline(always)]
    fn entry(&self, _at: usize) -> Option<Entry> {
        None
    }

    fn plain(&self, _at: usize) -> &[Entry] {
        &[]
    }

    fn joins(&mut self) {}

    fn keeps(&mut self, _last: usize) {}

    fn renews(&mut self, _last: usize, _words: &impl Words) {}

    #[inline(always)]
    fn note(&mut self, _state: &State, _arrival: Arrival) {}

    fn goes_on(&mut self, _words: &impl Words) {}

    fn stop(&mut self) {}

    fn finish(self) {}
}

/// A memory during a trace.
pub(crate) struct Recalling<'m> {
    memory: &'m mut Remembered,
    /// New frames, from the beginning of the entries on.
    made: usize,
    /// The first remembered frame that the walk can still meet.
    met: usize,
    /// Whether all from there on are frames of this trace.
    joined: bool,
    /// Whether new frames are still noted.
    open: bool,
    /// Remembered frames that were right, but those behind `met`.
    kept: usize,
}

impl Recalling<'_> {
    /// That a rule took the frame pointer of the last new frame.
    #[inline(always)]
    fn uses(&mut self, used: Used) {
        if used == Used::Fp
            && let Some(callee) = self.made.checked_sub(1).and_then(|callee| self.memory.entries.get_mut(callee))
        {
            callee.slot |= USES;
        }
    }
}

impl Recall for Recalling<'_> {
    const REMEMBERS: bool = true;

    #[inline(always)]
    fn meets(&mut self, state: &State, arrival: Arrival) -> Option<usize> {
        if self.joined || !self.open {
            return None;
        }
        let mut met = self.met;
        while self.memory.entries.get(met).is_some_and(|entry| entry.sp < state.sp) {
            met += 1;
        }
        self.met = met;
        let entry = self.memory.entries.get_mut(met).filter(|entry| entry.is(state))?;
        // The frames below it may have saved its frame pointer elsewhere.
        (entry.fp, entry.slot) = (state.fp, checked(arrival.slot | entry.slot & (NEEDED | USES | !0 << PLAIN)));
        self.uses(arrival.used);
        Some(met)
    }

    #[inline(always)]
    fn entry(&self, at: usize) -> Option<Entry> {
        self.memory.entries.get(at).copied()
    }

    #[inline(always)]
    fn plain(&self, at: usize) -> &[Entry] {
        let count = self.memory.entries.get(at).map_or(0, |entry| usize::try_from(entry.slot >> PLAIN).unwrap_or(0));
        self.memory.entries.get(at + 1..at + 1 + count).unwrap_or_default()
    }

    fn joins(&mut self) {
        self.joined = true;
    }

    fn keeps(&mut self, last: usize) {
        let after = last.saturating_add(1).min(DEPTH);
        let kept = after.saturating_sub(self.met);
        if self.made.saturating_add(kept) > after {
            self.open = false;
        } else {
            self.memory.entries.copy_within(self.met..after, self.made);
            self.made += kept;
        }
        self.kept += kept;
        (self.met, self.joined) = (after, false);
    }

    fn renews(&mut self, last: usize, words: &impl Words) {
        let (low, after) = (self.met, last.saturating_add(1).min(DEPTH));
        let Some((met, rest)) = self.memory.entries.get_mut(low..after).and_then(<[Entry]>::split_first_mut) else {
            return;
        };
        let mut fp = met.fp;
        for entry in rest {
            let saved = entry.slot & ADDRESS;
            if saved != 0 {
                // Frames whose words are gone are noted no more.
                let Some(word) = words.word(saved) else { return self.stop() };
                fp = word;
            }
            entry.fp = fp;
        }
    }

    #[inline(always)]
    fn note(&mut self, state: &State, arrival: Arrival) {
        if !self.open {
            return;
        }
        self.uses(arrival.used);
        // What lies here is overwritten, and can be met no more.
        if self.made >= self.met {
            self.met = self.made + 1;
        }
        match self.memory.entries.get_mut(self.made) {
            Some(place) => {
                *place = Entry { key: state.key.bits(), sp: state.sp, fp: state.fp, slot: arrival.slot };
                self.made += 1;
            }
            None => self.open = false,
        }
    }

    fn goes_on(&mut self, words: &impl Words) {
        if self.joined {
            self.renews(DEPTH - 1, words);
            self.keeps(DEPTH - 1);
        }
    }

    fn stop(&mut self) {
        self.open = false;
    }

    fn finish(self) {
        let Self { memory, made, met, joined, kept, .. } = self;
        // Where the remembered frames begin that are this trace's, or the end.
        let behind = if joined { met } else { DEPTH };
        let kept = kept + (DEPTH - behind);
        let Some(first) = behind.checked_sub(made) else {
            memory.first = behind;
            return;
        };
        memory.entries.copy_within(..made, first);
        let mut caller = memory.entries.get(behind).copied().unwrap_or(NOBODY);
        for at in (first..behind).rev() {
            let Some(entry) = memory.entries.get_mut(at) else { continue };
            // By its own rule, or by one above that has it from here.
            let needed = entry.slot & USES != 0 || caller.slot & NEEDED != 0 && caller.slot & ADDRESS == 0;
            let plain =
                if at + 1 == DEPTH || caller.slot & (CHECK | REDO) != 0 { 0 } else { (caller.slot >> PLAIN) + 1 };
            let slot = entry.slot & (ADDRESS | REDO | USES) | plain << PLAIN;
            entry.slot = checked(if needed { slot | NEEDED } else { slot });
            caller = *entry;
        }
        memory.first = first;
        memory.strangers = if kept * 2 >= DEPTH - first { 0 } else { memory.strangers.saturating_add(1) };
    }
}

/// A slot, with the flag that its word is to be compared where that is all that an outer rule needs.
#[inline(always)]
fn checked(slot: u64) -> u64 {
    let check = slot & NEEDED != 0 && slot & ADDRESS != 0 && slot & REDO == 0;
    if check { slot | CHECK } else { slot & !CHECK }
}
