//! A thread's ring in shared memory, as its thread writes it.

use crate::arena::Arena;
use crate::layout::slot;
use crate::local;
use crate::ring::{Ring, Word};
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes between what was interrupted and its handler at least, on one stack: the frame of a signal has the registers, of which
/// those for floating point alone take as many (`FXSAVE`; more on aarch64).
const SIGNAL_FRAME: u64 = 512;
/// Stacks are not taken for one where they lie further apart.
const SAME_STACK: u64 = 1 << 20;

/// The ring of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    slot: *const u8,
    ring: *const u8,
    size: u64,
    mode: u64,
    /// The word that says which process this is, and what it said.
    own: *const AtomicU64,
    number: u64,
}

impl Shared {
    /// The ring of the slot with this index, which is one, for the process with this number, in an arena that began at `base`
    /// when that number was looked at.
    #[inline(always)]
    pub fn of(arena: &'static Arena, base: *mut u8, index: usize, number: u64) -> Self {
        debug_assert!(index < arena.geometry().thread_slots);
        // SAFETY: both lie in the mapping: the index is one.
        let (slot, ring) = unsafe { (base.add(arena.slot(index)), base.add(arena.ring(index))) };
        let (size, mode, own) = (arena.geometry().ring_size as u64, arena.mode(), core::ptr::from_ref(arena.own()));
        Self { slot, ring, size, mode, own, number }
    }

    #[inline(always)]
    fn word(&self, word: Word) -> &AtomicU64 {
        let offset = match word {
            Word::Reserve => slot::RESERVE,
            Word::Commit => slot::COMMIT,
            Word::Nest => slot::NEST,
            Word::Dropped => slot::DROPPED,
            Word::Refused => slot::REFUSED,
            Word::Left => slot::LEFT,
        };
        self.at(offset)
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: a word of the slot, which is mapped for ever.
        unsafe { &*self.slot.add(offset).cast() }
    }

    #[inline(always)]
    fn place(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the size is a power of two, so this is a word of the ring, which is mapped for ever.
        unsafe { &*self.ring.add((position & (self.size - 1)) as usize).cast() }
    }
}

impl Ring for Shared {
    #[inline(always)]
    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
        // For handlers of this thread, in the order of the program.
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn add(&self, word: Word, value: u64) -> u64 {
        local::add(self.word(word), value)
    }

    #[inline(always)]
    fn publish(&self, word: Word, value: u64) {
        // Pairs with the Acquire of whoever reads `commit` first: the records below it are whole.
        self.word(word).store(value, Ordering::Release);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn taken(&self) {
        // Pairs with the Acquire fence of a reader before it reads `reserve` again: who saw a word that was put behind this
        // sees that its position was taken.
        fence(Ordering::Release);
    }

    #[inline(always)]
    fn put(&self, position: u64, value: u64) {
        self.place(position).store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    fn finish(&self, position: u64, head: u64) {
        // Whoever reads this head by Acquire reads what belongs to it.
        self.place(position).store(head, Ordering::Release);
    }

    #[inline(always)]
    fn size(&self) -> u64 {
        self.size
    }

    #[inline(always)]
    fn mode(&self) -> u64 {
        self.mode
    }

    fn base(&self) -> u64 {
        self.at(slot::BASE).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn is_own(&self) -> bool {
        // SAFETY: valid for ever, as whoever made the arena promised.
        unsafe { (*self.own).load(Ordering::Relaxed) == self.number }
    }

    fn is_left(&self, outer: u64, sp: u64) -> bool {
        // What interrupts runs a frame below what it interrupted, if it is on the same stack.
        let below = outer.wrapping_sub(sp & !15);
        if (SIGNAL_FRAME..SAME_STACK).contains(&below) {
            return false;
        }
        let mut alternate = libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
        // SAFETY: only asks. It cannot fail, so errno stays.
        if unsafe { libc::sigaltstack(core::ptr::null(), &mut alternate) } != 0 {
            return false;
        }
        let low = alternate.ss_sp.addr() as u64;
        let is_alternate = |sp: u64| sp.checked_sub(low).is_some_and(|above| above < alternate.ss_size as u64);
        let is_gone = below < SIGNAL_FRAME || sp.wrapping_sub(outer) < SAME_STACK;
        match (alternate.ss_flags & libc::SS_ONSTACK != 0, is_alternate(outer)) {
            // A handler here, and the writer on the stack that it interrupted.
            (true, false) => false,
            // It ran on the alternate stack, and nothing does any more.
            (false, true) => alternate.ss_flags & libc::SS_DISABLE == 0,
            (true, true) | (false, false) => is_gone,
        }
    }
}
