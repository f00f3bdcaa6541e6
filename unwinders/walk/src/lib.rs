//! The nouns of stack walking, and the walk itself.
//!
//! A [`Walk`] starts from the registers of a thread and asks a list of [`Unwinder`]s, strongest first, for the caller
//! of each frame. Every frame says how it was found; a walk ends at a [`Root`] or with the [`Error`] that stopped it,
//! never in silence.
//!
//! What it guarantees: no allocation, no panic, no unbounded loop, no read of a target but through [`Memory`].
//! What it cannot do: say whether the trace is complete. That is the judge's work (`surestack-reliable`).
//!
//! ```text
//!   registers ──► Walk ──► frame 0 ──► frame 1 ──► …  ──► End
//!                  │  asks, in order, until one does not answer "not mine"
//!                  ├── SignalFrame     a sigreturn trampoline by its bytes
//!                  ├── Cfi             .eh_frame, .debug_frame, rows from analysis
//!                  └── FramePointer    marker frames, entry bytes, frame records
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod arch;
mod code;
mod error;
mod evidence;
mod frame;
mod memory;
mod modules;
mod registry;
mod regs;
mod stack;
mod walk;

pub use address::CodeAddress;
pub use arch::{AARCH64, Arch, ExtendedState, Prologue, SignalFrameLayout, SystemCall, Trampoline, X86_64};
pub use code::Code;
pub use error::{CfiFault, Error, Why};
pub use evidence::{Evidence, NoEvidence, Proof, RowEvidence, RowProof, Witness};
pub use frame::{FoundBy, Frame, Grade, Link, Root, RowSource, SignalSign, Step};
pub use memory::{Bytes, Memory};
pub use modules::{Mapping, Module, Modules, NoModules, ProbeKind, ProbePage, Section, UnwindSections};
pub use registry::{Marker, Registry, Sign};
pub use regs::{Layout, Register, RegisterSet, Regs};
pub use stack::{Stack, StackKind, Stacks};
pub use walk::{End, Walk};

/// A way of finding the caller of a frame.
///
/// The callee cannot be changed and the caller is written in place, so a failed attempt cannot spoil the walk.
///
/// # Errors
/// `Err` means "I know this code and what I know is broken" and ends the walk. Code that an unwinder has nothing to say
/// about is [`Step::NotMine`], and the next unwinder is asked.
pub trait Unwinder {
    /// Fills `caller` with the registers of the frame that called `callee`.
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error>;
}

/// The thread being walked and what surrounds it: everything an unwinder may ask about.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The architecture of the target, which need not be ours.
    pub arch: &'static Arch,
    /// Its memory.
    pub memory: &'a dyn Memory,
    /// Its code: which module an address belongs to, and that module's unwind sections.
    pub modules: &'a dyn Modules,
    /// The stacks this thread may be on.
    pub stacks: &'a dyn Stacks,
    /// What the user has made known: marker functions, outermost entries.
    pub registry: &'a Registry<'a>,
    /// What only somebody with files and a decoder can know.
    pub evidence: &'a dyn Evidence,
    /// Why the thread is not running.
    pub stop: Stop,
}

impl Target<'_> {
    /// Whether the instruction before `address` can be a call; `None` where it cannot be read.
    pub fn follows_call(&self, address: u64) -> Option<bool> {
        let mut before = [0; 8];
        // A mapping may begin less than eight bytes before.
        let read = (2..=before.len()).rev().any(|length| {
            let start = u64::try_from(length).ok().and_then(|back| address.checked_sub(back));
            let last = before.len().checked_sub(length).and_then(|skip| before.get_mut(skip..));
            start.zip(last).is_some_and(|(start, last)| self.memory.read(start, last).is_ok())
        });
        read.then(|| (self.arch.ends_with_call)(&before))
    }

    /// Whether `address` is the first byte of code that is returned to without having called: a sigreturn trampoline or
    /// the foot of a `makecontext` stack.
    pub fn is_entered_without_call(&self, address: u64) -> bool {
        let trampolines = self.arch.signal_frame.trampolines.iter().map(|trampoline| trampoline.bytes);
        Code::at(self.memory, address).starts_with_any(trampolines.chain(self.arch.context_entries.iter().copied()))
    }
}

/// Why a thread is not running: the signal that stopped it, as in `siginfo_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// `si_signo`, 0 when the thread took no signal.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
}
