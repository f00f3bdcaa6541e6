//! What only somebody with files and an instruction decoder can know.

use crate::{CodeAddress, Regs, Root};

/// Answers to questions that unwinding itself cannot settle. At signal time most of them are "unknown".
pub trait Evidence {
    /// Whether the call that returns to `return_address` reaches the code at `callee`.
    fn call(&self, return_address: u64, callee: CodeAddress) -> Witness;

    /// Whether the code up to the interrupted `pc` leaves its frame where its unwind information says.
    fn frame(&self, pc: CodeAddress) -> Proof;

    /// Whether `regs` is the outermost frame of its stack, in the place where such a frame must be.
    fn root(&self, root: Root, regs: &Regs) -> Proof;
}

/// Whether a call reaches the code that was found running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The call's target is known and leads to the callee.
    Confirmed,
    /// The call's target is known and cannot lead to the callee.
    Refuted {
        /// Where the call goes.
        target: u64,
    },
    /// What stands before the return address is not a call.
    NotACall,
    /// The target is not known.
    Unknown,
}

/// A question with three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Yes, and it was shown.
    Proven,
    /// No, and it was shown.
    Refuted,
    /// Nobody here can tell.
    Unknown,
}

/// Nobody with files or a decoder is at hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn call(&self, _return_address: u64, _callee: CodeAddress) -> Witness {
        Witness::Unknown
    }

    fn frame(&self, _pc: CodeAddress) -> Proof {
        Proof::Unknown
    }

    fn root(&self, _root: Root, _regs: &Regs) -> Proof {
        Proof::Unknown
    }
}
