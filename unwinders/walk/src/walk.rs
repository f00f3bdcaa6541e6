//! The walk: from registers to the root, one step at a time.

use crate::{CodeAddress, Error, FoundBy, Frame, Link, Mapping, Register, Regs, Root, Step, Target, Unwinder, Why};

/// Most unwinders a walk asks; the reasons of each are kept.
const UNWINDERS: usize = 8;
/// How often a walk may go down to a lower address. Only leaving a stack for another does, and signal stacks and
/// coroutines nest a few deep; forged frames could go round for ever.
const DESCENTS: u8 = 64;

/// A walk over one thread's stack.
///
/// Frames are lent one by one, so that a stack of any depth needs no memory.
///
/// Rules checked here, once, whatever the unwinder: on one stack a caller's frame lies above its callee's; from one stack
/// to another it may lie below, a bounded number of times; a return address outside all code ends the walk, as does a step
/// that changes nothing; the budget ends it.
pub struct Walk<'a> {
    target: &'a Target<'a>,
    unwinders: &'a [&'a dyn Unwinder],
    regs: [Regs; 2],
    current: usize,
    index: usize,
    budget: usize,
    last_cfa: Option<u64>,
    descents: u8,
    arrived: Arrival,
    refusals: [Option<Why>; UNWINDERS],
    end: Option<End>,
}

/// How the current frame was reached.
#[derive(Clone, Copy)]
struct Arrival {
    found_by: FoundBy,
    link: Link,
    callee_cfa: Option<u64>,
    return_slot: Option<u64>,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At an outermost frame.
    Root(Root),
    /// Short of it.
    Stopped(Error),
}

impl<'a> Walk<'a> {
    /// A walk from `regs` that asks `unwinders` in this order (the first eight) and yields at most `budget` frames.
    pub fn new(target: &'a Target<'a>, unwinders: &'a [&'a dyn Unwinder], regs: Regs, budget: usize) -> Self {
        let unwinders = unwinders.get(..UNWINDERS).unwrap_or(unwinders);
        Self {
            target,
            unwinders,
            regs: [regs, Regs::new()],
            current: 0,
            index: 0,
            budget,
            last_cfa: None,
            descents: 0,
            arrived: Arrival { found_by: FoundBy::Context, link: Link::Call, callee_cfa: None, return_slot: None },
            refusals: [None; UNWINDERS],
            end: None,
        }
    }

    /// The next frame, innermost first; `None` once the walk has ended.
    #[expect(clippy::should_implement_trait, reason = "frames are lent, which Iterator cannot express")]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        if self.end.is_some() {
            return None;
        }
        if self.index > 0
            && let Err(end) = self.step()
        {
            self.end = Some(end);
            return None;
        }
        let index = self.index;
        self.index = index.saturating_add(1);
        let Some(pc) = self.regs().pc() else {
            self.end = Some(End::Stopped(Error::UnknownRegister { register: Register::PC }));
            return None;
        };
        let Arrival { found_by, link, callee_cfa, return_slot } = self.arrived;
        Some(Frame { index, regs: self.regs(), pc, found_by, link, callee_cfa, return_slot })
    }

    /// The registers of the frame that was yielded last.
    pub fn regs(&self) -> &Regs {
        let [first, second] = &self.regs;
        if self.current == 0 { first } else { second }
    }

    /// How the walk ended; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// How often it went down to a lower address.
    pub fn descents(&self) -> u8 {
        self.descents
    }

    /// Why each unwinder that was asked for the last step had nothing to say, in their order.
    pub fn refusals(&self) -> impl Iterator<Item = (usize, Why)> + '_ {
        self.refusals.iter().enumerate().filter_map(|(unwinder, why)| Some((unwinder, (*why)?)))
    }

    /// Replaces the current registers by their caller's.
    fn step(&mut self) -> Result<(), End> {
        if self.index >= self.budget {
            return Err(End::Stopped(Error::Budget { frames: self.budget }));
        }
        let [first, second] = &mut self.regs;
        let (callee, caller) = if self.current == 0 { (&*first, second) } else { (&*second, first) };

        self.refusals = [None; UNWINDERS];
        let roots = self.target.registry.roots;
        if callee.pc().is_some_and(|pc| roots.iter().any(|range| range.contains(&pc.lookup()))) {
            return Err(End::Root(Root::Registered));
        }
        for (unwinder, refusal) in self.unwinders.iter().zip(&mut self.refusals) {
            match unwinder.step(self.target, callee, caller).map_err(End::Stopped)? {
                Step::NotMine(why) => *refusal = Some(why),
                Step::End(root) => return Err(End::Root(root)),
                Step::Caller { cfa, return_slot, link, found_by } => {
                    if link == Link::Call
                        && let Some(CodeAddress::Return(address)) = caller.pc()
                        && matches!(self.target.modules.mapping(address), Mapping::Data | Mapping::Nothing)
                    {
                        return Err(End::Stopped(Error::NotCode { address }));
                    }
                    let descends = check_progress(self.target, self.last_cfa, cfa, link, callee, caller);
                    if descends.map_err(End::Stopped)? {
                        self.descents += 1;
                    }
                    if self.descents >= DESCENTS {
                        return Err(End::Stopped(Error::BelowLast { cfa, last: self.last_cfa.unwrap_or(cfa) }));
                    }
                    self.last_cfa = (link == Link::Call).then_some(cfa);
                    self.arrived = Arrival { found_by, link, callee_cfa: Some(cfa), return_slot };
                    self.current ^= 1;
                    return Ok(());
                }
            }
        }
        let pc = callee.pc().map_or(0, CodeAddress::value);
        Err(End::Stopped(Error::UnknownCode { pc }))
    }
}

/// Whether the caller lies below its callee, on another stack; on the same stack it is refused, as is the same frame
/// again.
fn check_progress(
    target: &Target<'_>,
    last: Option<u64>,
    cfa: u64,
    link: Link,
    callee: &Regs,
    caller: &Regs,
) -> Result<bool, Error> {
    if link != Link::Call {
        let sp = target.arch.sp;
        if callee.pc() == caller.pc() && callee.get(sp) == caller.get(sp) {
            return Err(Error::NoProgress { cfa });
        }
        return Ok(caller.get(sp) <= callee.get(sp));
    }
    match last {
        Some(last) if cfa == last && callee.pc() == caller.pc() => Err(Error::NoProgress { cfa }),
        Some(last) if cfa <= last && target.stacks.find(cfa) == target.stacks.find(last) => {
            Err(Error::BelowLast { cfa, last })
        }
        Some(last) => Ok(cfa <= last),
        None => Ok(false),
    }
}
