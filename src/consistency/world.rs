//! What is known of the process beside its threads.

use std::fmt;
use std::ops::Range;

/// What is known of the process beside its threads. Nothing is known by default, and that allows nothing.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Whether there may be stacks that no trace is of.
    pub unlisted: Unlisted,
    /// What stands in the way, whatever the threads do.
    pub obstacles: Vec<Obstacle>,
}

/// Whether there may be stacks that no trace is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlisted {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// All writable memory was searched; what was found is among the obstacles.
    Searched,
    /// The caller says that there are none.
    Vouched,
}

/// Something about the process that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// Which code has a copy of a target is not known.
    InlinesUnknown {
        /// The target.
        target: String,
        /// What keeps it from being known.
        why: String,
    },
    /// A target can be returned to by `longjmp`, with no trace in memory that could be found.
    Setjmp {
        /// The function that calls `setjmp`.
        function: String,
        /// Address of the call.
        at: u64,
    },
    /// Code of a target that cannot be read or decoded, so that nobody can tell what it calls.
    Undecoded {
        /// The target.
        target: String,
        /// Where the code begins.
        at: u64,
    },
    /// A task runs in this memory, is no thread of the process and could not be stopped.
    SharesMemory {
        /// Its id.
        id: u32,
    },
    /// Something about threads that could not be found out.
    Unchecked {
        /// What, in words.
        what: String,
    },
    /// Writable memory that cannot be read: a stack may be in it.
    Unreadable {
        /// Its addresses.
        range: Range<u64>,
    },
    /// Threads came or went while they were looked at.
    ThreadsChanged,
    /// Something was mapped or unmapped meanwhile.
    ModulesChanged,
    /// A word in memory leads into a target, and no judged frame owns it.
    Unlisted {
        /// Its address.
        at: u64,
        /// Where it leads.
        value: u64,
        /// The target.
        target: usize,
        /// In which memory it lies.
        place: String,
    },
}

impl Obstacle {
    /// Whether it may be gone when one asks again.
    pub fn passes(&self) -> bool {
        match self {
            Self::ThreadsChanged | Self::ModulesChanged | Self::Unlisted { .. } => true,
            Self::InlinesUnknown { .. }
            | Self::Setjmp { .. }
            | Self::Undecoded { .. }
            | Self::SharesMemory { .. }
            | Self::Unchecked { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InlinesUnknown { target, why } => {
                write!(out, "which code has a copy of {target} is not known: {why}")
            }
            Self::Setjmp { function, at } => {
                write!(out, "{function} calls setjmp at {at:#x}, and longjmp can lead back there unseen")
            }
            Self::Undecoded { target, at } => {
                write!(out, "what {target} calls at {at:#x} cannot be told, and setjmp may be among it")
            }
            Self::SharesMemory { id } => write!(out, "task {id} shares the memory and could not be stopped"),
            Self::Unchecked { what } => write!(out, "not known: {what}"),
            Self::Unreadable { range } => {
                write!(
                    out,
                    "writable memory {:#x}-{:#x} cannot be read, and a stack may be in it",
                    range.start, range.end
                )
            }
            Self::ThreadsChanged => out.write_str("threads came or went meanwhile"),
            Self::ModulesChanged => out.write_str("modules were mapped or unmapped meanwhile"),
            Self::Unlisted { at, value, place, .. } => {
                write!(out, "the word at {at:#x} ({place}) leads to {value:#x}, and no judged frame owns it")
            }
        }
    }
}
