//! Steps that the loop does not make: by rules that are not the usual ones, through signals, and by the full walk.

use super::{Chase, Ground, Next, Passed, SIGNALS, State, Take, WORD, Words};
use crate::cache::Key;
use crate::remembered::{Arrival, REDO, Used};
use crate::{Rules, Special, Unpacked};
use core::ops::ControlFlow;
use surestack_walk::{CodeAddress, End, Error, FoundBy, Link, Register, Regs, Root, SignalSign, Stack, Walk};

impl<R: Rules, W: Words, F: Fn() -> Regs> Chase<'_, '_, R, W, F> {
    /// Follows a rule that is not the usual one.
    #[inline(never)]
    pub(super) fn step(&mut self, state: State, rule: Unpacked) -> Next {
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
    pub(super) fn catch_up(&mut self, take: &mut impl Take) -> ControlFlow<Option<End>, (Option<State>, Passed)> {
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
