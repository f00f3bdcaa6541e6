//! Every way a step can be refused.

use crate::Register;
use core::fmt;

/// Why a walk stopped short of a root. Carries the number one needs to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Memory the step depends on cannot be read.
    Unreadable {
        /// First address of the read.
        address: u64,
    },
    /// An address computed from the target's values left the address space.
    Overflow {
        /// The value the computation began with.
        address: u64,
    },
    /// A stack address is not aligned as the ABI demands.
    Misaligned {
        /// The address.
        address: u64,
    },
    /// The rule needs a register that is not known in this frame.
    UnknownRegister {
        /// The register.
        register: Register,
    },
    /// The unwind information for this code is broken.
    BadCfi {
        /// Address of the code it was looked up for.
        pc: u64,
        /// What is wrong with it.
        fault: CfiFault,
    },
    /// The caller would be the same frame again.
    NoProgress {
        /// Canonical frame address that came out twice.
        cfa: u64,
    },
    /// The caller's frame would lie below the callee's on the same stack.
    BelowLast {
        /// Canonical frame address found.
        cfa: u64,
        /// The one before it.
        last: u64,
    },
    /// What should be a return address lies outside all code.
    NotCode {
        /// The return address.
        address: u64,
    },
    /// No unwinder knows this code.
    UnknownCode {
        /// The pc nobody could step from.
        pc: u64,
    },
    /// The frame limit was reached.
    Budget {
        /// The limit.
        frames: usize,
    },
    /// Whoever walked was stopped there, or what it recorded beyond is lost.
    BrokenOff {
        /// Frames up to there.
        frames: usize,
    },
    /// A signal frame was recognised, but what it holds cannot have been saved by the kernel.
    ForgedSignalFrame {
        /// Address of the `ucontext_t`.
        address: u64,
    },
    /// A marker frame was recognised, but the registers it points at cannot be entry registers.
    BadMarker {
        /// Address of the registers.
        address: u64,
    },
}

/// What is wrong with a module's call frame information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfiFault {
    /// Bytes that do not parse.
    Malformed,
    /// An instruction of a kind that this reader does not know.
    Unsupported,
    /// More registers or remembered states than there is room for.
    TooLarge,
    /// An expression that is malformed, or ran longer than its budget.
    Expression,
    /// The row's rules name a register this architecture does not have.
    Register,
}

impl fmt::Display for CfiFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "of an unsupported kind",
            Self::TooLarge => "larger than the reader's storage",
            Self::Expression => "an expression that cannot be evaluated",
            Self::Register => "about a register the architecture does not have",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreadable { address } => write!(out, "memory at {address:#x} cannot be read"),
            Self::Overflow { address } => write!(out, "an address computed from {address:#x} overflows"),
            Self::Misaligned { address } => write!(out, "stack address {address:#x} is not aligned"),
            Self::UnknownRegister { register } => write!(out, "register {register} is needed and not known here"),
            Self::BadCfi { pc, fault } => write!(out, "unwind information for {pc:#x} is {fault}"),
            Self::NoProgress { cfa } => write!(out, "the frame at {cfa:#x} is its own caller"),
            Self::BelowLast { cfa, last } => {
                write!(out, "the caller's frame {cfa:#x} lies below its callee's {last:#x}")
            }
            Self::NotCode { address } => write!(out, "the return address is {address:#x}, where there is no code"),
            Self::UnknownCode { pc } => write!(out, "nothing is known about the code at {pc:#x}"),
            Self::BrokenOff { frames } => write!(out, "it was broken off after {frames} frames"),
            Self::Budget { frames } => write!(out, "the limit of {frames} frames was reached"),
            Self::ForgedSignalFrame { address } => {
                write!(out, "the signal frame at {address:#x} was not written by the kernel")
            }
            Self::BadMarker { address } => write!(out, "the marked registers at {address:#x} are not entry registers"),
        }
    }
}

impl core::error::Error for Error {}

/// Why an unwinder had nothing to say about a frame. Kept for `--explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pc is not known in this frame.
    NoPc,
    /// No module covers the pc.
    NoModule,
    /// The module has no unwind information at all.
    NoTable,
    /// Its unwind information does not cover the pc.
    NoRow,
    /// The code at the pc cannot be read.
    NoText,
    /// The code at the pc is not a known trampoline.
    NotTrampoline,
    /// The frame pointer is not known here.
    NoFramePointer,
    /// The frame pointer does not point at a frame record on the stack.
    NoFrameRecord,
    /// The frame record is no marker.
    NotMarked,
    /// What lies where a return address would be does not follow a call.
    NotAfterCall,
    /// The code at the pc was analysed without a result.
    Undecided,
    /// The pc is in no page of the kernel's probes.
    NotProbed,
    /// The kernel has replaced the return address to probe the return, and keeps the true one to itself.
    ReturnProbed,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoPc => "the pc is not known",
            Self::NoModule => "no module covers the pc",
            Self::NoTable => "the module has no unwind table",
            Self::NoRow => "the unwind table does not cover the pc",
            Self::NoText => "the code at the pc cannot be read",
            Self::NotTrampoline => "the code is no known trampoline",
            Self::NoFramePointer => "the frame pointer is not known",
            Self::NoFrameRecord => "the frame pointer points at no frame record",
            Self::NotMarked => "the frame record is no marker",
            Self::NotAfterCall => "no call precedes what would be the return address",
            Self::NotProbed => "the code is no probe of the kernel's",
            Self::ReturnProbed => "the kernel replaced the return address to probe the return, and keeps the true one",
            Self::Undecided => "the instructions do not decide where the caller is",
        })
    }
}
