//! The stacks on which reports are made. A thread's alternate stack may be as small as the kernel allows, so the entry
//! leaves it for one of these, which were made at install.
//!
//! Each has its recursion word with it: who is on it, and how deep. A fault of ours finds it from its stack pointer, and so
//! knows that it happened inside a report, without any storage of the thread's.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A stack of ours, with what has to be known about whoever is on it.
#[derive(Debug)]
pub struct HandlerStack {
    /// The thread that is on it; 0 for nobody.
    owner: AtomicU32,
    low: usize,
    high: usize,
    /// Stack pointer of the attempt that is being made on it; 0 for none.
    attempt: AtomicUsize,
    /// Faults that happened on it.
    faults: AtomicU32,
    /// Signals that were sent to whoever was on it, and dropped.
    dropped: AtomicU32,
    /// The last fault: signal, code, address, pc.
    last: [AtomicU64; 4],
}

/// A fault inside one of our own steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// `si_signo`.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// The fault address, for those signals that have one.
    pub address: u64,
    /// Where in our code it was.
    pub pc: u64,
}

impl HandlerStack {
    /// A stack from `low` to `high`, which is not in it.
    ///
    /// # Safety
    /// It is mapped, writable and nobody else's, for ever. Below it lies a page that cannot be accessed.
    pub const unsafe fn new(low: usize, high: usize) -> Self {
        Self {
            owner: AtomicU32::new(0),
            low,
            high,
            attempt: AtomicUsize::new(0),
            faults: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            last: [const { AtomicU64::new(0) }; 4],
        }
    }

    /// Lowest address.
    pub fn low(&self) -> usize {
        self.low
    }

    /// One past the highest address.
    pub fn high(&self) -> usize {
        self.high
    }

    /// Whether a stack pointer is on it.
    pub fn holds(&self, sp: usize) -> bool {
        (self.low..=self.high).contains(&sp)
    }

    /// Takes it for a thread, if nobody has it.
    pub(crate) fn claim(&self, thread: u32) -> bool {
        // Acquire: what its last user left is seen, and overwritten.
        let claimed = self.owner.compare_exchange(0, thread.max(1), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if claimed {
            self.attempt.store(0, Ordering::Relaxed);
            self.faults.store(0, Ordering::Relaxed);
            self.dropped.store(0, Ordering::Relaxed);
        }
        claimed
    }

    /// Gives it back: nobody is on it any more.
    pub(crate) fn release(&self) {
        self.owner.store(0, Ordering::Release);
    }

    /// Where [`crate::attempt`] keeps its stack pointer.
    pub(crate) fn attempt_word(&self) -> &AtomicUsize {
        &self.attempt
    }

    /// Keeps what happened to an attempt. Returns how many faults there were on this stack.
    pub(crate) fn note(&self, fault: Fault) -> u32 {
        let bits = |value: i32| u64::from(value.cast_unsigned());
        let words = [bits(fault.signal), bits(fault.code), fault.address, fault.pc];
        self.last.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
        self.faults.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The last fault.
    pub(crate) fn fault(&self) -> Fault {
        let [signal, code, address, pc] =
            [0, 1, 2, 3].map(|at: usize| self.last.get(at).map_or(0, |word| word.load(Ordering::Relaxed)));
        let number = |bits: u64| u32::try_from(bits).unwrap_or_default().cast_signed();
        Fault { signal: number(signal), code: number(code), address, pc }
    }

    /// Counts a signal that came during a report and is not answered.
    pub(crate) fn drop_signal(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of them there were.
    pub(crate) fn dropped(&self) -> u32 {
        self.dropped.load(Ordering::Relaxed)
    }
}
