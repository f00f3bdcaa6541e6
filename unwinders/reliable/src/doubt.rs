//! Why a trace is not believed, and what evidence would be needed.

use core::fmt;
use surestack_walk::{Error, FoundBy, Register, Root};

/// A doubt, and the frame it fell on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubted {
    /// Number of the frame, 0 for the innermost.
    pub frame: usize,
    /// The doubt.
    pub doubt: Doubt,
}

/// A rule that a trace breaks: the table in DESIGN.md has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The walk stopped short of a root.
    Stopped(Error),
    /// The last frame is of a kind that is outermost, in a place where none can be.
    RootMisplaced(Root),
    /// The frame was found in a way that nothing vouches for.
    Unvouched(FoundBy),
    /// A frame record was followed from interrupted code, which may not have had one.
    FramePointerAcrossSignal,
    /// The code at the callee's pc keeps its frame elsewhere than its unwind information says.
    FrameMoved {
        /// The interrupted pc.
        pc: u64,
    },
    /// What stands before the return address is not a call.
    NotAfterCall {
        /// The return address.
        return_address: u64,
    },
    /// The call before the return address goes elsewhere.
    OtherCallee {
        /// The return address.
        return_address: u64,
        /// Where the call goes.
        target: u64,
    },
    /// The instructions leave the frame elsewhere than the row says by which it was found.
    RowContradicted {
        /// The callee's pc.
        pc: u64,
    },
    /// The instructions do not say whether the row is right by which the frame was found, and no call vouches for it.
    RowUndecided {
        /// The callee's pc.
        pc: u64,
    },
    /// The row needs a register whose value was recovered by a row that nobody has shown to be right about it.
    RegisterUnproven {
        /// The callee's pc.
        pc: u64,
        /// The register.
        register: Register,
    },
    /// The signal frame through which the frame was found is not as the kernel writes them.
    ForgedSignalFrame {
        /// Address of the `ucontext_t`.
        ucontext: u64,
        /// What is wrong with it.
        fault: ContextFault,
    },
    /// The code has other bytes than its file, and no recognised probe explains them.
    TextModified {
        /// The pc.
        pc: u64,
    },
    /// The pc lies in executable memory that belongs to no file, and nobody vouches for what was written there.
    UnknownCode {
        /// The pc.
        pc: u64,
    },
    /// The kernel replaced a return address to probe the return: the function that is returned to is not known, and what
    /// frame pointers say of its callers leaves it out.
    ReturnProbed {
        /// What it was replaced with, or the pc in that code.
        page: u64,
    },
    /// What is mapped changed during the walk, or was being changed.
    ModulesChanged,
    /// The pc lies in no executable mapping.
    NotCode {
        /// The pc.
        pc: u64,
    },
    /// The stack pointer lies on no stack, or the return address lay on another than the callee's.
    OffStack {
        /// The stack pointer, or the address of the return address.
        address: u64,
    },
    /// The frame lies on another stack than its callee, with no signal between them.
    StackSwitched {
        /// The stack pointer.
        sp: u64,
    },
    /// The frame lies on a stack that the walk has left before.
    StackRevisited {
        /// The stack pointer.
        sp: u64,
    },
}

/// What is wrong with a signal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextFault {
    /// It is not all on one stack.
    OffStack,
    /// The vector registers are not where the kernel puts them, or not signed.
    Extended,
    /// What it interrupted ran on another stack, and the handler did not run on the alternate stack that it names.
    OtherStack,
}

impl fmt::Display for ContextFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::OffStack => "it is not all on one stack",
            Self::Extended => "its vector registers are not where they belong",
            Self::OtherStack => "its handler ran on no alternate stack, and what it interrupted on another stack",
        })
    }
}

impl Doubt {
    /// Its name in machine-readable output.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "stopped",
            Self::RootMisplaced(_) => "root-misplaced",
            Self::Unvouched(_) => "unvouched",
            Self::FramePointerAcrossSignal => "frame-pointer-across-signal",
            Self::FrameMoved { .. } => "frame-moved",
            Self::NotAfterCall { .. } => "not-after-call",
            Self::OtherCallee { .. } => "other-callee",
            Self::RowContradicted { .. } => "row-contradicted",
            Self::RowUndecided { .. } => "row-undecided",
            Self::RegisterUnproven { .. } => "register-unproven",
            Self::ForgedSignalFrame { .. } => "forged-signal-frame",
            Self::TextModified { .. } => "text-modified",
            Self::UnknownCode { .. } => "unknown-code",
            Self::ReturnProbed { .. } => "return-trampoline",
            Self::ModulesChanged => "modules-changed",
            Self::NotCode { .. } => "not-code",
            Self::OffStack { .. } => "off-stack",
            Self::StackSwitched { .. } => "stack-switched",
            Self::StackRevisited { .. } => "stack-revisited",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Stopped(error) => write!(out, "the walk stopped: {error}"),
            Self::RootMisplaced(_) => out.write_str("an outermost frame is not at the top of its stack"),
            Self::Unvouched(FoundBy::FramePointer) => {
                out.write_str("found by a frame pointer that nothing vouches for")
            }
            Self::Unvouched(FoundBy::CallAtSp) => {
                out.write_str("found at the stack pointer, and nothing vouches for it")
            }
            Self::Unvouched(FoundBy::Foreign(name)) => write!(out, "found by {name}, which gives no evidence"),
            Self::Unvouched(FoundBy::Analysed(_)) => out.write_str(
                "found by following the code to its return, and the call before it is not known to lead here",
            ),
            Self::Unvouched(_) => out.write_str("found in a way that nothing vouches for"),
            Self::FramePointerAcrossSignal => out.write_str("a frame pointer was followed out of interrupted code"),
            Self::FrameMoved { pc } => {
                write!(out, "the code at {pc:#x} does not keep its frame where its unwind information says")
            }
            Self::NotAfterCall { return_address } => write!(out, "no call precedes return address {return_address:#x}"),
            Self::OtherCallee { return_address, target } => {
                write!(out, "the call before {return_address:#x} goes to {target:#x}, not to the callee")
            }
            Self::NotCode { pc } => write!(out, "{pc:#x} is not in executable memory"),
            Self::RowContradicted { pc } => {
                write!(out, "the instructions before {pc:#x} contradict the unwind information used there")
            }
            Self::RowUndecided { pc } => {
                write!(
                    out,
                    "nothing confirms the unwind information used at {pc:#x}, neither its code nor a known call"
                )
            }
            Self::RegisterUnproven { pc, register } => {
                write!(out, "unwind information at {pc:#x} needs {register}, whose recovered value nothing confirms")
            }
            Self::ForgedSignalFrame { ucontext, fault } => {
                write!(out, "the signal frame at {ucontext:#x} is not as the kernel writes them: {fault}")
            }
            Self::TextModified { pc } => write!(out, "the code at {pc:#x} is not the code in its file"),
            Self::UnknownCode { pc } => write!(out, "{pc:#x} is in code that no file holds"),
            Self::ReturnProbed { page } => write!(
                out,
                "the kernel put {page:#x} in place of a return address, to probe the return (uretprobe): the caller is not known"
            ),
            Self::ModulesChanged => out.write_str("modules were loaded or unloaded during the walk"),
            Self::OffStack { address } => write!(out, "{address:#x} is not on the stack it should be on"),
            Self::StackSwitched { sp } => write!(out, "the stack changes at {sp:#x} with no signal in between"),
            Self::StackRevisited { sp } => write!(out, "stack pointer {sp:#x} returns to a stack already left"),
        }
    }
}
