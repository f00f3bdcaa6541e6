//! What only somebody with files and an instruction decoder can know.

use crate::{CodeAddress, RegisterSet, Regs, Root};

/// Answers to questions that unwinding itself cannot settle. At signal time most of them are "unknown".
pub trait Evidence {
    /// Whether the call that returns to `return_address` reaches the code at `callee`.
    fn call(&self, return_address: u64, callee: CodeAddress) -> Witness;

    /// Whether the call before the return address at the top of the stack went to the pc of `regs`, where there is no code
    /// and nothing has run since. A return to a smashed address leads there too.
    fn call_to_nowhere(&self, regs: &Regs) -> Witness;

    /// Whether the code up to the interrupted `pc` leaves its frame where its unwind information says.
    fn frame(&self, pc: CodeAddress) -> Proof;

    /// What the instructions say about the unwind row that covers `pc`.
    fn row(&self, pc: CodeAddress) -> RowEvidence;

    /// Whether the function at `pc` has the bytes of the file it was mapped from. `Refuted` where they differ in a way that
    /// no recognised probe explains.
    fn text(&self, pc: CodeAddress) -> Proof;

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

/// What the instructions say about a row, for its frame and for each register.
///
/// A register that is in none of the sets is recovered on the row's word alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowEvidence {
    /// The canonical frame address and the return address.
    pub frame: RowProof,
    /// Registers of the callee from which the row computes these two.
    pub reads: RegisterSet,
    /// Registers proven to lie where the row says they were saved, or to be what it computes.
    pub saved: RegisterSet,
    /// Registers proven to hold what they held when the function was entered, as the row says.
    pub kept: RegisterSet,
    /// Registers shown to come out wrong.
    pub wrong: RegisterSet,
}

impl RowEvidence {
    /// Nobody here can tell.
    pub const UNKNOWN: Self = Self {
        frame: RowProof::Unknown,
        reads: RegisterSet::EMPTY,
        saved: RegisterSet::EMPTY,
        kept: RegisterSet::EMPTY,
        wrong: RegisterSet::EMPTY,
    };
}

/// How a row stands to the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowProof {
    /// Followed from an entry of the function, where the ABI says what registers hold, the instructions agree.
    Proven,
    /// As [`RowProof::Proven`], but the code is writing over the words that the row leads to: libgcc goes to a landing pad.
    Overwritten,
    /// They agree with each other, from a place where a row's own claim was believed.
    Assumed,
    /// They disagree, and it was shown from an entry of the function.
    Contradicted,
    /// The instructions do not say.
    Undecided,
    /// Nobody here has looked.
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

    fn call_to_nowhere(&self, _regs: &Regs) -> Witness {
        Witness::Unknown
    }

    fn frame(&self, _pc: CodeAddress) -> Proof {
        Proof::Unknown
    }

    fn row(&self, _pc: CodeAddress) -> RowEvidence {
        RowEvidence::UNKNOWN
    }

    fn text(&self, _pc: CodeAddress) -> Proof {
        Proof::Unknown
    }

    fn root(&self, _root: Root, _regs: &Regs) -> Proof {
        Proof::Unknown
    }
}
