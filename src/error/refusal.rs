//! Why a process cannot be stopped, in words.

use std::fmt;

/// Why a process cannot be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is none with this id.
    NoProcess,
    /// It has exited, and only its parent has not noticed.
    Zombie,
    /// It exited while it was being stopped.
    Exited,
    /// It is a thread of the kernel.
    Kernel,
    /// It is a thread of this process, not a process.
    Thread {
        /// The process.
        of: u32,
    },
    /// It is the process that asks.
    Ourselves,
    /// Somebody else traces one of its threads.
    Traced {
        /// Who.
        by: u32,
        /// The tracer's name.
        name: String,
    },
    /// The system does not allow it.
    Denied {
        /// Which permission is missing.
        missing: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess => write!(out, "there is no such process, or /proc hides it (hidepid) from this user"),
            Self::Zombie => write!(out, "it has exited (a zombie that its parent has not waited for) and has no stack"),
            Self::Exited => write!(out, "it exited while it was being stopped"),
            Self::Kernel => write!(out, "it is a thread of the kernel; only user programs can be stopped"),
            Self::Thread { of } => write!(out, "it is a thread of process {of}; give that"),
            Self::Ourselves => write!(out, "a process cannot stop itself; ask from another one"),
            Self::Traced { by, name } => write!(out, "process {by} ({name}) traces it already; end that first"),
            Self::Denied { missing } => write!(out, "permission is missing: {missing}"),
        }
    }
}
