//! A live process held still: every thread of it stopped, within a time, and let go whatever happens.
//!
//! Tasks are seized, so a stop leaves no trace: nothing is sent to them, a system call that was interrupted is restarted
//! by the kernel, a signal that was about to be delivered is delivered when they are let go, and what was stopped by job
//! control stays so. When we are killed, the kernel lets them go. What the kernel itself does not restart after a stop of
//! any kind (`epoll_wait`, `sigtimedwait` and a few more, see signal(7)) returns `EINTR`, as it would under SIGSTOP and
//! SIGCONT or any debugger.

mod keeper;
mod ptrace;
mod refusal;
pub(super) mod sharers;
mod stopper;

use super::StoppedProcess;
use super::facts::{Facts, threads};
use crate::error::{Error, Refusal};
use crate::image::Find;
use crate::snapshot::{Absence, Gap, SignalInfo, Snapshot, Thread, registers};
use keeper::Keeper;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use stopper::{Still, Stopped};
use surestack_walk::Stop;

/// How a process is stopped.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long its threads may take to stop. Those that have not by then are [`Snapshot::absent`].
    pub deadline: Duration,
    /// Where debug files are looked for.
    pub find: Find,
}

impl Default for Options {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(1), find: Find::default() }
    }
}

/// A process whose threads stand still until this is dropped.
pub struct Hold {
    // Dropped first: nothing else is needed to let the process go.
    keeper: Keeper,
    process: StoppedProcess,
    doing: HashMap<u32, String>,
    since: Instant,
}

impl Hold {
    /// Stops process `pid`. Its files are opened before, so that it stands still for as short as can be.
    ///
    /// # Errors
    /// [`Error::Held`] when it cannot be stopped, and [`Error::Process`] when it cannot be read.
    pub fn stop(pid: u32, options: &Options) -> Result<Self, Error> {
        let held = |why| Error::Held { pid, why };
        let facts = Facts::of(pid).map_err(|_| held(Refusal::NoProcess))?;
        if let Some(why) = refusal::beforehand(pid, &facts) {
            return Err(held(why));
        }
        let read = |error| explained(pid, error);
        let mut process = open(pid, &options.find)?;
        let (keeper, stopped) = Keeper::start(pid, options.deadline).map_err(held)?;
        // From here on dropping the keeper lets the process go.
        let Stopped { still, absent, gaps, since } = stopped;
        process.read_by(still.first().map_or(pid, |task| task.id), keeper.peek()).map_err(read)?;
        process.user(facts.users[1]);
        let mut doing = HashMap::new();
        let snapshot = process.snapshot_mut();
        snapshot.space.may_change = absent.iter().any(|task| task.why != Absence::Exited) || !gaps.is_empty();
        (snapshot.absent, snapshot.gaps) = (absent, gaps);
        for task in still {
            match thread(snapshot, &task) {
                Some(thread) => snapshot.threads.push(thread),
                None => snapshot.gaps.push(Gap::Unchecked { what: format!("the registers of thread {}", task.id) }),
            }
            let sharing = if task.shares { "no thread, but shares the memory; " } else { "" };
            doing.insert(task.id, format!("{sharing}{}", task.doing));
        }
        Ok(Self { keeper, process, doing, since })
    }

    /// The process as it stands. The first thread comes first, tasks that only share its memory last.
    pub fn snapshot(&self) -> &Snapshot {
        self.process.snapshot()
    }

    /// Whether it still stands: nobody killed a thread or let it go, and there is no new one.
    pub fn still_holds(&self) -> bool {
        self.keeper.holds()
    }

    /// Whether nothing was mapped or unmapped since it was stopped. While everything that runs in its memory stands still
    /// nothing can be; what could not be stopped may do so at any time, and may have undone it before one looks.
    pub fn is_mapped_as_read(&self) -> bool {
        !self.snapshot().space.may_change && self.process.is_mapped_as_read()
    }

    /// What a thread was doing when it was stopped, in words: "sleeping in futex_do_wait".
    pub fn doing(&self, thread: u32) -> Option<&str> {
        self.doing.get(&thread).map(String::as_str)
    }

    /// Lets the process go, and says for how long it stood still. What was read of it stays; its memory is not to be
    /// relied on any more.
    pub fn resume(self) -> (Snapshot, Duration) {
        drop(self.keeper);
        (self.process.into_snapshot(), self.since.elapsed())
    }
}

/// The process, by the first of its threads that lives: its own first one may have exited.
fn open(pid: u32, find: &Find) -> Result<StoppedProcess, Error> {
    /// Threads that come and go may be gone when they are looked at.
    const ATTEMPTS: usize = 8;
    let lives = |id: &u32| Facts::of(*id).is_ok_and(|facts| !facts.is_dead());
    let gone = if Facts::of(pid).is_ok() { Refusal::Zombie } else { Refusal::Exited };
    let mut refused = Error::Held { pid, why: gone };
    for _ in 0..ATTEMPTS {
        let all = [pid].into_iter().chain(threads(pid).unwrap_or_default());
        let Some(alive) = all.into_iter().find(lives) else { break };
        match StoppedProcess::open_by(pid, alive, find.clone()) {
            Ok(process) => return Ok(process),
            Err(error) if lives(&alive) => return Err(explained(pid, error)),
            Err(error) => refused = explained(pid, error),
        }
    }
    Err(refused)
}

fn thread(snapshot: &Snapshot, task: &Still) -> Option<Thread> {
    let regs = registers::live(snapshot.arch, &task.block)?;
    let (number, code, detail) = task.signal;
    let signal = (number != 0).then(|| SignalInfo::from_words(number, code, detail));
    Some(Thread { id: task.id, name: Some(task.name.clone()), regs, stop: Stop { signal: number, code }, signal })
}

/// An error of reading, in the words of who wanted to stop the process.
fn explained(pid: u32, error: Error) -> Error {
    let io = match &error {
        Error::Process { source, .. } | Error::Read { source, .. } => source,
        _ => return error,
    };
    let why = match io.kind() {
        std::io::ErrorKind::PermissionDenied => refusal::denied(pid),
        _ if Facts::of(pid).map_or(true, |facts| facts.is_dead()) => Refusal::Exited,
        _ => return error,
    };
    Error::Held { pid, why }
}
