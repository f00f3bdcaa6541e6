//! A frame as the judge needs it.

use crate::{ContextFault, signal};
use surestack_walk::{Arch, CodeAddress, FoundBy, Frame, Link, Mapping, Register, Regs, Stack, Target, Witness};

/// A frame with everything that only the memory of its thread can tell about it, so that it can be kept and judged again
/// by somebody who has the files.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Its pc.
    pub pc: CodeAddress,
    /// Its stack pointer, where it is known.
    pub sp: Option<u64>,
    /// The base of the thread's storage, where it is known.
    pub thread: Option<u64>,
    /// The stack on which `sp` lies; none when it lies on none.
    pub stack: Option<Stack>,
    /// How it was found.
    pub found_by: FoundBy,
    /// What lies between it and its callee.
    pub link: Link,
    /// Canonical frame address of its callee.
    pub callee_cfa: Option<u64>,
    /// Where the return address that leads here lay.
    pub return_slot: Option<u64>,
    /// What is wrong with the signal frame through which it was found; none when nothing is, or there is none.
    pub context: Option<ContextFault>,
    /// Where it is interrupted and there is no code at its pc: whether the call before the return address at the top of
    /// the stack led there.
    pub arrival: Option<Witness>,
}

impl Noted {
    /// What `frame` tells.
    pub fn of(target: &Target<'_>, frame: &Frame<'_>) -> Self {
        let sp = frame.regs.get(target.arch.sp);
        let stack = sp.and_then(|sp| target.stacks.find(sp));
        let context = match (frame.link, frame.return_slot) {
            (Link::Signal, Some(slot)) => signal::fault(target, slot, stack),
            _ => None,
        };
        let no_code = || matches!(target.modules.mapping(frame.pc.value()), Mapping::Data | Mapping::Nothing);
        let arrival = (frame.pc.is_exact() && no_code()).then(|| target.evidence.call_to_nowhere(frame.regs));
        Self {
            pc: frame.pc,
            sp,
            thread: frame.regs.get(Register::THREAD),
            stack,
            found_by: frame.found_by,
            link: frame.link,
            callee_cfa: frame.callee_cfa,
            return_slot: frame.return_slot,
            context,
            arrival,
        }
    }

    /// The registers it holds.
    pub(crate) fn regs(&self, arch: &Arch) -> Regs {
        let mut regs = Regs::new();
        regs.set_pc(self.pc);
        for (register, value) in [(arch.sp, self.sp), (Register::THREAD, self.thread)] {
            if let Some(value) = value {
                regs.set(register, value);
            }
        }
        regs
    }
}
