//! Stops every thread of a process, and lets all of them go when dropped.

use super::super::facts::{Facts, threads};
use super::ptrace::{self, Told};
use super::refusal;
use super::sharers::{self, Sharing};
use crate::error::Refusal;
use crate::snapshot::{Absence, Absent, Gap};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// First and longest pause between two looks at threads that have not stopped yet.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// How often tasks that share the memory are looked for.
const ROUNDS: usize = 8;
/// How long those may take to stop when the time is over already.
const GRACE: Duration = Duration::from_millis(250);

/// The tasks of a process that were told to stop. Belongs to one thread, as ptrace does.
pub(super) struct Stopper {
    pid: u32,
    tasks: BTreeMap<u32, Task>,
}

/// A task that was seized.
struct Task {
    told: Told,
    name: String,
    doing: String,
    shares: bool,
}

/// A task that stands still.
pub(super) struct Still {
    pub id: u32,
    pub name: String,
    pub doing: String,
    /// Its registers, as the kernel hands them out.
    pub block: Vec<u8>,
    /// The signal that is about to be delivered to it, 0 for none; its code and the word behind that.
    pub signal: (i32, i32, u64),
    /// Whether it is no thread of the process and only shares its memory.
    pub shares: bool,
}

/// What came of stopping a process.
pub(super) struct Stopped {
    pub still: Vec<Still>,
    pub absent: Vec<Absent>,
    pub gaps: Vec<Gap>,
    pub since: Instant,
}

/// What became of an attempt to seize a task.
enum Seized {
    Yes,
    Dead,
}

impl Stopper {
    pub fn new(pid: u32) -> Self {
        Self { pid, tasks: BTreeMap::new() }
    }

    /// Stops every task there is, until two looks at the list of threads show the same and all of them stand still, or
    /// the time is over.
    pub fn stop(&mut self, within: Duration) -> Result<Stopped, Refusal> {
        let since = Instant::now();
        let deadline = since + within;
        // A vfork parent stops when its child lets it, so that waiting for it must leave time for the child.
        let mut dead = self.stop_threads(since + within / 2)?;
        let (mut absent, gaps) = self.stop_sharers(deadline);
        if self.tasks.values().any(|task| task.shares || task.told == Told::Running) {
            // What was stopped last may have made a thread of the process before.
            dead = self.stop_threads(deadline)?;
        }
        absent.extend(dead);
        let mut still = vec![];
        for (&id, task) in &self.tasks {
            match self.look_at(id, task) {
                Some(found) => still.push(found),
                None => absent.push(Absent { id, name: Some(task.name.clone()), why: why_absent(id, task) }),
            }
        }
        still.sort_by_key(|task| (task.shares, task.id != self.pid));
        if still.is_empty() && absent.iter().all(|task| task.why == Absence::Exited) {
            return Err(Refusal::Exited);
        }
        Ok(Stopped { still, absent, gaps, since })
    }

    /// Stops what shares the memory, until nothing new is found: it can make more of its kind before it is stopped.
    /// Those that must not be stopped, and what could not be found out, are the answer.
    fn stop_sharers(&mut self, deadline: Instant) -> (Vec<Absent>, Vec<Gap>) {
        let mut absent: Vec<Absent> = vec![];
        for _ in 0..ROUNDS {
            let is_still = |(id, task): (&u32, &Task)| matches!(task.told, Told::Stopped(_)).then_some(*id);
            let lives = |(id, task): (&u32, &Task)| (task.told != Told::Gone).then_some(*id);
            let inside = self.tasks.iter().find_map(is_still).or_else(|| self.tasks.iter().find_map(lives));
            let inside = inside.unwrap_or(self.pid);
            let Sharing { tasks, unknown } = sharers::of(self.pid, inside);
            let is_new = |id: &u32| !self.tasks.contains_key(id) && absent.iter().all(|known| known.id != *id);
            let new: Vec<u32> = tasks.into_iter().filter(is_new).collect();
            if new.is_empty() {
                return (absent, unknown.into_iter().collect());
            }
            for &id in &new {
                let name = Facts::of(id).ok().map(|facts| facts.name);
                if self.seize(id, true).is_err() {
                    absent.push(Absent { id, name, why: Absence::SharesMemory });
                }
            }
            // Threads that do not stop at all, as a vfork parent does not, leave no time for these.
            self.settle(deadline.max(Instant::now() + GRACE));
            self.let_go_of(|id| sharers::have_same_memory(inside, id).is_ok_and(|same| !same), &new);
        }
        let what =
            "whether all tasks that share its memory were found; they made more of their kind all the time".to_owned();
        (absent, vec![Gap::Unchecked { what }])
    }

    /// Lets those of `ids` run on that have replaced their memory by exec before they stopped.
    fn let_go_of(&mut self, has_left: impl Fn(u32) -> bool, ids: &[u32]) {
        for &id in ids.iter().filter(|id| has_left(**id)) {
            if let Some(task) = self.tasks.remove(&id) {
                let_go(id, &task);
            }
        }
    }

    /// Fills the bytes with what lies at an address, word by word; whether all of them were.
    pub fn peek(&self, address: u64, into: &mut [u8]) -> bool {
        const WORD: u64 = 8;
        let is_still = |(id, task): (&u32, &Task)| matches!(task.told, Told::Stopped(_)).then_some(id.cast_signed());
        let Some(task) = self.tasks.iter().find_map(is_still) else { return false };
        let mut at = address & !(WORD - 1);
        let mut skipped = usize::try_from(address - at).unwrap_or_default();
        let mut rest = into;
        while !rest.is_empty() {
            let Ok(word) = ptrace::peek(task, at) else { return false };
            let bytes = word.to_le_bytes();
            let bytes = bytes.get(skipped..).unwrap_or_default();
            let count = bytes.len().min(rest.len());
            let (filled, after) = rest.split_at_mut(count);
            filled.copy_from_slice(bytes.get(..count).unwrap_or_default());
            (rest, skipped) = (after, 0);
            let Some(next) = at.checked_add(WORD) else { return rest.is_empty() };
            at = next;
        }
        true
    }

    /// Whether every thread there is stands still, and so does everything else that was stopped.
    pub fn holds(&self) -> bool {
        let Ok(listed) = threads(self.pid) else { return false };
        let known = |id: &u32| self.tasks.contains_key(id) || Facts::of(*id).is_ok_and(|facts| facts.is_dead());
        let stands = |(&id, _): (&u32, &Task)| ptrace::registers(id.cast_signed()).is_ok();
        listed.iter().all(known) && self.tasks.iter().all(stands)
    }

    /// Stops the threads; those that are dead already are the answer.
    fn stop_threads(&mut self, deadline: Instant) -> Result<Vec<Absent>, Refusal> {
        let mut before: Option<Vec<u32>> = None;
        loop {
            let listed = threads(self.pid).map_err(|_| Refusal::Exited)?;
            let mut dead = vec![];
            self.tasks.retain(|id, task| task.shares || task.told != Told::Gone && listed.contains(id));
            for &id in &listed {
                if !self.tasks.contains_key(&id)
                    && let Seized::Dead = self.seize(id, false)?
                {
                    let name = Facts::of(id).ok().map(|facts| facts.name);
                    dead.push(Absent { id, name, why: Absence::Exited });
                }
            }
            self.settle(deadline);
            let all_stopped = self.tasks.values().all(|task| matches!(task.told, Told::Stopped(_)));
            if all_stopped && before.as_ref() == Some(&listed) || Instant::now() >= deadline {
                return Ok(dead);
            }
            before = Some(listed);
        }
    }

    fn seize(&mut self, id: u32, shares: bool) -> Result<Seized, Refusal> {
        let Ok(facts) = Facts::of(id) else { return Ok(Seized::Dead) };
        if facts.is_dead() {
            return Ok(Seized::Dead);
        }
        let doing = facts.doing(id);
        let task = id.cast_signed();
        if let Err(error) = ptrace::seize(task) {
            // An exiting task is refused like a forbidden one.
            let is_dead = Facts::of(id).map_or(true, |facts| facts.is_dead());
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(Seized::Dead),
                _ if is_dead => Ok(Seized::Dead),
                _ => Err(refusal::denied(id)),
            };
        }
        let told = if ptrace::interrupt(task).is_ok() { Told::Running } else { Told::Gone };
        self.tasks.insert(id, Task { told, name: facts.name, doing, shares });
        Ok(Seized::Yes)
    }

    /// Waits until every task has stopped or is gone, or the time is over.
    fn settle(&mut self, deadline: Instant) {
        let [mut pause, longest] = PAUSES;
        loop {
            for (id, task) in self.tasks.iter_mut().filter(|(_, task)| task.told == Told::Running) {
                task.told = ptrace::look(id.cast_signed());
                if task.told == Told::Gone {
                    ptrace::bury(id.cast_signed());
                }
            }
            let all = self.tasks.values().all(|task| task.told != Told::Running);
            if all || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }

    fn look_at(&self, id: u32, task: &Task) -> Option<Still> {
        let Told::Stopped(signal) = task.told else { return None };
        let block = ptrace::registers(id.cast_signed()).ok()?;
        let words = if signal == 0 { None } else { ptrace::signal_words(id.cast_signed()).ok() };
        let (code, detail) = words.unwrap_or_default();
        let (name, doing, shares) = (task.name.clone(), task.doing.clone(), task.shares);
        Some(Still { id, name, doing, block, signal: (signal, code, detail), shares })
    }
}

fn why_absent(id: u32, task: &Task) -> Absence {
    let is_dead = Facts::of(id).map_or(true, |facts| facts.is_dead());
    match (is_dead, task.shares) {
        (true, _) => Absence::Exited,
        (_, true) => Absence::SharesMemory,
        (_, false) => Absence::Running,
    }
}

/// Lets a task run on, its signal with it. What has not stopped is let go by the kernel when this thread ends.
fn let_go(id: u32, task: &Task) {
    let told = if let Told::Stopped(_) = task.told { task.told } else { ptrace::look(id.cast_signed()) };
    let signal = if let Told::Stopped(signal) = told { signal } else { 0 };
    if ptrace::detach(id.cast_signed(), signal).is_err() {
        ptrace::bury(id.cast_signed());
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|(&id, task)| let_go(id, task));
    }
}
