//! The one model that every consumer fills and every printer prints.
//!
//! ```text
//!   Snapshot ──► analyze ──► Head, ThreadReport … , Tail ──► Printer (text, JSON, or a Report that keeps them)
//! ```
//!
//! It is handed over piece by piece, so that a report of half a million frames begins at once and needs no memory.

mod found;
pub mod json;
mod recorder;
#[cfg(test)]
mod samples;
mod signals;
pub mod text;
mod when;
pub mod words;

pub use recorder::FromRecorder;

use crate::image::BuildId;
use crate::snapshot::{Absence, Absent, Gap, Identity, Process, SignalInfo};
use crate::symbol::Symbol;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use surestack_reliable::{Doubted, Verdict};
use surestack_walk::{Arch, CodeAddress, End, FoundBy, Link, Regs, Why};

/// Takes the pieces of a report in order: one head, any number of threads, one tail.
pub trait Printer {
    /// Takes what happened, before any stack is walked.
    ///
    /// # Errors
    /// Why it could not be written.
    fn head(&mut self, head: &Head) -> std::io::Result<()>;

    /// Takes a thread, or several with the same trace; the one that took the signal comes first and alone.
    ///
    /// # Errors
    /// Why it could not be written.
    fn thread(&mut self, thread: &ThreadReport) -> std::io::Result<()>;

    /// Takes what there is to say at the end.
    ///
    /// # Errors
    /// Why it could not be written.
    fn tail(&mut self, tail: &Tail) -> std::io::Result<()>;
}

/// What happened, to whom.
#[derive(Clone, Debug)]
pub struct Head {
    /// The file the report is about.
    pub source: PathBuf,
    /// The machine.
    pub arch: &'static Arch,
    /// The process.
    pub process: Process,
    /// How many threads it had.
    pub threads: usize,
    /// The signal that ended it, if the snapshot tells.
    pub signal: Option<SignalInfo>,
    /// Its number, which is in cores that tell nothing else about it.
    pub signal_number: Option<i32>,
    /// What happened, in one sentence: "SIGSEGV: read of null pointer + 0x18 through rax in gamma_fn".
    pub what: String,
    /// For how long the process was stopped for this report, if it lives.
    pub held: Option<Duration>,
    /// What only a record of a handler tells, if the report is about one.
    pub recorded: Option<FromRecord>,
    /// What the flight recorder tells, if the process had one.
    pub recorder: Option<Arc<FromRecorder>>,
}

/// What a handler recorded beside traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromRecord {
    /// When it was written.
    pub time: Option<SystemTime>,
    /// What the program said before it died: who made it (`abort`, `assert`, `panic`), and the text.
    pub messages: Vec<(&'static str, String)>,
    /// What the crash may be told by from others.
    pub signatures: Signatures,
}

/// Numbers that are the same for crashes of the same kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// By places in code, as file names of records have it: [`surestack_capture::record::Signature`].
    pub places: Option<u64>,
    /// By names of functions, which another build of the program may have in common; where there are names.
    pub functions: Option<u64>,
}

/// The trace of one thread, or of several that are the same.
#[derive(Clone, Debug)]
pub struct ThreadReport {
    /// Thread ids and names; more than one when their traces are the same.
    pub threads: Vec<ThreadName>,
    /// Whether it took the signal that ended the process.
    pub crashed: bool,
    /// Its registers at the top.
    pub regs: Regs,
    /// The frames, innermost first.
    pub frames: Vec<Entry>,
    /// How many frames that is with the repeated ones.
    pub depth: usize,
    /// How the walk ended.
    pub end: End,
    /// Why each unwinder that was asked last had nothing to say.
    pub refusals: Vec<(&'static str, Why)>,
    /// Whether the trace can be trusted.
    pub verdict: Verdict,
    /// What speaks against it.
    pub doubts: Vec<Doubted>,
    /// How many frames lie before the first doubt.
    pub believed: usize,
}

/// A thread's id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadName {
    /// Kernel thread id.
    pub id: u32,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// What it was doing when it was stopped, in words; of live processes only.
    pub doing: Option<String>,
}

/// An entry in a list of frames.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A frame.
    Frame(FrameReport),
    /// The last `length` frames come `times` more, with other stack addresses.
    Repeat {
        /// Frames in the cycle.
        length: usize,
        /// How often they follow again.
        times: usize,
    },
}

/// One frame.
#[derive(Clone, Debug)]
pub struct FrameReport {
    /// 0 for the innermost.
    pub number: usize,
    /// Its pc.
    pub pc: CodeAddress,
    /// What lies between it and its callee. A [`Link::Signal`] frame is what the signal interrupted.
    pub link: Link,
    /// How it was found.
    pub found_by: FoundBy,
    /// Its stack pointer.
    pub sp: Option<u64>,
    /// The canonical frame address of its callee.
    pub callee_cfa: Option<u64>,
    /// The module its pc lies in.
    pub module: Option<ModuleOffset>,
    /// What is known of its name.
    pub symbol: Arc<Symbol>,
    /// Its registers, where they are worth printing: at the top, and where a signal or entry interrupted code.
    pub regs: Option<Box<Regs>>,
    /// The signal that was delivered here, when this is what it interrupted and the frame tells.
    pub signal: Option<SignalInfo>,
    /// What that signal was about, in one sentence.
    pub what: Option<String>,
}

/// A place in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleOffset {
    /// Position in [`Tail::modules`].
    pub index: usize,
    /// The module's path.
    pub path: Arc<PathBuf>,
    /// Linked address of the pc: what `addr2line` takes.
    pub offset: u64,
}

/// What there is to say at the end.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// The modules.
    pub modules: Vec<ModuleReport>,
    /// What is missing from the snapshot.
    pub gaps: Vec<Gap>,
    /// Tasks whose stacks could not be had.
    pub absent: Vec<Absent>,
}

impl Tail {
    /// Whether something kept the report from being whole.
    pub fn is_partial(&self) -> bool {
        let is_missed = |gap: &Gap| !matches!(gap, Gap::Unwritten { .. });
        self.gaps.iter().any(is_missed) || self.absent.iter().any(|task| task.why != Absence::Exited)
    }
}

/// A module.
#[derive(Clone, Debug)]
pub struct ModuleReport {
    /// First mapped address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Mapped address minus linked address.
    pub bias: u64,
    /// Its path in the target.
    pub path: PathBuf,
    /// Its build ID, by the target's own memory.
    pub build_id: Option<BuildId>,
    /// How its file is known to be the right one, or why there is none.
    pub identity: Identity,
    /// Whether debug information was found for it.
    pub debug: bool,
}

/// A report kept whole.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What happened.
    pub head: Option<Head>,
    /// The threads, the crashed one first.
    pub threads: Vec<ThreadReport>,
    /// The end.
    pub tail: Tail,
}

impl Printer for Report {
    fn head(&mut self, head: &Head) -> std::io::Result<()> {
        self.head = Some(head.clone());
        Ok(())
    }

    fn thread(&mut self, thread: &ThreadReport) -> std::io::Result<()> {
        self.threads.push(thread.clone());
        Ok(())
    }

    fn tail(&mut self, tail: &Tail) -> std::io::Result<()> {
        self.tail = tail.clone();
        Ok(())
    }
}
