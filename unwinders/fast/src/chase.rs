//! The loop.

use crate::cache::{Base, Cache, Found, Generation, Key, NOT_SAVED};
use crate::remembered::{ADDRESS, Arrival, CHECK, Entry, Forgetful, REDO, Recall, Remembered, Used};
use crate::{Packed, Rules, Special, Unpacked};
use core::ops::ControlFlow;
use surestack_walk::{
    CodeAddress, End, Error, FoundBy, Frame, Link, Register, Regs, Root, RowSource, SignalSign, Stack, Target,
    Unwinder, Walk,
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

    /// Hands over the frames of the previous trace from where both met, as long as the words that lead to them are the same.
    /// The last of them.
    fn again<M: Recall>(
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

    /// Follows a rule that is not the usual one.
    #[inline(never)]
    fn step(&mut self, state: State, rule: Unpacked) -> Next {
        let state = &state;
        match rule {
            Unpacked::BySp { cfa, fp } => self.called(state, state.sp.wrapping_add(cfa), fp, Used::Sp),
            Unpacked::ByFp { cfa, fp } => self.called(state, state.fp.wrapping_add(cfa), fp, Used::Fp),
            Unpacked::Aligned { below } => {
                let cfa = self.word(state, state.fp.wrapping_sub(below));
                let fp = self.word(state, state.fp);
                match (cfa, fp) {
                    (Some(cfa), Some(fp)) => match self.called(state, cfa, WORD, Used::Fp) {
                        Next::Called(caller, _) => {
                            Next::Called(State { fp, ..caller }, Arrival { slot: state.fp | REDO, used: Used::Fp })
                        }
                        other => other,
                    },
                    _ => Next::Unsaid,
                }
            }
            Unpacked::Special(Special::Linkage(from)) => {
                let pushed = state.key.bits() & 15 >= u64::from(from);
                let cfa = state.sp.wrapping_add(if pushed { 2 * WORD } else { WORD });
                match self.called(state, cfa, WORD, Used::Sp) {
                    Next::Called(caller, arrival) => Next::Called(caller, Arrival { slot: REDO, ..arrival }),
                    other => other,
                }
            }
            Unpacked::Special(Special::Signal) => self.interrupted(state),
            Unpacked::Special(Special::Outermost) => Next::Root(Root::UndefinedReturn),
            Unpacked::Special(Special::ContextEntry) => Next::Root(Root::ContextEntry),
            Unpacked::Special(Special::Full) => Next::Unsaid,
        }
    }

    /// The caller of a frame with this canonical frame address, whose frame pointer was saved so far below it (8: it was not).
    fn called(&self, state: &State, cfa: u64, fp: u64, used: Used) -> Next {
        // On one stack a caller's frame lies above its callee's.
        if cfa <= state.sp {
            return Next::Unsaid;
        }
        let pc = self.word(state, cfa.wrapping_sub(WORD));
        let slot = if fp == WORD { 0 } else { cfa.wrapping_sub(fp) };
        let saved = if slot == 0 { Some(state.fp) } else { self.word(state, slot) };
        match (pc.and_then(Key::of_return), saved) {
            (Some(key), Some(fp)) => Next::Called(State { key, sp: cfa, fp }, Arrival { slot, used }),
            _ => Next::Unsaid,
        }
    }

    /// A word of the stack, from the frame's stack pointer on.
    fn word(&self, state: &State, address: u64) -> Option<u64> {
        let is_there = address >= state.sp && address.is_multiple_of(WORD) && self.stack.holds(address, WORD);
        is_there.then(|| self.ground.words.word(address)).flatten()
    }

    /// What the signal interrupted whose trampoline the frame is in.
    fn interrupted(&mut self, state: &State) -> Next {
        let target = self.ground.target;
        let layout = &target.arch.signal_frame;
        let ucontext = state.sp.wrapping_add(u64::from(layout.ucontext));
        self.signals += 1;
        if self.signals > SIGNALS || ucontext < state.sp || !self.stack.holds(ucontext, layout.registers.size) {
            return Next::Unsaid;
        }
        let field = |wanted: Register| {
            let (_, offset, width) = layout.registers.fields.iter().find(|(register, ..)| *register == wanted)?;
            let at = ucontext.wrapping_add(u64::from(*offset));
            let word = self.word(state, at & !(WORD - 1))?;
            let shifted = word >> (8 * (at & (WORD - 1)));
            Some((at, if *width >= 8 { shifted } else { shifted & ((1 << (8 * u32::from(*width))) - 1) }))
        };
        // The full walk reads all of them.
        if layout.registers.fields.iter().any(|(register, ..)| field(*register).is_none()) {
            return Next::Unsaid;
        }
        let (Some((slot, pc)), Some((_, sp)), Some((saved, fp))) =
            (field(Register::PC), field(target.arch.sp), field(target.arch.fp))
        else {
            return Next::Unsaid;
        };
        // As the full walk has it: selectors of user space.
        let is_user = |register: Register, or_none: bool| {
            field(register).is_none_or(|(_, selector)| selector & 3 == 3 || or_none && selector == 0)
        };
        let plausible = is_user(Register::CS, false) && is_user(Register::SS, true);
        let Some(key) = Key::of_exact(pc).filter(|_| plausible) else { return Next::Unsaid };
        let next = State { key, sp, fp };
        // Nothing changed: the full walk says so.
        let stack = target.stacks.find(sp);
        let goes_on = |stack: &Stack| (key, sp) != (state.key, state.sp) && self.keeps(sp, stack);
        let Some(stack) = stack.filter(goes_on) else { return Next::Unsaid };
        self.stack = stack;
        let arrived = Passed {
            pc: CodeAddress::Exact(pc),
            sp: Some(sp),
            link: Link::Signal,
            callee_cfa: Some(ucontext),
            return_slot: Some(slot),
            found_by: FoundBy::SignalFrame(SignalSign::Bytes),
        };
        Next::Interrupted(next, Arrival { slot: saved | REDO, used: Used::Sp }, arrived)
    }

    /// Lets the full walk step to where the chase is, and once more; where it then is. Hands over what the chase had not.
    #[cold]
    #[inline(never)]
    fn catch_up(&mut self, take: &mut impl Take) -> ControlFlow<Option<End>, (Option<State>, Passed)> {
        let Ground { target, unwinders, budget, .. } = *self.ground;
        let mut walk = self.walk.take().unwrap_or_else(|| Walk::new(target, unwinders, (self.start.regs)(), budget));
        loop {
            let Some(frame) = walk.next() else {
                return ControlFlow::Break(walk.end().or(Some(End::Stopped(Error::Budget { frames: self.index }))));
            };
            if frame.index < self.index {
                continue;
            }
            let passed = Passed::of(target, &frame);
            // The full walk holds the next canonical frame address against the last one, the chase against the stack pointer:
            // rows may say that these are not the same.
            let is_alike = frame.link != Link::Call || frame.callee_cfa.is_none() || frame.callee_cfa == passed.sp;
            let state = State::of(target.arch.sp, target.arch.fp, frame.regs).filter(|_| is_alike);
            self.signals = self.signals.max(u32::from(walk.descents()));
            // The frame itself is looked at first; where it brings the chase no further, it comes back here.
            let stack = state.as_ref().and_then(|state| target.stacks.find(state.sp));
            if let (Some(state), Some(stack)) = (state, stack)
                && self.keeps(state.sp, &stack)
            {
                self.stack = stack;
                if self.signals <= SIGNALS && self.stands(&state) && self.find(state.key).is_some() {
                    self.walk = Some(walk);
                    return ControlFlow::Continue((Some(state), passed));
                }
            }
            if take.take(passed).is_break() {
                return ControlFlow::Break(None);
            }
            self.index += 1;
        }
    }
}

/// The generation of modules with this count of changes; that of no entry where nobody can say.
fn tag(count: Option<u64>) -> Generation {
    count.map_or(Generation::NEVER, Generation::of)
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
