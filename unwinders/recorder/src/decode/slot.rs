//! A thread's slot: who it was, and which positions of its ring can be shown.

use super::{Header, readable, until_zero, word};
use crate::layout::{PAGE, mode, slot, state};
use core::fmt;
use core::ops::Range;

/// A thread's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// [`state`].
    pub state: u64,
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
    /// The first position that is its own.
    pub base: u64,
    /// When it took the slot, in nanoseconds of the monotonic clock.
    pub began: u64,
    /// The number of its process among those that wrote.
    pub generation: u64,
    /// Positions below are taken.
    pub reserve: u64,
    /// Positions below are whole.
    pub commit: u64,
    /// Writers that were under way, each interrupted by the next.
    pub writing: u64,
    /// Events dropped because the ring was full.
    pub dropped: u64,
    /// Events refused because of nesting.
    pub refused: u64,
    /// Writers that never ended.
    pub left: u64,
    name: [u8; 16],
}

/// Why positions of a slot cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// Its state is none.
    State(u64),
    /// A position is not at a word.
    Unaligned(u64),
    /// More is whole than was taken: so much, and so much.
    Commit(u64, u64),
    /// It begins behind what was taken.
    Base(u64, u64),
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "its state is {state:#x}"),
            Self::Unaligned(position) => write!(f, "its position {position:#x} is not at a word"),
            Self::Commit(commit, reserve) => write!(f, "it has committed {commit:#x}, and taken only {reserve:#x}"),
            Self::Base(base, reserve) => write!(f, "it begins at {base:#x}, and has taken only {reserve:#x}"),
        }
    }
}

impl Slot {
    /// Reads it; nothing where there are fewer bytes than it has.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..slot::SIZE)?;
        let at = |offset| word(bytes, offset);
        let owner = at(slot::OWNER)?;
        Some(Self {
            state: at(slot::STATE)?,
            pid: u32::try_from(owner >> 32).ok()?,
            tid: u32::try_from(owner & u64::from(u32::MAX)).ok()?,
            base: at(slot::BASE)?,
            began: at(slot::BEGAN)?,
            generation: at(slot::GENERATION)?,
            reserve: at(slot::RESERVE)?,
            commit: at(slot::COMMIT)?,
            writing: at(slot::NEST)? & slot::NEST_BITS,
            dropped: at(slot::DROPPED)?,
            refused: at(slot::REFUSED)?,
            left: at(slot::LEFT)?,
            name: *bytes.get(slot::NAME..)?.first_chunk()?,
        })
    }

    /// Whether a thread has it, or had it when it ended.
    pub fn is_used(&self) -> bool {
        self.state == state::USED
    }

    /// Its name; nothing where it has none.
    pub fn name(&self) -> Option<&str> {
        Some(readable(until_zero(&self.name))).filter(|name| !name.is_empty())
    }

    /// Whether both are the same thread's, at the same time of its life or not.
    pub fn is_of(&self, other: &Self) -> bool {
        let who = |slot: &Self| (slot.state, slot.pid, slot.tid, slot.base, slot.began, slot.generation);
        who(self) == who(other)
    }

    /// Positions whose records are whole, and not overwritten as far as this slot knows.
    ///
    /// # Errors
    /// Where there are no such positions, since what it says cannot be.
    pub fn shown(&self, header: &Header) -> Result<Range<u64>, Unsound> {
        if self.state > state::USED {
            return Err(Unsound::State(self.state));
        }
        if let Some(position) = [self.base, self.reserve, self.commit].into_iter().find(|position| position % 8 != 0) {
            return Err(Unsound::Unaligned(position));
        }
        if self.commit > self.reserve {
            return Err(Unsound::Commit(self.commit, self.reserve));
        }
        if self.base > self.reserve {
            return Err(Unsound::Base(self.base, self.reserve));
        }
        let from = self.base.max(self.oldest(header));
        let to = self.commit.min(self.limit(header));
        Ok(from.min(to)..to)
    }

    /// Positions that were taken, not committed and not overwritten. Where nobody writes any more, what is whole there is of
    /// handlers that interrupted an event that was never finished.
    pub fn uncommitted(&self, header: &Header) -> Range<u64> {
        let to = self.reserve.min(self.limit(header));
        let from = self.commit.max(self.base).max(self.oldest(header));
        from.min(to)..to
    }

    /// The first position that the ring still holds: taking one in a page drops what was there a round ago.
    pub fn oldest(&self, header: &Header) -> u64 {
        match (self.reserve.checked_sub(1), header.mode) {
            (Some(last), mode::OVERWRITE) => {
                let page = last & !(PAGE as u64 - 1);
                page.saturating_add(PAGE as u64).saturating_sub(header.ring_size)
            }
            _ => 0,
        }
    }

    /// Bytes that were taken and never committed: of writers that are under way, or were when they were killed.
    pub fn open(&self, header: &Header) -> u64 {
        let limit = self.limit(header);
        self.reserve.min(limit).saturating_sub(self.commit.max(self.base).min(limit))
    }

    /// Where its ring ends.
    fn limit(&self, header: &Header) -> u64 {
        match header.mode {
            mode::OVERWRITE => u64::MAX,
            _ => self.base.saturating_add(header.ring_size),
        }
    }
}

#[cfg(test)]
mod tests;
