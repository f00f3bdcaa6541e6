//! The walk: from registers to the root, one step at a time.

use crate::{CodeAddress, Error, FoundBy, Frame, Link, Regs, Root, Step, Target, Unwinder, Why};

/// Most unwinders a walk asks; the reasons of each are kept.
const UNWINDERS: usize = 8;

/// A walk over one thread's stack.
///
/// Frames are lent one by one, so that a stack of any depth needs no memory.
///
/// Rules checked here, once, whatever the unwinder: a caller's frame lies above its callee's unless a signal, marker or
/// switch lies between them; a step that changes nothing ends the walk; the budget ends it.
pub struct Walk<'a> {
    target: &'a Target<'a>,
    unwinders: &'a [&'a dyn Unwinder],
    regs: [Regs; 2],
    current: usize,
    index: usize,
    budget: usize,
    last_cfa: Option<u64>,
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
        let regs = self.regs.get(self.current)?;
        let Some(pc) = regs.pc() else {
            self.end = Some(End::Stopped(Error::UnknownRegister { register: crate::Register::PC }));
            return None;
        };
        let Arrival { found_by, link, callee_cfa, return_slot } = self.arrived;
        Some(Frame { index, regs, pc, found_by, link, callee_cfa, return_slot })
    }

    /// How the walk ended; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.end
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
        let (first, second) = self.regs.split_at_mut(1);
        let (Some(first), Some(second)) = (first.first_mut(), second.first_mut()) else {
            return Err(End::Stopped(Error::Budget { frames: 0 }));
        };
        let (callee, caller) = if self.current == 0 { (&*first, second) } else { (&*second, first) };

        self.refusals = [None; UNWINDERS];
        for (unwinder, refusal) in self.unwinders.iter().zip(&mut self.refusals) {
            match unwinder.step(self.target, callee, caller).map_err(End::Stopped)? {
                Step::NotMine(why) => *refusal = Some(why),
                Step::End(root) => return Err(End::Root(root)),
                Step::Caller { cfa, return_slot, link, found_by } => {
                    check_progress(self.last_cfa, cfa, link, callee, caller).map_err(End::Stopped)?;
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

/// Refuses a caller that lies below its callee on the same stack, or is the same frame again.
fn check_progress(last: Option<u64>, cfa: u64, link: Link, callee: &Regs, caller: &Regs) -> Result<(), Error> {
    if link != Link::Call {
        // The other side of a signal, marker or switch lies anywhere; only standing still is refused.
        let still =
            callee.pc() == caller.pc() && callee.get(crate::Register::FLAGS) == caller.get(crate::Register::FLAGS);
        return if still && last == Some(cfa) { Err(Error::NoProgress { cfa }) } else { Ok(()) };
    }
    match last {
        Some(last) if cfa == last && callee.pc() == caller.pc() => Err(Error::NoProgress { cfa }),
        Some(last) if cfa <= last => Err(Error::BelowLast { cfa, last }),
        _ => Ok(()),
    }
}
