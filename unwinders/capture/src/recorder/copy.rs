//! What is copied of a recorder's memory, in which order, and how much at most.

use surestack_recorder::layout::{PAGE, annotation, header, mode, slot, state};
use surestack_recorder::{Arena, Geometry};
use surestack_walk::Memory;

/// Annotations that are copied at most.
const ANNOTATIONS: usize = 1024;
/// Thread slots that are looked at.
const SLOTS: usize = 1 << 14;
/// Threads beside the crashed one that are copied at most: half a megabyte of pages.
const OTHERS: usize = 128;
/// Last pages of the crashed thread that are copied, and of another.
const PAGES: [u64; 2] = [2, 1];
/// Slots between two looks at the clock.
const OFTEN: usize = 64;
/// Bytes of a page, as positions count.
const PAGE_BYTES: u64 = PAGE as u64;

/// A recorder's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copying<'m, M> {
    /// What reads it.
    pub memory: &'m M,
    /// Where it begins.
    pub base: u64,
    /// How it is laid out.
    pub geometry: Geometry,
}

/// An offset at which the recorder's memory cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub u64);

/// What of a thread's slot is needed to find its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub index: usize,
    owner: u64,
    pub base: u64,
    began: u64,
    commit: u64,
}

/// What is copied, and until when.
pub(super) struct Order<T, P> {
    /// The crashed thread as slots name it: the thread in the lower half, its process in the upper one.
    pub crashed: u64,
    /// Whether there is time left.
    pub has_time: T,
    /// Takes an offset and what is there.
    pub put: P,
}

impl<'m, M: Memory> Copying<'m, M> {
    /// Of this recorder, read by `memory`.
    pub fn of(arena: &Arena, memory: &'m M) -> Self {
        Self { memory, base: u64::try_from(arena.base().addr()).unwrap_or_default(), geometry: *arena.geometry() }
    }

    /// Copies all of it that is of use. Gives the number of threads with events that were left out.
    pub fn copy<T: Fn() -> bool, P: FnMut(u64, &[u8])>(&self, order: &mut Order<T, P>) -> Result<u64, Unreadable> {
        let mut page = [0; PAGE];
        self.range(0, PAGE, &mut page, &mut order.put)?;
        self.annotations(&mut page, &mut order.put)?;
        // The first word is nobody's, and not counted.
        let used = usize::try_from(self.word(header::SITES_USED)?).unwrap_or(usize::MAX).saturating_add(8);
        let (sites, used) = (self.geometry.sites, used.min(self.geometry.sites_size));
        self.range(sites, sites.saturating_add(used), &mut page, &mut order.put)?;

        let mut others = Newest::new();
        let mut crashed: Option<Slot> = None;
        let taken = usize::try_from(self.word(header::NEXT_THREAD)?).unwrap_or(usize::MAX);
        let taken = taken.min(self.geometry.thread_slots);
        let mut left_out = as_word(taken.saturating_sub(SLOTS));
        for index in 0..self.geometry.thread_slots.min(SLOTS) {
            if index % OFTEN == OFTEN - 1 && !(order.has_time)() {
                left_out = left_out.saturating_add(as_word(taken.min(SLOTS).saturating_sub(index)));
                break;
            }
            let Some(slot) = self.slot(index)? else { continue };
            let lost = if slot.owner == order.crashed {
                // A number may have been an earlier thread's.
                let is_newer = crashed.is_none_or(|crashed| crashed.began <= slot.began);
                let older = if is_newer { crashed.replace(slot) } else { Some(slot) };
                older.is_some_and(|older| !others.add(older.began, older))
            } else {
                !others.add(self.last_time(&slot)?, slot)
            };
            left_out = left_out.saturating_add(u64::from(lost));
        }
        if let Some(slot) = crashed {
            self.thread(&slot, PAGES[0], &mut page, &mut order.put)?;
        }
        for slot in others.slots() {
            if (order.has_time)() {
                self.thread(slot, PAGES[1], &mut page, &mut order.put)?;
            } else {
                left_out = left_out.saturating_add(1);
            }
        }
        Ok(left_out)
    }

    fn annotations(&self, page: &mut [u8; PAGE], put: &mut impl FnMut(u64, &[u8])) -> Result<(), Unreadable> {
        self.ready_annotations().try_for_each(|at| {
            let at = at?;
            self.range(at, at.saturating_add(annotation::SIZE), page, put)
        })
    }

    /// Where annotations are that have a key.
    pub fn ready_annotations(&self) -> impl Iterator<Item = Result<usize, Unreadable>> + '_ {
        let slots = 0..self.geometry.annotation_slots.min(ANNOTATIONS);
        slots.filter_map(|index| {
            let at = self.geometry.annotations.saturating_add(index.saturating_mul(annotation::SIZE));
            match self.word(at.saturating_add(annotation::STATE)) {
                Ok(annotation::READY) => Some(Ok(at)),
                Ok(_) => None,
                Err(unreadable) => Some(Err(unreadable)),
            }
        })
    }

    /// The last slot of a thread.
    pub fn newest(&self, owner: u64) -> Result<Option<Slot>, Unreadable> {
        let mut newest: Option<Slot> = None;
        for index in 0..self.geometry.thread_slots.min(SLOTS) {
            let slot = self.slot(index)?.filter(|slot| slot.owner == owner);
            let is_newer = slot.is_some_and(|slot| newest.is_none_or(|newest| newest.began <= slot.began));
            newest = if is_newer { slot } else { newest };
        }
        Ok(newest)
    }

    /// A thread that has events, or had.
    fn slot(&self, index: usize) -> Result<Option<Slot>, Unreadable> {
        let word = |offset: usize| self.word(self.place(index).saturating_add(offset));
        if word(slot::STATE)? != state::USED {
            return Ok(None);
        }
        let (owner, base, began) = (word(slot::OWNER)?, word(slot::BASE)?, word(slot::BEGAN)?);
        let commit = word(slot::COMMIT)?;
        Ok(Some(Slot { index, owner, base, began, commit }))
    }

    /// When the first record of its last page was written, or it began: which threads are the newest is told by that.
    fn last_time(&self, slot: &Slot) -> Result<u64, Unreadable> {
        let Some(first) = self.last_page(slot)?.filter(|first| *first >= slot.base) else { return Ok(slot.began) };
        let time = self.word(self.ring(slot.index, first).saturating_add(8))?;
        Ok(time.max(slot.began))
    }

    /// The position at which the page begins in which its last record is.
    pub fn last_page(&self, slot: &Slot) -> Result<Option<u64>, Unreadable> {
        let end = self.end(slot)?;
        Ok((end > slot.base).then(|| end.saturating_sub(1) & !(PAGE_BYTES - 1)))
    }

    /// The position at which its last record ends.
    pub fn end(&self, slot: &Slot) -> Result<u64, Unreadable> {
        let is_kept = self.word(header::MODE)? == mode::DROP_NEWEST;
        Ok(if is_kept { slot.commit.min(slot.base.saturating_add(self.ring_size())) } else { slot.commit })
    }

    /// Copies a slot and the last pages of its ring.
    fn thread(
        &self,
        slot: &Slot,
        pages: u64,
        page: &mut [u8; PAGE],
        put: &mut impl FnMut(u64, &[u8]),
    ) -> Result<(), Unreadable> {
        let at = self.place(slot.index);
        // How far it has come is read before everything else: it only grows.
        let now = Slot { commit: self.word(at.saturating_add(slot::COMMIT))?, ..*slot };
        let bytes = page.get_mut(..slot::SIZE).unwrap_or_default();
        self.read(at, bytes)?;
        let commit = bytes.get_mut(slot::COMMIT..).unwrap_or_default();
        commit.iter_mut().zip(now.commit.to_le_bytes()).for_each(|(to, from)| *to = from);
        put(as_word(at), bytes);

        let Some(last) = self.last_page(&now)? else { return Ok(()) };
        for back in 0..pages {
            let Some(first) = last.checked_sub(back.saturating_mul(PAGE_BYTES)) else { break };
            if first.saturating_add(PAGE_BYTES) <= now.base {
                break;
            }
            let from = self.ring(slot.index, first);
            self.read(from, page)?;
            // Whoever took a position a round later was writing there meanwhile.
            let reserve = self.word(at.saturating_add(slot::RESERVE))?;
            if reserve.saturating_sub(first) <= self.ring_size() {
                put(as_word(from), page);
            }
        }
        Ok(())
    }

    /// Where a slot is.
    fn place(&self, index: usize) -> usize {
        self.geometry.threads.saturating_add(index.saturating_mul(slot::SIZE))
    }

    /// Where a position of a ring is.
    pub fn ring(&self, index: usize, position: u64) -> usize {
        let ring = self.geometry.rings.saturating_add(index.saturating_mul(self.geometry.ring_size));
        let within = position.checked_rem(self.ring_size()).and_then(|within| usize::try_from(within).ok());
        ring.saturating_add(within.unwrap_or_default())
    }

    fn ring_size(&self) -> u64 {
        as_word(self.geometry.ring_size)
    }

    /// Copies from one offset to another, a page at a time.
    fn range(
        &self,
        mut at: usize,
        end: usize,
        page: &mut [u8; PAGE],
        put: &mut impl FnMut(u64, &[u8]),
    ) -> Result<(), Unreadable> {
        while at < end {
            let bytes = page.get_mut(..end.saturating_sub(at).min(PAGE)).unwrap_or_default();
            self.read(at, bytes)?;
            put(as_word(at), bytes);
            at = at.saturating_add(bytes.len().max(1));
        }
        Ok(())
    }

    pub fn word(&self, at: usize) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), Unreadable> {
        let at = as_word(at);
        self.memory.read(self.base.wrapping_add(at), into).map_err(|_| Unreadable(at))
    }
}

/// The threads that wrote last, the last one first.
struct Newest {
    slots: [Option<(u64, Slot)>; OTHERS],
}

impl Newest {
    const fn new() -> Self {
        Self { slots: [None; OTHERS] }
    }

    /// Adds one that wrote at this time. Says whether nobody was left out for that.
    fn add(&mut self, time: u64, slot: Slot) -> bool {
        let mut falls = Some((time, slot));
        let is_older = |there: &Option<(u64, Slot)>| there.is_none_or(|(other, _)| other < time);
        let at = self.slots.iter().position(is_older).unwrap_or(OTHERS);
        for place in self.slots.iter_mut().skip(at) {
            core::mem::swap(place, &mut falls);
        }
        falls.is_none()
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten().map(|(_, slot)| slot)
    }
}

fn as_word(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
