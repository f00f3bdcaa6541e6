//! Every case of `fixtures/` as a trial of its own: what `surestack core` shows is the truth.
//!
//! `cargo test --test cases -- NAME` runs those whose name contains NAME. Without a tool that a case is made with, the trial
//! is ignored, which is counted; with CI=true it fails.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use std::process::ExitCode;
use surestack_fixtures::answer::{Answer, Thread, ask};
use surestack_fixtures::{Case, ThreadTruth, Truth, differences, faults, judge, peers};

const BINARY: &str = env!("CARGO_BIN_EXE_surestack");
/// gcc alone makes more; fewer mean that something was not stopped at.
const LEAST_INSTRUCTIONS: usize = 150;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let cases = Case::all().expect("fixtures can be read");
    let trial = |case: Case| {
        let ignored = case.missing_tool().is_some() && !in_ci;
        Trial::test(case.name.clone(), move || check(&case)).with_ignored_flag(ignored)
    };
    let mut trials: Vec<Trial> = cases.into_iter().map(trial).collect();
    trials.push(Trial::test("a_fault_at_every_instruction_is_traced", every_instruction));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Half a thousand cores, made and read one after the other.
fn every_instruction() -> Result<(), Failed> {
    let mut wrong = Vec::new();
    let count = faults::each(|fault| {
        let outcome = peers::outcome(&fault.built, Some(Path::new(BINARY)))?;
        if !outcome.is_right() {
            wrong.push(format!("{} {} {:#x}: {outcome}", fault.build, fault.symbol, fault.pc));
        }
        Ok(())
    });
    let stopped = count.map_err(|error| error.to_string())?.stopped;
    if stopped < LEAST_INSTRUCTIONS {
        wrong.push(format!("only {stopped} instructions were reached"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn check(case: &Case) -> Result<(), Failed> {
    let Some(built) = case.build().map_err(|error| error.to_string())? else {
        return Err("a tool vanished".into());
    };
    let answer = ask(Path::new(BINARY), &built).map_err(|error| error.to_string())?;
    let mut wrong = head(&built.truth, &answer);
    for (index, truth) in built.truth.threads.iter().enumerate() {
        wrong.extend(thread(truth, &answer, index == 0));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What is wrong about the signal and the number of threads.
fn head(truth: &Truth, answer: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, wanted: Option<String>, shown: Option<String>| {
        if wanted.is_some() && wanted != shown {
            wrong.push(format!("{what} is {shown:?}, not {wanted:?}"));
        }
    };
    same("the signal", truth.signal.clone(), answer.signal.clone());
    same("si_code", truth.code.map(|code| code.to_string()), answer.code.map(|code| code.to_string()));
    let count = answer.thread_count.map(|count| count.to_string());
    same("the number of threads", truth.thread_count.map(|count| count.to_string()), count);
    wrong
}

/// What is wrong about a thread: the crashed one is the first, of others there are as many as there should be.
fn thread(truth: &ThreadTruth, answer: &Answer, crashed: bool) -> Vec<String> {
    let (first, others) = answer.threads.split_at(1.min(answer.threads.len()));
    let traces = if crashed { first } else { others };
    let right = |trace: &&Thread| judge(truth, &trace.lines, trace.said_partial).is_right();
    let found: Vec<&Thread> = traces.iter().filter(right).collect();
    let count: usize = found.iter().map(|trace| trace.count).sum();
    if count != truth.count {
        let outcomes = traces.iter().map(|trace| {
            let reliable = if trace.reliable { ", reliable but wrong" } else { "" };
            let end = trace.stopped.as_deref().unwrap_or("at a root");
            format!("  {} × {}{reliable}: {end}", trace.count, judge(truth, &trace.lines, trace.said_partial))
        });
        let outcomes: Vec<String> = outcomes.collect();
        return vec![format!("{count} of {} threads are right:\n{}", truth.count, outcomes.join("\n"))];
    }
    found.iter().flat_map(|trace| differences(truth, &trace.lines)).collect()
}
