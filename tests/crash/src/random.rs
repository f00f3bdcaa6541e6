//! Victims that die at random instructions, or at a random call through a bad pointer.
//!
//! The victim works on and on; a single stepper counts out a random number of instructions with a shadow call stack, begun
//! with the victim's own truth, and then lets it go: with a signal, or with a pc where no code is, right behind a call. So
//! chain and registers are known to the bit.

use crate::contender::Contender;
use crate::judge::Trace;
use crate::run::{self, Death};
use crate::scenes::{Leaves, Outside, Scene};
use crate::truth::{self, Entry, Known, Truth};
use crate::victim::Victim;
use libc::user_regs_struct;
use std::fmt;
use std::path::Path;
use std::time::Instant;
use surestack_oracle::error::{Error, Result};
use surestack_oracle::memory::Memory;
use surestack_oracle::random::Random;
use surestack_oracle::session::{Event, Known as Lies, Session};
use surestack_oracle::shadow::Certainty;
use surestack_oracle::tracee::{self, Wait};

/// How it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// SIGSEGV is sent.
    Signal,
    /// A call leads where no code is.
    Call,
}

/// What became of many.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Victims that died.
    pub samples: usize,
    /// Complete traces.
    pub complete: usize,
    /// Traces that are right as far as they go.
    pub partial: usize,
    /// Traces with frames invented or left out.
    pub wrong: usize,
    /// No frames at all.
    pub nothing: usize,
    /// Victims that had to be killed.
    pub hangs: usize,
    /// Victims that died as they would have.
    pub status_kept: usize,
    /// Reports with the pc and all general registers right to the bit; nobody but us reports any.
    pub registers: usize,
    /// Victims that did not come so far that they could be judged.
    pub unjudged: usize,
    /// What was not complete, to be tried again.
    pub failures: Vec<String>,
}

impl Way {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Way::Signal => "signal at a random instruction",
            Way::Call => "random call through a bad pointer",
        }
    }
}

impl Count {
    /// The first line of a table of [rows](Count::row), behind who and how.
    pub const HEAD: &str =
        "| handler | dies of | samples | complete | partial | wrong | none | status kept | registers right |";

    /// The row.
    pub fn row(&self) -> String {
        let Count { samples, complete, partial, wrong, nothing, status_kept, registers, .. } = self;
        format!(" {samples} | {complete} | {partial} | {wrong} | {nothing} | {status_kept} | {registers} |")
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} complete, {} partial, {} wrong, {} none, {} hangs, {} status kept, {} registers right, {} unjudged",
            self.complete,
            self.samples,
            self.partial,
            self.wrong,
            self.nothing,
            self.hangs,
            self.status_kept,
            self.registers,
            self.unjudged
        )
    }
}

/// Instructions that are counted out at most.
const STEPS: usize = 3000;
/// Instructions stepped at most to come out of a transfer, or to the next call.
const SEARCH: usize = 3000;

/// Lets the `number`th victim die. Each number is another place in the program, the same in every run.
pub fn sample(victim: &Victim, contender: Contender, way: Way, number: usize, count: &mut Count) {
    if let Err(error) = judge(victim, contender, way, number, count) {
        count.unjudged += 1;
        count.failures.push(format!("{number}: {error}"));
    }
}

fn judge(victim: &Victim, contender: Contender, way: Way, number: usize, count: &mut Count) -> Result<()> {
    let mut random = Random::of(&format!("{way:?} {number}"));
    let ready = run::ready(victim, &WORK, contender, &format!("{way:?}-{number}"))?;
    let run::Ready { mut command, directory, path } = ready;
    command.env("CRASH_WORK", random.below(6).to_string());
    let began = Instant::now();
    let mut child = tracee::spawn(&mut command)?;
    let reader = run::reader(&mut child);
    let pid = child.id() as i32;
    let mut session = at_work(pid, &directory.join("truth"))?;
    for _ in 0..random.below(STEPS) {
        step(&mut session)?;
    }
    let (mut pcs, mut registers) = match way {
        Way::Signal => certain(&mut session)?,
        Way::Call => behind_a_call(&mut session)?,
    };
    if way == Way::Call {
        // Nothing, unmapped, the stack, the program's data.
        let data = session.maps().iter().find(|m| m.offset > 0 && !m.executable).map_or(0, |m| m.start);
        let bad = [0, 0x1_0000, registers.rsp & !0xfff, data, 0x7000_0000_1000];
        registers.rip = random.one(&bad).copied().unwrap_or(0);
        tracee::set_registers(pid, &registers)?;
        if let Some(first) = pcs.first_mut() {
            *first = registers.rip;
        }
    }
    session.release(if way == Way::Signal { libc::SIGSEGV } else { 0 })?;
    let mut death = run::bury(child, reader, began, directory, &path)?;
    death.truths = vec![Truth::exactly(&pcs)];
    let trace = note(&death, victim, contender, &registers, count);
    if trace != Trace::Complete {
        count.failures.push(format!("{number}: {trace:?} at {:#x}", registers.rip));
    }
    death.tidy();
    Ok(())
}

const WORK: Scene = Scene {
    name: "work",
    says: "work without end",
    outside: Outside::Nothing,
    leaves: Leaves::All,
    also: None,
    times: 1,
};

/// Lets the victim run to where its work begins, and takes over its chain.
fn at_work(pid: i32, truth: &Path) -> Result<Session> {
    tracee::resume(pid)?;
    loop {
        match tracee::wait(-1)? {
            (tid, Wait::Stopped { signal: libc::SIGTRAP, event: 0 }) if tid == pid => break,
            (tid, Wait::Stopped { .. }) => tracee::resume(tid)?,
            (_, end) => return Err(Error::new(format!("the victim did not come to its work: {end:?}"))),
        }
    }
    let truths = truth::read(truth)?;
    let chain = truths.first().map(|t| t.chain.as_slice()).unwrap_or_default();
    let outer = chain.iter().rev().map(|entry| match entry {
        Entry { known: Known::Exact(address), slot } => Ok(Lies { slot: *slot, address: *address }),
        other => Err(Error::new(format!("{other:?} is not exact"))),
    });
    let mut outer: Vec<Lies> = outer.collect::<Result<_>>()?;
    // It stands behind the breakpoint in a function that only returns.
    let slot = tracee::registers(pid)?.rsp;
    let address = Memory::of(pid).word(slot).ok_or_else(|| Error::new("the victim's stack cannot be read"))?;
    outer.push(Lies { slot, address });
    Session::adopted(pid, &outer)
}

fn step(session: &mut Session) -> Result<()> {
    match session.step()? {
        Event::Stopped { .. } => Ok(()),
        Event::Ended(end) => Err(Error::new(format!("the victim ended at work: {end:?}"))),
    }
}

/// Steps on until the chain is certain.
fn certain(session: &mut Session) -> Result<(Vec<u64>, user_regs_struct)> {
    for _ in 0..SEARCH {
        let truth = session.truth()?;
        if truth.certainty == Certainty::Known && !truth.erased {
            return Ok((truth.pcs, session.registers()?));
        }
        step(session)?;
    }
    Err(Error::new("the chain does not become certain"))
}

/// Steps on until a call was executed.
fn behind_a_call(session: &mut Session) -> Result<(Vec<u64>, user_regs_struct)> {
    let mut depth = usize::MAX;
    for _ in 0..SEARCH {
        let (pcs, registers) = certain(session)?;
        if pcs.len() > depth {
            return Ok((pcs, registers));
        }
        depth = pcs.len();
        step(session)?;
    }
    Err(Error::new("there is no call"))
}

fn note(
    death: &Death,
    victim: &Victim,
    contender: Contender,
    registers: &user_regs_struct,
    count: &mut Count,
) -> Trace {
    count.samples += 1;
    let trace = death.trace(contender, victim);
    match trace {
        Trace::Complete => count.complete += 1,
        Trace::Partial { .. } => count.partial += 1,
        Trace::Wrong { .. } => count.wrong += 1,
        Trace::Nothing => count.nothing += 1,
    }
    count.hangs += usize::from(death.status.is_none());
    count.status_kept += usize::from(death.fate() == Some(libc::SIGSEGV));
    let r = registers;
    let true_values = [
        r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15,
        r.rip,
    ];
    count.registers += usize::from(death.registers() == Some(true_values));
    trace
}
