//! A frame as the judge needs it.

use crate::{ContextFault, signal};
use surestack_walk::{Arch, CodeAddress, FoundBy, Frame, Link, Register, Regs, Stack, Target};

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
}

impl Noted {
    /// What `frame` tells.
    pub fn of(target: &Target<'_>, frame: &Frame<'_>) -> Self {
        let sp = frame.regs.get(target.arch.sp);
        let stack = sp.and_then(|sp| target.stacks.find(sp));
        let context = match (frame.link, frame.callee_cfa) {
            (Link::Signal, Some(ucontext)) => signal::fault(target, ucontext, stack),
            _ => None,
        };
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
