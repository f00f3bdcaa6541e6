//! A thread's previous trace, and who has it: the thread, or a handler that interrupted it.
//!
//! Only one thread ever comes here. A handler that interrupts it half-way finds it taken and does without. Whoever took it and
//! never came back (a handler that was left with `siglongjmp`) had a frame that is gone: the stack pointer of the next one who
//! asks is above his. What he left may be half written, and is forgotten.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use surestack_fast::Remembered;

/// The memory of one thread.
#[derive(Debug)]
pub struct Memory {
    /// The stack pointer of whoever has it; 0 for nobody.
    owner: AtomicU64,
    previous: UnsafeCell<Remembered>,
}

// SAFETY: who has set `owner` alone is at the rest, on the one thread that this belongs to.
unsafe impl Sync for Memory {}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Of nothing.
    pub const fn new() -> Self {
        Self { owner: AtomicU64::new(0), previous: UnsafeCell::new(Remembered::new()) }
    }

    /// For the next thread.
    pub(crate) fn forget(&self) {
        // Taken by nobody's stack pointer: whoever comes next forgets what is in it.
        self.owner.store(1, Ordering::Relaxed);
    }

    /// Does something with the previous trace, if nobody is at it. `sp` is the stack pointer of whoever asks, on the stack
    /// that begins at `low`.
    ///
    /// # Safety
    /// The calling thread is the one that this belongs to.
    #[inline(always)]
    pub(crate) unsafe fn with<T>(&self, sp: u64, low: u64, work: impl FnOnce(Option<&mut Remembered>) -> T) -> T {
        let owner = self.owner.load(Ordering::Relaxed);
        let is_gone = owner != 0 && (owner < sp && owner >= low || owner == 1);
        if owner != 0 && !is_gone {
            return work(None);
        }
        self.owner.store(sp, Ordering::Relaxed);
        // A handler that interrupts us from here on finds it taken.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: this is the only thread that comes here, and handlers that interrupt it see that it is taken.
        let previous = unsafe { &mut *self.previous.get() };
        if is_gone {
            previous.forget();
        }
        let done = work(Some(previous));
        compiler_fence(Ordering::SeqCst);
        self.owner.store(0, Ordering::Relaxed);
        done
    }
}
