//! The loop.

mod again;
mod step;

use crate::Rules;
use crate::cache::{Base, Cache, Found, Generation, Key, NOT_SAVED};
use crate::remembered::{Arrival, Forgetful, Recall, Remembered, Used};
use core::ops::ControlFlow;
use surestack_walk::{
    CodeAddress, End, Error, FoundBy, Frame, Link, Register, Regs, Root, RowSource, Stack, Target, Unwinder, Walk,
};

/// Bytes of a word.
const WORD: u64 = 8;
/// Signal frames, or steps of the full walk to a lower address, after which that goes on alone: it counts how often a walk
/// descends.
const SIGNALS: u32 = 32;

/// Words of the stacks that a target names.
pub trait Words {
    /// The word at an address that is a multiple of 8 and lies, with the word, on a stack that [`Target::stacks`] found from
    /// the stack pointer of a frame that the walk arrived at, above that stack pointer.
    fn word(&self, address: u64) -> Option<u64>;
}

/// A frame, without its other registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its pc.
    pub pc: CodeAddress,
    /// Its stack pointer, where it is known.
    pub sp: Option<u64>,
    /// What lies between it and its callee.
    pub link: Link,
    /// Canonical frame address of its callee.
    pub callee_cfa: Option<u64>,
    /// Where the return address that leads here lay.
    pub return_slot: Option<u64>,
    /// How it was found.
    pub found_by: FoundBy,
}

impl Passed {
    /// A frame of the full walk.
    pub fn of(target: &Target<'_>, frame: &Frame<'_>) -> Self {
        Self {
            pc: frame.pc,
            sp: frame.regs.get(target.arch.sp),
            link: frame.link,
            callee_cfa: frame.callee_cfa,
            return_slot: frame.return_slot,
            found_by: frame.found_by,
        }
    }
}

/// Takes frames as they come, innermost first.
pub trait Take {
    /// The next one. Breaks off where no more are wanted.
    fn take(&mut self, frame: Passed) -> ControlFlow<()>;

    /// Where pcs of frames that are called can be written, one after the other, if nothing else is kept of them.
    #[inline(always)]
    fn room(&mut self) -> Option<&mut [u64]> {
        None
    }

    /// That so many were written there.
    #[inline(always)]
    fn took(&mut self, _count: usize) {}

    /// The next ones, called, each with its pc and stack pointer. How many of them were wanted.
    #[inline(always)]
    fn take_called(&mut self, frames: impl ExactSizeIterator<Item = (u64, u64)>) -> usize {
        let mut taken = 0;
        for (pc, sp) in frames {
            if self.take(called(pc, sp)).is_break() {
                break;
            }
            taken += 1;
        }
        taken
    }
}

/// What a chase goes over.
pub struct Ground<'g, R, W> {
    /// The thread, as the full walk sees it. Its registry names no roots.
    pub target: &'g Target<'g>,
    /// The unwinders of the full walk. The first two that have something to say are what `rules` speak for.
    pub unwinders: &'g [&'g dyn Unwinder],
    /// Most frames.
    pub budget: usize,
    /// Rules that are remembered; of nobody else's modules.
    pub cache: &'g Cache,
    /// Those that are not.
    pub rules: R,
    /// The stacks' words.
    pub words: W,
}

/// Where a chase begins.
pub struct Start<F> {
    /// The interrupted pc.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// The stack it is on.
    pub stack: Stack,
    /// All registers, for frames that need more.
    pub regs: F,
}

/// What a rule is followed from.
#[derive(Clone, Copy)]
pub(crate) struct State {
    pub key: Key,
    pub sp: u64,
    pub fp: u64,
}

impl State {
    fn pc(&self) -> CodeAddress {
        let bits = self.key.bits();
        if bits & Key::EXACT == 0 { CodeAddress::Return(bits) } else { CodeAddress::Exact(bits & !Key::EXACT) }
    }

    /// Of a frame of the full walk, where all that is known.
    fn of(arch_sp: Register, arch_fp: Register, regs: &Regs) -> Option<Self> {
        let key = match regs.pc()? {
            CodeAddress::Exact(pc) => Key::of_exact(pc)?,
            CodeAddress::Return(pc) => Key::of_return(pc)?,
        };
        Some(Self { key, sp: regs.get(arch_sp)?, fp: regs.get(arch_fp)? })
    }
}

/// Why the loop stopped behind a frame.
enum Stopped {
    /// Its rule is none of the usual.
    Other,
    /// The rule of its caller, to which this led, is not remembered.
    Miss(Arrival),
    /// The full walk must say.
    Unsaid,
    /// The previous trace came to it as well, at this place.
    Met(usize),
    /// No more frames are wanted than those before.
    Full,
}

/// What one step came to.
enum Next {
    /// The caller, called.
    Called(State, Arrival),
    /// What a signal interrupted, and where it was found.
    Interrupted(State, Arrival, Passed),
    /// An outermost frame.
    Root(Root),
    /// The full walk must say.
    Unsaid,
}

/// A chase.
pub struct Chase<'c, 'g, R, W, F> {
    ground: &'c Ground<'g, R, W>,
    start: &'c Start<F>,
    /// The walk that lags behind, once it was needed.
    walk: Option<Walk<'g>>,
    stack: Stack,
    generation: Generation,
    /// How often the modules had changed; none where nothing is to be remembered.
    changes: Option<u64>,
    index: usize,
    signals: u32,
}

impl<'c, 'g, R: Rules, W: Words, F: Fn() -> Regs> Chase<'c, 'g, R, W, F> {
    /// Over `ground`, from `start`.
    pub fn new(ground: &'c Ground<'g, R, W>, start: &'c Start<F>) -> Self {
        let count = ground.target.modules.generation();
        // Odd while they are being changed, and readers still have those of before.
        let changes = count.map(|count| count >> 1);
        Self { ground, start, walk: None, stack: start.stack, generation: tag(count), changes, index: 0, signals: 0 }
    }

    /// The same, looking for each rule anew.
    pub fn without_cache(&mut self) -> &mut Self {
        (self.generation, self.changes) = (Generation::NEVER, None);
        self
    }

    /// Hands frames to `take`, until it has enough or there are no more. None if it had enough.
    pub fn run(&mut self, take: &mut impl Take) -> Option<End> {
        self.with(Forgetful, take)
    }

    /// The same, with the previous trace of the same thread.
    pub fn run_again(&mut self, previous: &mut Remembered, take: &mut impl Take) -> Option<End> {
        match self.changes.and_then(|changes| previous.begin(changes)) {
            Some(memory) => self.with(memory, take),
            None => self.with(Forgetful, take),
        }
    }

    #[inline(always)]
    fn with<M: Recall>(&mut self, mut memory: M, take: &mut impl Take) -> Option<End> {
        let end = self.walk(&mut memory, take);
        memory.finish();
        end
    }

    #[inline(always)]
    fn walk<M: Recall>(&mut self, memory: &mut M, take: &mut impl Take) -> Option<End> {
        let &Start { pc, sp, fp, .. } = self.start;
        let mut arrived = Passed {
            pc: CodeAddress::Exact(pc),
            sp: Some(sp),
            link: Link::Call,
            callee_cfa: None,
            return_slot: None,
            found_by: FoundBy::Context,
        };
        let mut arrival = Arrival { slot: 0, used: Used::Sp };
        let mut state = Key::of_exact(pc).map(|key| State { key, sp, fp });
        loop {
            let found = state.filter(|state| self.stands(state)).and_then(|state| Some((state, self.find(state.key)?)));
            let next = match found {
                Some((state, found)) => {
                    // The first frame costs no step.
                    if self.index > 0 && self.is_spent() {
                        return Some(self.spent());
                    }
                    if take.take(arrived).is_break() {
                        return None;
                    }
                    self.index += 1;
                    match self.along((state, arrival), found, memory, take) {
                        ControlFlow::Continue(next) => next,
                        ControlFlow::Break(()) => return None,
                    }
                }
                None => Next::Unsaid,
            };
            match next {
                Next::Root(_) if self.is_spent() => return Some(self.spent()),
                Next::Root(root) => return Some(End::Root(root)),
                Next::Interrupted(interrupted, by, passed) => {
                    (state, arrival, arrived) = (Some(interrupted), by, passed)
                }
                Next::Called(..) | Next::Unsaid => {
                    memory.stop();
                    match self.catch_up(take) {
                        ControlFlow::Continue(caught) => (state, arrived) = caught,
                        ControlFlow::Break(end) => return end,
                    }
                }
            }
        }
    }

    /// Whether the full walk would make no further step.
    fn is_spent(&self) -> bool {
        self.index >= self.ground.budget
    }

    /// How it says so.
    fn spent(&self) -> End {
        End::Stopped(Error::Budget { frames: self.ground.budget })
    }

    /// Whether a frame's stack pointer is where words can be read from it.
    fn stands(&self, state: &State) -> bool {
        state.sp.is_multiple_of(WORD) && self.stack.low <= state.sp && state.sp <= self.stack.high
    }

    /// Whether a frame of this stack can still be there: below the first frame's stack pointer none is, whatever a forged
    /// signal frame says, and what lies there need not be mapped.
    fn keeps(&self, sp: u64, stack: &Stack) -> bool {
        let first = self.start.sp;
        sp >= first || first < stack.low || stack.high < first
    }

    /// From a frame that was handed over, and the rule at its pc, through all that were called.
    #[inline(always)]
    fn along<M: Recall>(
        &mut self,
        (mut state, arrival): (State, Arrival),
        mut found: Found,
        memory: &mut M,
        take: &mut impl Take,
    ) -> ControlFlow<(), Next> {
        if let Some(again) = self.remember(&state, arrival, memory, take)? {
            let Some(rule) = self.find(again.key) else { return ControlFlow::Continue(Next::Unsaid) };
            (state, found) = (again, rule);
        }
        loop {
            if M::REMEMBERS && found.base() != Base::Other {
                memory.goes_on(&self.ground.words);
            }
            let stopped;
            (state, found, stopped) = self.rush(state, found, memory, take);
            let arrival = match stopped {
                Stopped::Full => return ControlFlow::Break(()),
                Stopped::Unsaid => return ControlFlow::Continue(Next::Unsaid),
                Stopped::Met(met) => {
                    state = self.again(state, met, memory, take)?;
                    let Some(rule) = self.find(state.key) else { return ControlFlow::Continue(Next::Unsaid) };
                    found = rule;
                    continue;
                }
                Stopped::Miss(arrival) => arrival,
                Stopped::Other => match self.step(state, found.rule().unpacked()) {
                    Next::Called(caller, arrival) => {
                        state = caller;
                        arrival
                    }
                    other => return ControlFlow::Continue(other),
                },
            };
            let Some(rule) = self.find(state.key) else { return ControlFlow::Continue(Next::Unsaid) };
            if self.is_spent() {
                return ControlFlow::Continue(Next::Unsaid);
            }
            found = rule;
            take.take(called(state.key.bits(), state.sp))?;
            self.index += 1;
            if let Some(again) = self.remember(&state, arrival, memory, take)? {
                let Some(rule) = self.find(again.key) else { return ControlFlow::Continue(Next::Unsaid) };
                (state, found) = (again, rule);
            }
        }
    }

    /// Passes frames that were called, as long as their rules are remembered and usual ones. The last of them and its rule;
    /// with [`Stopped::Miss`] the one behind it, which was not handed over. And why no more.
    #[inline(always)]
    fn rush<M: Recall>(
        &mut self,
        state: State,
        found: Found,
        memory: &mut M,
        take: &mut impl Take,
    ) -> (State, Found, Stopped) {
        let most = self.ground.budget.saturating_sub(self.index);
        let (state, found, stopped, passed) = match take.room() {
            Some(room) => {
                let wanted = room.len().min(most);
                let room = room.get_mut(..wanted).unwrap_or_default();
                let mut taken = 0;
                let (state, found, stopped) = self.rush_into(state, found, memory, |pc, _| match room.get_mut(taken) {
                    Some(place) => {
                        *place = pc;
                        taken += 1;
                        true
                    }
                    None => false,
                });
                take.took(taken);
                (state, found, stopped, taken)
            }
            None => {
                let mut taken = 0;
                let (state, found, stopped) = self.rush_into(state, found, memory, |pc, sp| {
                    let goes_on = taken < most && take.take(called(pc, sp)).is_continue();
                    taken += usize::from(goes_on);
                    goes_on
                });
                (state, found, stopped, taken)
            }
        };
        self.index += passed;
        // Not the one who takes has enough: the budget is spent.
        let stopped = if matches!(stopped, Stopped::Full) && passed == most { Stopped::Unsaid } else { stopped };
        (state, found, stopped)
    }

    /// Nothing is called in this loop that is not part of it, so that what it needs stays in registers.
    #[inline(always)]
    fn rush_into<M: Recall>(
        &self,
        mut state: State,
        mut found: Found,
        memory: &mut M,
        mut take: impl FnMut(u64, u64) -> bool,
    ) -> (State, Found, Stopped) {
        let (cache, words, generation, high) =
            (self.ground.cache, &self.ground.words, self.generation, self.stack.high);
        loop {
            let saved = found.saved();
            let (cfa, used) = match found.base() {
                // One word at least above sp, which is at most the stack's end: nothing wraps.
                Base::Sp => (state.sp.wrapping_add(found.words_above_sp() * WORD), Used::Sp),
                Base::Fp => {
                    let cfa = state.fp.wrapping_add(found.words_above_fp() * WORD);
                    if !is_above(&state, cfa, saved) {
                        return (state, found, Stopped::Other);
                    }
                    (cfa, Used::Fp)
                }
                Base::Other => return (state, found, Stopped::Other),
            };
            if cfa > high {
                return (state, found, Stopped::Unsaid);
            }
            let slot = cfa.wrapping_add_signed(saved * 8);
            let (Some(pc), Some(fp)) = (words.word(cfa.wrapping_sub(WORD)), words.word(slot)) else {
                return (state, found, Stopped::Unsaid);
            };
            let Some(key) = Key::of_return(pc) else { return (state, found, Stopped::Unsaid) };
            let is_saved = saved != NOT_SAVED;
            state = State { key, sp: cfa, fp: if is_saved { fp } else { state.fp } };
            let arrival = Arrival { slot: if is_saved { slot } else { 0 }, used };
            let Some(rule) = cache.find(key, generation) else { return (state, found, Stopped::Miss(arrival)) };
            if !take(key.bits(), cfa) {
                return (state, found, Stopped::Full);
            }
            found = rule;
            if let Some(met) = memory.meets(&state, arrival) {
                return (state, found, Stopped::Met(met));
            }
            memory.note(&state, arrival);
        }
    }

    /// Notes a frame that was handed over; or, if the previous trace came to it as well, hands over what is as it was. Where
    /// that ends, if so.
    #[inline(always)]
    fn remember<M: Recall>(
        &mut self,
        state: &State,
        arrival: Arrival,
        memory: &mut M,
        take: &mut impl Take,
    ) -> ControlFlow<(), Option<State>> {
        memory.goes_on(&self.ground.words);
        match memory.meets(state, arrival) {
            Some(met) => self.again(*state, met, memory, take).map_continue(Some),
            None => {
                memory.note(state, arrival);
                ControlFlow::Continue(None)
            }
        }
    }

    /// The rule of a pc, remembered or not.
    fn find(&self, key: Key) -> Option<Found> {
        self.ground.cache.find(key, self.generation).or_else(|| self.miss(key))
    }

    #[cold]
    #[inline(never)]
    fn miss(&self, key: Key) -> Option<Found> {
        let pc = State { key, sp: 0, fp: 0 }.pc();
        let rule = self.ground.rules.rule(self.ground.target, pc)?;
        let now = || tag(self.ground.target.modules.generation());
        self.ground.cache.put(key, self.generation, rule, now);
        Some(Found::of(rule))
    }
}

/// The generation of modules with this count of changes; that of no entry where nobody can say.
fn tag(count: Option<u64>) -> Generation {
    count.map_or(Generation::NEVER, Generation::of)
}

/// Whether a canonical frame address, and what is saved so many words from it, lie above a frame's stack pointer.
#[inline(always)]
fn is_above(state: &State, cfa: u64, saved: i64) -> bool {
    cfa > state.sp && cfa.wrapping_add_signed(saved * 8) >= state.sp && cfa.is_multiple_of(WORD)
}

/// A frame that was called, by a row.
#[inline(always)]
fn called(pc: u64, sp: u64) -> Passed {
    Passed {
        pc: CodeAddress::Return(pc),
        sp: Some(sp),
        link: Link::Call,
        callee_cfa: Some(sp),
        return_slot: Some(sp.wrapping_sub(WORD)),
        found_by: FoundBy::Cfi(RowSource::EhFrame),
    }
}
