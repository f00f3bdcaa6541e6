//! Which thread an address on a stack belongs to: every thread that is known, with its stack and its alternate stack.
//!
//! Threads write their own place when they start and clear it when they end; whoever installs writes for those that were
//! there before. A handler reads at any time, whatever it interrupted, and never waits:
//!
//! * A place is free, taken, or shown. It is taken by one compare-and-swap on its state word, so no two threads write the
//!   same place. A handler that interrupts a writer finds it taken, and passes over it.
//! * A place is freed by a compare-and-swap as well, by its thread or by whoever finds that it is out of date.
//! * The state word counts how often the place was taken. A reader that finds the same state before and after reading the
//!   numbers has read what belongs together; else it passes over the place.
//! * Places are never given back: where all are taken, more are added ([`ThreadStacks::add`]), which live for ever.

use crate::Range;
use crate::remembered::Memory;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

/// Hints where a thread is.
const HINTS: usize = 256;
/// Places in one [`Chunk`].
const PLACES: usize = 64;

/// The thread id of a place that is being written: none is so high.
const TAKEN: u32 = u32::MAX;

/// A thread and its stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadStack {
    /// Its id as the kernel has it.
    pub thread: u32,
    /// Its stack.
    pub stack: Range,
    /// Its alternate stack; from 0 to 0 where none is known.
    pub alternate: Range,
}

impl ThreadStack {
    /// Whether one of its stacks has this address in it.
    pub fn has(&self, address: u64) -> bool {
        [self.stack, self.alternate].iter().any(|range| (range.low..range.high).contains(&address))
    }
}

/// What was written for one thread.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    place: &'static Place,
    state: u64,
}

impl Line {
    /// Takes it out again, unless somebody else has.
    pub fn clear(&self) {
        self.place.clear(self.state);
    }

    /// Gives the thread a memory of its previous trace, `made` if its place has none. To be called by the thread itself.
    pub fn remember(&self, made: impl FnOnce() -> &'static Memory) {
        let memory = self.place.memory().unwrap_or_else(made);
        memory.forget();
        self.place.memory.store(core::ptr::from_ref(memory).cast_mut(), Ordering::Release);
    }
}

/// Room for one thread.
#[derive(Debug)]
struct Place {
    /// The thread's id in the lower half (0: free), how often the place was taken in the upper.
    state: AtomicU64,
    stack: [AtomicU64; 2],
    alternate: [AtomicU64; 2],
    /// What the thread remembers of its previous trace: null, or what stays with the place for ever.
    memory: AtomicPtr<Memory>,
}

impl Place {
    const fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            stack: [const { AtomicU64::new(0) }; 2],
            alternate: [const { AtomicU64::new(0) }; 2],
            memory: AtomicPtr::new(null_mut()),
        }
    }

    fn memory(&self) -> Option<&'static Memory> {
        // SAFETY: null, or what `Line::remember` was given, which lives for ever.
        unsafe { self.memory.load(Ordering::Acquire).as_ref() }
    }

    /// Whether it was free, and is now the caller's to write.
    fn take(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let taken = (state & !LOW) | u64::from(TAKEN);
        // Acquire pairs with the Release in `clear`: the numbers of whoever had it before are written before ours.
        state & LOW == 0 && self.state.compare_exchange(state, taken, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Shows the numbers, in a place that the caller has taken; the state from now on.
    fn show(&self, thread: &ThreadStack) -> u64 {
        // A reader that sees one of the numbers below sees in its second look at the state that the place was taken.
        fence(Ordering::Release);
        for (words, range) in [(&self.stack, thread.stack), (&self.alternate, thread.alternate)] {
            let [low, high] = words;
            low.store(range.low, Ordering::Relaxed);
            high.store(range.high, Ordering::Relaxed);
        }
        let turn = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let state = (turn << 32) | u64::from(thread.thread);
        // Release pairs with the Acquire in `read`: whoever sees this state sees these numbers.
        self.state.store(state, Ordering::Release);
        state
    }

    /// Frees the place, if it still is in this state.
    fn clear(&self, state: u64) {
        // Release: see `take`.
        let _ = self.state.compare_exchange(state, state & !LOW, Ordering::Release, Ordering::Relaxed);
    }

    /// What is in it and its state, if it is shown and stays so.
    fn read(&self) -> Option<(ThreadStack, u64)> {
        // Acquire pairs with the Release in `show`.
        let state = self.state.load(Ordering::Acquire);
        let thread = u32::try_from(state & LOW).ok().filter(|thread| ![0, TAKEN].contains(thread))?;
        let [stack, alternate] = [&self.stack, &self.alternate]
            .map(|[low, high]| Range { low: low.load(Ordering::Relaxed), high: high.load(Ordering::Relaxed) });
        // Pairs with the fence in `show`.
        fence(Ordering::Acquire);
        (self.state.load(Ordering::Relaxed) == state).then_some((ThreadStack { thread, stack, alternate }, state))
    }
}

/// The half of a state that has the thread's id.
const LOW: u64 = 0xffff_ffff;

/// Room for some threads.
#[derive(Debug)]
pub struct Chunk {
    places: [Place; PLACES],
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    /// Room for nobody yet.
    pub const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES], next: AtomicPtr::new(null_mut()) }
    }

    fn next(&self) -> Option<&'static Self> {
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: null, or what `ThreadStacks::add` was given, which lives for ever.
        unsafe { next.as_ref() }
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self::new()
    }
}

/// The threads that are known.
#[derive(Debug)]
pub struct ThreadStacks {
    first: Chunk,
    /// Places that were found by an address like this.
    hints: [AtomicPtr<Place>; HINTS],
}

/// Those of this process, filled by whoever installs a handler.
pub static THREADS: ThreadStacks = ThreadStacks::new();

impl Default for ThreadStacks {
    fn default() -> Self {
        Self::new()
    }
}

impl ThreadStacks {
    /// None.
    pub const fn new() -> Self {
        Self { first: Chunk::new(), hints: [const { AtomicPtr::new(null_mut()) }; HINTS] }
    }

    /// Writes a thread down. None if there is no room: [`ThreadStacks::add`] makes some.
    pub fn claim(&'static self, thread: &ThreadStack) -> Option<Line> {
        let place = self.places().find(|place| place.take())?;
        Some(Line { place, state: place.show(thread) })
    }

    /// Takes out what a thread left that had this stack, or some of it, before its present owner.
    pub fn retire(&'static self, stack: Range) {
        for place in self.places() {
            if let Some((_, state)) =
                place.read().filter(|(old, _)| old.stack.low < stack.high && stack.low < old.stack.high)
            {
                place.clear(state);
            }
        }
    }

    /// Room for more threads.
    pub fn add(&'static self, more: &'static Chunk) {
        let mut last = &self.first;
        loop {
            let more = core::ptr::from_ref(more).cast_mut();
            // Release pairs with the Acquire in `Chunk::next`: an empty chunk is seen as one.
            if last.next.compare_exchange(null_mut(), more, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
            let Some(next) = last.next() else { continue };
            last = next;
        }
    }

    /// The thread on one of whose stacks `address` lies.
    pub fn find(&'static self, address: u64) -> Option<ThreadStack> {
        self.threads().find(|thread| thread.has(address))
    }

    /// The same, with what the thread remembers.
    pub(crate) fn find_with_memory(&'static self, address: u64) -> Option<(ThreadStack, Option<&'static Memory>)> {
        let read = |place: &'static Place| place.read().map(|(thread, _)| thread).filter(|thread| thread.has(address));
        // Where it was found last time: threads ask again and again.
        let hint = self.hints.get(Self::hint(address))?;
        // SAFETY: null, or a place, all of which live for ever.
        let last = unsafe { hint.load(Ordering::Acquire).as_ref() };
        let found = last.and_then(|place| Some((read(place)?, place)));
        let (thread, place) = found.or_else(|| {
            let (thread, place) = self.places().find_map(|place| Some((read(place)?, place)))?;
            hint.store(core::ptr::from_ref(place).cast_mut(), Ordering::Release);
            Some((thread, place))
        })?;
        Some((thread, place.memory()))
    }

    /// Where the place of a thread with such a stack is looked for first: stacks are seldom closer than 64 KiB.
    fn hint(address: u64) -> usize {
        const NEAR: u32 = 16;
        let near = address >> NEAR;
        usize::try_from(near ^ near >> 7).unwrap_or(0) % HINTS
    }

    /// What is known of the thread with this id.
    pub fn of(&'static self, thread: u32) -> Option<ThreadStack> {
        self.threads().find(|known| known.thread == thread)
    }

    /// The threads that are known.
    pub fn threads(&'static self) -> impl Iterator<Item = ThreadStack> {
        self.places().filter_map(|place| Some(place.read()?.0))
    }

    fn places(&'static self) -> impl Iterator<Item = &'static Place> {
        let chunks = core::iter::successors(Some(&self.first), |chunk| chunk.next());
        chunks.flat_map(|chunk| chunk.places.iter())
    }
}
