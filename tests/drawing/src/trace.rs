//! What a walk over a drawing saw.

use surestack_walk::{CodeAddress, End, FoundBy, Link, Register, Regs, Why};

/// All frames of a walk, and how it ended.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Innermost first.
    pub frames: Vec<Seen>,
    /// How it ended.
    pub end: End,
    /// Why each unwinder refused the last step.
    pub refusals: Vec<(usize, Why)>,
}

/// One frame of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its pc.
    pub pc: CodeAddress,
    /// Its registers.
    pub regs: Regs,
    /// How it was found.
    pub found_by: FoundBy,
    /// What lies between it and its callee.
    pub link: Link,
    /// Canonical frame address of its callee.
    pub callee_cfa: Option<u64>,
    /// Where the return address that leads here lay.
    pub return_slot: Option<u64>,
}

impl Trace {
    /// The pcs of its frames.
    pub fn pcs(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame.pc.value()).collect()
    }

    /// How each frame was found.
    pub fn found_by(&self) -> Vec<FoundBy> {
        self.frames.iter().map(|frame| frame.found_by).collect()
    }

    /// The value of a register in the outermost frame.
    pub fn last(&self, register: Register) -> Option<u64> {
        self.frames.last().and_then(|frame| frame.regs.get(register))
    }
}
