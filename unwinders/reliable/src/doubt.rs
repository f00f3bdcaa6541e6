//! Why a trace is not believed, and what evidence would be needed.

use core::fmt;
use surestack_walk::{Error, FoundBy, Root};

/// A doubt, and the frame it fell on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubted {
    /// Number of the frame, 0 for the innermost.
    pub frame: usize,
    /// The doubt.
    pub doubt: Doubt,
}

/// A rule that a trace breaks. The rules are numbered as in the table of DESIGN.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The pc lies in no executable mapping.
    NotCode {
        /// The pc.
        pc: u64,
    },
    /// The stack pointer lies on no stack.
    OffStack {
        /// The stack pointer.
        sp: u64,
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
            Self::OffStack { sp } => write!(out, "stack pointer {sp:#x} is on no stack"),
            Self::StackSwitched { sp } => write!(out, "the stack changes at {sp:#x} with no signal in between"),
            Self::StackRevisited { sp } => write!(out, "stack pointer {sp:#x} returns to a stack already left"),
        }
    }
}

/// A set of kinds of evidence that nobody at hand could give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Missing(u8);

impl Missing {
    /// Nothing is missing.
    pub const NONE: Self = Self(0);
    /// Whether the outermost frame is at its place.
    pub const ROOT: Self = Self(1);
    /// Whether a pc is in executable memory.
    pub const CODE: Self = Self(2);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: Self) -> bool {
        self.0 & kind.0 == kind.0
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [(Self::ROOT, "that the outermost frame is at its place"), (Self::CODE, "that every pc is in code")];
        let mut names = kinds.iter().filter(|(kind, _)| self.contains(*kind)).map(|(_, name)| name);
        if let Some(first) = names.next() {
            out.write_str(first)?;
        }
        names.try_for_each(|name| write!(out, ", {name}"))
    }
}
