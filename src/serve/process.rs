//! A process that was asked about: what was learned of it, and whether it is still the same one.

use super::request::Request;
use super::task::{State, Task};
use crate::image::{Find, Image};
use crate::snapshot::process::StoppedProcess;
use crate::snapshot::{Snapshot, Thread};
use crate::trace::Known;
use std::io;
use std::sync::Arc;

/// What is known of a process while its mappings stay the same.
pub struct Process {
    generation: u64,
    stopped: StoppedProcess,
    known: Known,
    /// Its first thread: shows whether the process is still there.
    leader: Task,
    /// The thread that was asked about last, and what it was doing then.
    asked: (u32, Task),
    state: State,
    /// The program that it ran when it was opened, as [`State::program`] tells it.
    program: [u64; 3],
}

impl Process {
    /// The process that is asked about, with nothing known yet.
    ///
    /// # Errors
    /// Why it cannot be looked at, in words.
    pub fn open(request: &Request, find: &Find) -> Result<Self, String> {
        let Request { pid, tid, generation, .. } = *request;
        let task = |tid| {
            let task = Task::open(pid, tid).and_then(|task| Ok((task.state()?, task)));
            task.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => format!("there is no thread {tid} in a process {pid}, or /proc hides it"),
                _ => format!("process {pid}: thread {tid}: {error}"),
            })
        };
        let ((state, asked), (first, leader)) = (task(tid)?, task(pid)?);
        is_stopped(tid, state)?;
        // The files of a first thread that has exited are empty.
        let by = if first.is_dead() { tid } else { pid };
        let stopped = StoppedProcess::open_by(pid, by, find.clone()).and_then(StoppedProcess::remembering);
        let stopped = stopped.map_err(|error| error.to_string())?;
        let (known, asked, program) = (Known::default(), (tid, asked), state.program);
        Ok(Self { generation, stopped, known, leader, asked, state, program })
    }

    /// Whether nobody has its number any more, or another process does.
    pub fn has_ended(&self) -> bool {
        self.leader.state().is_err()
    }

    /// The same process, seen as it is now; `None` when its number was given to another one since, when it runs another
    /// program, and when it cannot be read any more.
    pub fn follow(mut self, request: &Request) -> Option<Self> {
        let Request { pid, tid, generation, .. } = *request;
        let leader = self.leader.state().ok()?;
        if tid == pid {
            self.state = leader;
        } else {
            if self.asked.0 != tid {
                self.asked = (tid, Task::open(pid, tid).ok()?);
            }
            self.state = self.asked.1.state().ok()?;
        }
        if self.state.program != self.program || !self.stopped.is_there() {
            return None;
        }
        if self.generation != generation {
            self.stopped.refresh().ok()?;
            (self.generation, self.known) = (generation, Known::default());
        }
        Some(self)
    }

    /// The process with the thread as it is stopped now, and what is known of its code.
    ///
    /// # Errors
    /// What the request lacks, and why the process cannot be read, in words.
    pub fn at(&mut self, request: &Request) -> Result<(&Snapshot, &Thread, &Known), String> {
        is_stopped(request.tid, self.state)?;
        let regs = request.regs(self.stopped.snapshot().arch)?;
        let before = modules(self.stopped.snapshot());
        self.stopped.stopped_with(request.tid, regs, request.stop).map_err(|error| error.to_string())?;
        // The initial stack grows without anything being mapped, and then the mappings are read anew.
        if modules(self.stopped.snapshot()) != before {
            self.known = Known::default();
        }
        self.known.ran_on();
        let snapshot = self.stopped.snapshot();
        let thread = snapshot.threads.first().ok_or("no thread")?;
        Ok((snapshot, thread, &self.known))
    }
}

/// Checks that somebody keeps the thread stopped.
fn is_stopped(tid: u32, state: State) -> Result<(), String> {
    match state {
        State { is_kernel: true, .. } => Err(format!("{tid} is a thread of the kernel and has no stack in user space")),
        _ if state.is_dead() => Err(format!("thread {tid} has exited")),
        _ if state.is_stopped() => Ok(()),
        State { letter, .. } => {
            Err(format!("thread {tid} is not stopped (its state is {letter}): its stack may change"))
        }
    }
}

/// What makes two lists of modules the same: where each lies, and its file.
fn modules(snapshot: &Snapshot) -> Vec<(u64, u64, Option<*const Image>)> {
    let modules = snapshot.space.modules.iter();
    modules.map(|module| (module.start, module.end, module.image.as_ref().map(Arc::as_ptr))).collect()
}
