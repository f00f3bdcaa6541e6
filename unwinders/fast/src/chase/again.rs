//! Frames of the previous trace, held against the words that led to them.

use super::{Chase, Next, Passed, State, Take, WORD, Words, called};
use crate::cache::{Found, Key};
use crate::remembered::{ADDRESS, CHECK, Entry, REDO, Recall};
use crate::{Packed, Rules, Special};
use core::ops::ControlFlow;
use surestack_walk::Regs;

impl<R: Rules, W: Words, F: Fn() -> Regs> Chase<'_, '_, R, W, F> {
    /// Hands over the frames of the previous trace from where both met, as long as the words that lead to them are the same.
    /// The last of them.
    pub(super) fn again<M: Recall>(
        &mut self,
        state: State,
        met: usize,
        memory: &mut M,
        take: &mut impl Take,
    ) -> ControlFlow<(), State> {
        let mut passed = 0;
        let all = loop {
            let at = met + passed;
            let room = self.ground.budget.saturating_sub(self.index);
            let plain = memory.plain(at);
            let plain = plain.get(..room).unwrap_or(plain);
            // On one stack each lies above the one before.
            if plain.last().is_some_and(|last| last.sp > self.stack.high) {
                break false;
            }
            let same = equal(plain, |entry| self.differs(entry.sp.wrapping_sub(WORD), entry.key));
            let taken = take.take_called(plain.iter().take(same).map(|entry| (entry.key, entry.sp)));
            if taken < same {
                memory.keeps(at + taken);
                return ControlFlow::Break(());
            }
            (self.index, passed) = (self.index + same, passed + same);
            if same < plain.len() {
                break false;
            }
            let Some(entry) = memory.entry(met + passed + 1) else { break true };
            let again = |chase: &mut Self| memory.entry(met + passed).and_then(|callee| chase.still(&callee, &entry));
            let Some(frame) = self.kept(&entry).or_else(|| again(self)) else {
                break false;
            };
            if take.take(frame).is_break() {
                memory.keeps(met + passed);
                return ControlFlow::Break(());
            }
            (self.index, passed) = (self.index + 1, passed + 1);
        };
        let last = match memory.entry(met + passed) {
            // Behind an outermost frame nobody needs a frame pointer.
            Some(entry) if all && passed > 0 && self.is_outermost(entry.key) => {
                State { key: Key::of_bits(entry.key), sp: entry.sp, fp: entry.fp }
            }
            Some(entry) if passed > 0 => self.whole(&entry, memory, met, met + passed, state.fp),
            _ => state,
        };
        if all {
            memory.joins()
        } else {
            memory.renews(met + passed, &self.ground.words);
            memory.keeps(met + passed)
        }
        ControlFlow::Continue(last)
    }

    /// Whether the rule at a remembered pc is that nobody called.
    fn is_outermost(&self, key: u64) -> bool {
        let rule = self.ground.cache.find(Key::of_bits(key), self.generation).map(Found::rule);
        rule == Some(Packed::special(Special::Outermost))
    }

    /// Whether a word is no more what it was: in which bits.
    #[inline(always)]
    fn differs(&self, at: u64, was: u64) -> u64 {
        self.ground.words.word(at).map_or(1, |word| word ^ was)
    }

    /// A remembered frame whose frame pointer is needed, and was saved by its callee, if both words are the same.
    #[inline(always)]
    fn kept(&self, entry: &Entry) -> Option<Passed> {
        let may_go_on = entry.slot & REDO == 0 && entry.sp <= self.stack.high && self.index < self.ground.budget;
        let differs = || {
            let saved = if entry.slot & CHECK == 0 { 0 } else { self.differs(entry.slot & ADDRESS, entry.fp) };
            self.differs(entry.sp.wrapping_sub(WORD), entry.key) | saved
        };
        (may_go_on && differs() == 0).then(|| called(entry.key, entry.sp))
    }

    /// A remembered frame to which the step must be made anew, if it is still the caller of `callee`.
    #[inline(never)]
    fn still(&mut self, callee: &Entry, entry: &Entry) -> Option<Passed> {
        if entry.slot & REDO == 0 || self.index >= self.ground.budget {
            return None;
        }
        let before = (self.stack, self.signals);
        let callee = State { key: Key::of_bits(callee.key), sp: callee.sp, fp: callee.fp };
        let (state, frame) = match self.step(callee, self.find(callee.key)?.rule().unpacked()) {
            Next::Called(state, _) => (state, called(state.key.bits(), state.sp)),
            Next::Interrupted(state, _, passed) => (state, passed),
            Next::Root(_) | Next::Unsaid => return None,
        };
        let is_same = entry.is(&state);
        if !is_same {
            (self.stack, self.signals) = before;
        }
        is_same.then_some(frame)
    }

    /// A remembered frame with its frame pointer, also where nobody needed it so far: it is where the last frame between
    /// `met` and this one that saved it did so.
    #[inline(never)]
    fn whole<M: Recall>(&self, entry: &Entry, memory: &M, met: usize, at: usize, fp: u64) -> State {
        let between = (met + 1..=at).rev().filter_map(|at| memory.entry(at));
        let saved = between.map(|entry| entry.slot & ADDRESS).find(|address| *address != 0);
        let fp = saved.and_then(|address| self.ground.words.word(address)).unwrap_or(fp);
        State { key: Key::of_bits(entry.key), sp: entry.sp, fp }
    }
}

/// How many of these, from the first on, differ in nothing. Four at a time: none of the loads waits for another.
#[inline(always)]
fn equal(plain: &[Entry], differs: impl Fn(&Entry) -> u64) -> usize {
    let (fours, _) = plain.as_chunks::<4>();
    let all = |[a, b, c, d]: &[Entry; 4]| differs(a) | differs(b) | differs(c) | differs(d) == 0;
    let same = 4 * fours.iter().take_while(|four| all(four)).count();
    let rest = plain.get(same..).unwrap_or_default();
    same + rest.iter().take_while(|entry| differs(entry) == 0).count()
}
