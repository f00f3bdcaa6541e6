//! How a thread comes to a slot of its own: when it first writes, wherever that is.
//!
//! Its thread-local word says which slot it has, and of which process: in a forked child the process's own word is zero
//! (`MADV_WIPEONFORK`), so that the child takes slots of its own and leaves its parent's alone.
//!
//! ```text
//!    63                  32 31              0
//!   ┌──────────────────────┬─────────────────┐
//!   │ number of the process │ slot, plus one  │   slot u32::MAX: there was none
//!   └──────────────────────┴─────────────────┘
//! ```

use crate::arena::Arena;
use crate::layout::{PAGE, header, slot, state};
use crate::local;
use crate::shared::Shared;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

/// There was no slot for this thread.
const NONE: u64 = 0xffff_ffff;
/// Slots that are looked at for one whose thread has ended.
const LOOKED_AT: usize = 64;
/// A thread without a slot asks again after so many events.
const AGAIN: u64 = 256;

impl Arena {
    /// This thread's ring.
    #[inline(always)]
    pub(crate) fn own_ring(&'static self) -> Option<Shared> {
        let base = self.looked_at();
        let place = local::place().load(Ordering::Relaxed);
        let (own, index) = (self.own().load(Ordering::Relaxed), place & NONE);
        if place >> 32 == own && index.wrapping_sub(1) < NONE - 1 {
            return Some(Shared::of(self, base, (index.wrapping_sub(1)) as usize, own));
        }
        self.first(place)
    }

    /// Where the arena begins, before it is looked at whose process this is: a handler that forks behind this leaves a child
    /// that goes on at the old place, which is nobody's; one before it a child that finds that it is one.
    #[inline(always)]
    fn looked_at(&self) -> *mut u8 {
        let base = self.base();
        compiler_fence(Ordering::SeqCst);
        base
    }

    #[cold]
    fn first(&'static self, place: u64) -> Option<Shared> {
        let base = self.looked_at();
        let own = self.own_number();
        if place == own << 32 | NONE && !self.word(header::UNPLACED).load(Ordering::Relaxed).is_multiple_of(AGAIN) {
            return None;
        }
        // SAFETY: no more than a number.
        let process = u64::from(unsafe { libc::getpid() }.cast_unsigned());
        let settled = self.settled().load(Ordering::Relaxed);
        if settled != 0 && settled != process {
            // It borrows the memory of the thread that waits for it (`vfork`), and its word: a slot would be in its name, and
            // that thread's from then on.
            return None;
        }
        // SAFETY: errno is this thread's own. What was interrupted may be about to look at it.
        let errno = unsafe { *libc::__errno_location() };
        let claimed = self.claim(own);
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };

        let mine = own << 32 | claimed.map_or(NONE, |index| index as u64 + 1);
        let word = local::place();
        let Err(other) = word.compare_exchange(place, mine, Ordering::Relaxed, Ordering::Relaxed) else {
            return claimed.map(|index| Shared::of(self, base, index, own));
        };
        // A handler in between has written, and so has a slot. It can be the very one: it was of a thread that asked for one.
        let theirs =
            usize::try_from((other & NONE).wrapping_sub(1)).ok().filter(|index| *index < self.geometry().thread_slots);
        match (theirs, claimed) {
            (None, Some(index)) => {
                // It found none, since this one was not done yet.
                word.store(mine, Ordering::Relaxed);
                return Some(Shared::of(self, base, index, own));
            }
            (Some(kept), Some(index)) if kept != index => {
                self.word(self.slot(index) + slot::STATE).store(state::FREE, Ordering::Release);
            }
            _ => {}
        }
        theirs.map(|index| Shared::of(self, base, index, own))
    }

    /// The number of this process, which is not 0 and fits 32 bits.
    fn own_number(&self) -> u64 {
        let known = self.own().load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let next = (self.count(header::PROCESSES) % (NONE - 1)).saturating_add(1);
        match self.own().compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(other) => other,
        }
    }

    /// Takes a slot that nobody has had, or else one whose thread has ended.
    fn claim(&'static self, own: u64) -> Option<usize> {
        let slots = self.geometry().thread_slots;
        // SAFETY: no more than the number of a process, and of a thread.
        let (process, thread) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid)) };
        let owner = u64::from(process.cast_unsigned()) << 32 | thread.cast_unsigned() & NONE;
        let next = usize::try_from(self.count(header::NEXT_THREAD)).unwrap_or(usize::MAX);
        if next < slots && self.take(next, state::FREE) {
            return self.begin(next, owner, own);
        }
        if slots == 0 {
            return None;
        }
        for index in (0..slots.min(LOOKED_AT)).map(|more| next.wrapping_add(more) % slots) {
            let was = self.word(self.slot(index) + slot::STATE).load(Ordering::Acquire);
            let is_free = was == state::FREE && index < next || was == state::USED && self.has_ended(index, owner);
            if is_free && self.take(index, was) {
                if local::place().load(Ordering::Relaxed) == own << 32 | (index as u64 + 1) {
                    // A handler in between took it first, and has written: it is this thread's already.
                    self.word(self.slot(index) + slot::STATE).store(was, Ordering::Release);
                    return None;
                }
                if was == state::USED {
                    self.count(header::REUSED);
                }
                return self.begin(index, owner, own);
            }
        }
        self.count(header::THREADS_REFUSED);
        None
    }

    fn take(&self, index: usize, was: u64) -> bool {
        let word = self.word(self.slot(index) + slot::STATE);
        // Acquire pairs with the Release of whoever gave it back.
        word.compare_exchange(was, state::CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether the thread that has a slot is not there any more.
    fn has_ended(&self, index: usize, asks: u64) -> bool {
        let owner = self.word(self.slot(index) + slot::OWNER).load(Ordering::Relaxed);
        // A thread that asks for a slot has none: who had this number before is gone.
        if owner == asks {
            return true;
        }
        let (process, thread) = ((owner >> 32) as libc::c_long, (owner & NONE) as libc::c_long);
        // SAFETY: signal 0 is sent to nobody.
        let there = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0 as libc::c_long) };
        // SAFETY: this thread's own.
        there != 0 && unsafe { *libc::__errno_location() } == libc::ESRCH
    }

    /// Makes the slot this thread's.
    fn begin(&'static self, index: usize, owner: u64, own: u64) -> Option<usize> {
        let at = self.slot(index);
        let word = |offset: usize| self.word(at + offset);
        if !self.populate(index) {
            self.count(header::NO_SPACE);
            word(slot::STATE).store(state::FREE, Ordering::Release);
            return None;
        }
        let page = PAGE as u64;
        let base = word(slot::RESERVE).load(Ordering::Relaxed).wrapping_add(page - 1) & !(page - 1);
        word(slot::OWNER).store(owner, Ordering::Relaxed);
        word(slot::BASE).store(base, Ordering::Relaxed);
        word(slot::BEGAN).store(now(), Ordering::Relaxed);
        word(slot::GENERATION).store(own, Ordering::Relaxed);
        for (offset, value) in [(slot::RESERVE, base), (slot::COMMIT, base), (slot::NEST, 0)] {
            word(offset).store(value, Ordering::Relaxed);
        }
        for counter in [slot::DROPPED, slot::REFUSED, slot::LEFT] {
            word(counter).store(0, Ordering::Relaxed);
        }
        let name = AtomicName(word(slot::NAME), word(slot::NAME + 8));
        name.set();
        // Pairs with the Acquire of a reader: a used slot says whose it is.
        word(slot::STATE).store(state::USED, Ordering::Release);
        Some(index)
    }

    /// Has the kernel find room for the ring, so that no write into it can fail; it goes into core files from now on.
    fn populate(&self, index: usize) -> bool {
        const POPULATE_WRITE: libc::c_int = 23;
        const DODUMP: libc::c_int = 17;
        // SAFETY: the ring lies in the mapping.
        let ring = unsafe { self.base().add(self.ring(index)) }.cast();
        let size = self.geometry().ring_size;
        // SAFETY: changes nothing in the memory but that it is there.
        let refused = unsafe { libc::madvise(ring, size, POPULATE_WRITE) } != 0;
        // SAFETY: this thread's own. Older kernels do not know it (EINVAL): whoever started the recorder has seen to the room.
        if refused && unsafe { *libc::__errno_location() } != libc::EINVAL {
            return false;
        }
        // SAFETY: as above. Where it is refused, a core has less.
        unsafe { libc::madvise(ring, size, DODUMP) };
        true
    }
}

/// Where a thread's name goes.
struct AtomicName<'a>(&'a AtomicU64, &'a AtomicU64);

impl AtomicName<'_> {
    fn set(&self) {
        let mut name = [0_u8; 16];
        // SAFETY: the kernel writes at most 16 bytes.
        let named = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) } == 0;
        let (words, _) = name.as_chunks::<8>();
        for (place, word) in [self.0, self.1].into_iter().zip(words).filter(|_| named) {
            place.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
    }
}

/// Nanoseconds of the monotonic clock, from the kernel's page without a system call where there is one.
#[inline(always)]
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes there and nowhere else.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Geometry;
    use crate::layout::{SMALLEST_RING, mode};
    use std::boxed::Box;
    use std::vec;

    #[test]
    fn processes_have_different_numbers_and_none_is_zero() {
        let geometry = Geometry::new(1, SMALLEST_RING, 4096, 1).unwrap();
        let memory = Box::leak(vec![0_u64; geometry.size / 8].into_boxed_slice());
        let own = Box::leak(Box::new([const { AtomicU64::new(0) }; 2]));
        // SAFETY: all of it is leaked, and nobody else knows it.
        let arena = unsafe { Arena::new(memory.as_mut_ptr().cast(), geometry, mode::OVERWRITE, own) };
        let forked = [(); 3].map(|()| {
            arena.own().store(0, Ordering::Relaxed);
            arena.own_number()
        });
        assert_eq!(forked, [1, 2, 3]);
    }
}
