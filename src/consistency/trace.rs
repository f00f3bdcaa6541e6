//! What is recorded of a thread: its frames, and whether they can be believed.

use crate::snapshot::Thread;
use crate::trace::Tracer;
use std::fmt;
use surestack_reliable::{Doubted, Verdict};
use surestack_walk::{CodeAddress, End, FoundBy, Frame, Link, Register, Regs, Root, Stop};

/// A thread, or another stack that will be run on, and what is known of it.
#[derive(Clone, Debug)]
pub struct ThreadTrace {
    /// Which it is.
    pub of: Of,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// What it does.
    pub state: State,
}

/// Whose trace it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// The thread with this id.
    Thread(u32),
    /// The stack that was listed with this number: a coroutine, a fiber.
    Stack(usize),
}

impl fmt::Display for Of {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(id) => write!(out, "thread {id}"),
            Self::Stack(number) => write!(out, "stack {number}"),
        }
    }
}

/// What a thread does.
#[derive(Clone, Debug)]
pub enum State {
    /// It is held, and this is its trace.
    Held(Trace),
    /// It is held in a system call that the kernel may begin anew when it runs again.
    InCall {
        /// Its trace if the call fails instead, and it goes on behind it.
        behind: Trace,
        /// Its trace from the instruction that makes the call.
        anew: Trace,
    },
    /// It could not be stopped.
    Running,
    /// It has exited and returns to nothing.
    Gone,
}

/// The frames of one thread.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Innermost first.
    pub frames: Vec<TraceFrame>,
    /// Whether the trace can have left out a function.
    pub verdict: Verdict,
    /// What speaks against it.
    pub doubts: Vec<Doubted>,
    /// How many frames lie before the first doubt.
    pub believed: usize,
    /// The kind of outermost frame at which it ends, if it does.
    pub root: Option<Root>,
    /// Where the kernel saved registers of interrupted frames.
    pub saved: Vec<u64>,
}

/// A frame, as much of it as a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFrame {
    /// Where it goes on.
    pub pc: CodeAddress,
    /// Its stack pointer.
    pub sp: Option<u64>,
    /// What lies between it and its callee.
    pub link: Link,
    /// How it was found.
    pub found_by: FoundBy,
    /// Canonical frame address of its callee.
    pub callee_cfa: Option<u64>,
    /// Where the address that leads here lay.
    pub return_slot: Option<u64>,
}

impl ThreadTrace {
    /// A held thread.
    pub fn held(id: u32, trace: Trace) -> Self {
        Self { of: Of::Thread(id), name: None, state: State::Held(trace) }
    }

    /// The trace of a thread of the tracer's snapshot, from wherever it may go on.
    pub fn record(tracer: &Tracer<'_>, thread: &Thread) -> Self {
        let trace = |regs| Trace::record(tracer, regs, thread.stop);
        let behind = trace(&thread.regs);
        let state = match tracer.snapshot().restarted(&thread.regs) {
            Some(anew) => State::InCall { behind, anew: trace(&anew) },
            None => State::Held(behind),
        };
        Self { of: Of::Thread(thread.id), name: thread.name.clone(), state }
    }

    /// Each way in which it may go on; none where it is not held.
    pub fn traces(&self) -> impl Iterator<Item = &Trace> {
        let (first, second) = match &self.state {
            State::Held(trace) => (Some(trace), None),
            State::InCall { behind, anew } => (Some(behind), Some(anew)),
            State::Running | State::Gone => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Trace {
    /// Walks from `regs`, and judges.
    pub fn record(tracer: &Tracer<'_>, regs: &Regs, stop: Stop) -> Self {
        let sp = tracer.target(stop).arch.sp;
        let (mut frames, mut saved) = (Vec::new(), Vec::new());
        let judged = tracer.walk(regs, stop, |frame| {
            frames.push(TraceFrame::of(frame, sp));
            if frame.link == Link::Signal {
                saved.extend(places(frame.regs));
            }
        });
        let root = match judged.end {
            End::Root(root) => Some(root),
            End::Stopped(_) => None,
        };
        Self { frames, verdict: judged.verdict, doubts: judged.doubts, believed: judged.believed, root, saved }
    }
}

impl TraceFrame {
    fn of(frame: &Frame<'_>, sp: Register) -> Self {
        Self {
            pc: frame.pc,
            sp: frame.regs.get(sp),
            link: frame.link,
            found_by: frame.found_by,
            callee_cfa: frame.callee_cfa,
            return_slot: frame.return_slot,
        }
    }
}

/// Where registers lie in memory.
fn places(regs: &Regs) -> impl Iterator<Item = u64> {
    let general = (0..32).filter_map(Register::general);
    general.chain([Register::PC]).filter_map(|register| regs.place(register))
}
