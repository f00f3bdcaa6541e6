//! The frames of the crashed thread that are shown as text: the first and the last of them.

use surestack_reliable::Noted;
use surestack_walk::{CodeAddress, FoundBy, Link};

/// Frames kept from the innermost on.
const FIRST: usize = 160;
/// Frames kept up to the outermost.
const LAST: usize = 32;
/// Longest recursion that is recognised, in functions.
const PERIOD: usize = 24;

/// A frame as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Its number.
    pub index: usize,
    /// Its pc.
    pub pc: CodeAddress,
    /// What lies between it and its callee.
    pub link: Link,
    /// How it was found.
    pub found_by: FoundBy,
}

const NOTHING: Shown = Shown { index: 0, pc: CodeAddress::Exact(0), link: Link::Call, found_by: FoundBy::Context };

/// Frames of one trace.
pub struct Kept {
    first: [Shown; FIRST],
    last: [Shown; LAST],
    count: usize,
}

impl Kept {
    /// None yet.
    pub const fn new() -> Self {
        Self { first: [NOTHING; FIRST], last: [NOTHING; LAST], count: 0 }
    }

    /// Keeps the next frame.
    pub fn push(&mut self, frame: &Noted) {
        let index = self.count;
        let shown = Shown { index, pc: frame.pc, link: frame.link, found_by: frame.found_by };
        let place = match index.checked_sub(FIRST) {
            None => self.first.get_mut(index),
            Some(later) => self.last.get_mut(later % LAST),
        };
        if let Some(place) = place {
            *place = shown;
        }
        self.count = index.saturating_add(1);
    }

    /// How many frames there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The frames that were kept, innermost first. Where some are missing their numbers make a leap.
    pub fn frames(&self) -> impl Iterator<Item = &Shown> {
        let later = self.count.saturating_sub(FIRST);
        let oldest = if later > LAST { later % LAST } else { 0 };
        let (newer, older) = self.last.split_at_checked(oldest).unwrap_or_default();
        let last = older.iter().chain(newer).take(later.min(LAST));
        self.first.iter().take(self.count.min(FIRST)).chain(last)
    }

    /// The frame of this number, if it was kept among the first.
    pub fn get(&self, index: usize) -> Option<&Shown> {
        self.first.get(index).filter(|_| index < self.count)
    }

    /// How many frames make one round of the recursion that fills the stack: none where there is none.
    pub fn recursion(&self) -> Option<usize> {
        let kept = self.count.min(FIRST);
        // The innermost frames may have been on their way out of the round.
        let begin = kept.checked_sub(2 * PERIOD).filter(|begin| *begin >= PERIOD)?;
        let pc = |index: usize| self.get(index).map(|frame| frame.pc);
        (1..=PERIOD)
            .find(|period| (begin..kept.saturating_sub(*period)).all(|at| pc(at) == pc(at.saturating_add(*period))))
    }
}
