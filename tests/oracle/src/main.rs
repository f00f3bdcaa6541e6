//! Runs a set of targets, prints the table, and writes the causes of wrong answers.

use std::env;
use std::fs;
use std::process::ExitCode;
use surestack_oracle::causes;
use surestack_oracle::clear;
use surestack_oracle::contender;
use surestack_oracle::document;
use surestack_oracle::error::{Error, Result};
use surestack_oracle::fast;
use surestack_oracle::measure::{OURS, Outcome, Plan};
use surestack_oracle::programs;
use surestack_oracle::rows;
use surestack_oracle::run::{self, Ran};
use surestack_oracle::session::Begin;
use surestack_oracle::table;
use surestack_oracle::targets::{Set, TARGETS, Target};

const USAGE: &str =
    "usage: surestack-oracle [clear|rows|fast|objects] short|full [--target NAME]... [--table FILE] [--causes FILE] [--jobs N]
    clear: decides about drawn functions instead; rows: holds proofs of unwind rows against what is executed;
    fast: holds the fast path against the full walk; objects: the same at every address of real files
    instead of what the set says for each target:
    [--from kernel|entry] [--every N] [--max-steps N] [--inject SIGNAL-NUMBER] [--every-inject N]";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Is the chain right, and trusted?
    Chain,
    /// Is a thread clear of drawn functions?
    Clear,
    /// Are proofs of rows right?
    Rows,
    /// Is the fast path the full walk's equal, in programs that run?
    Fast,
    /// Is it so at every address of files?
    Objects,
}

/// In the mode `clear`: every Nth instruction, up to so many of each program.
const CLEAR_EVERY: u64 = 61;
const CLEAR_STEPS: u64 = 200_000;

struct Arguments {
    question: Question,
    set: Set,
    targets: Vec<String>,
    table: Option<String>,
    causes: Option<String>,
    jobs: usize,
    begin: Option<Begin>,
    every: Option<u64>,
    max_steps: Option<u64>,
    inject: Option<i32>,
    every_inject: u64,
}

fn main() -> ExitCode {
    let arguments = match parse(env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut first = words.next();
    let question = match first.as_deref() {
        Some("clear") => Question::Clear,
        Some("rows") => Question::Rows,
        Some("fast") => Question::Fast,
        Some("objects") => Question::Objects,
        _ => Question::Chain,
    };
    if question != Question::Chain {
        first = words.next();
    }
    let set = match first.as_deref() {
        Some("short") => Set::Short,
        Some("full") => Set::Full,
        _ => return Err(Error::new("which set?")),
    };
    let mut arguments = Arguments {
        question,
        set,
        targets: Vec::new(),
        table: None,
        causes: None,
        jobs: 2,
        begin: None,
        every: None,
        max_steps: None,
        inject: None,
        every_inject: 1000,
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| Error::new(format!("{word} needs a value")))?;
        let number = value.parse::<u64>().ok().filter(|&n| n > 0);
        let number = number.ok_or_else(|| Error::new(format!("{word} needs a number above 0, not {value}")));
        match word.as_str() {
            "--target" => arguments.targets.push(value),
            "--table" => arguments.table = Some(value),
            "--causes" => arguments.causes = Some(value),
            "--jobs" => arguments.jobs = usize::try_from(number?).unwrap_or(1),
            "--from" => arguments.begin = Some(begin(&value)?),
            "--every" => arguments.every = Some(number?),
            "--max-steps" => arguments.max_steps = Some(number?),
            "--inject" => arguments.inject = i32::try_from(number?).ok(),
            "--every-inject" => arguments.every_inject = number?,
            _ => return Err(Error::new(format!("unknown option {word}"))),
        }
    }
    Ok(arguments)
}

fn begin(value: &str) -> Result<Begin> {
    match value {
        "kernel" => Ok(Begin::Kernel),
        "entry" => Ok(Begin::Entry),
        _ => Err(Error::new(format!("--from takes kernel or entry, not {value}"))),
    }
}

fn chosen(arguments: &Arguments) -> Result<Vec<(&'static Target, Plan)>> {
    for name in &arguments.targets {
        if !TARGETS.iter().any(|t| t.name == name) {
            let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            return Err(Error::new(format!("no target is called {name}; there are {}", names.join(", "))));
        }
    }
    let mut chosen = Vec::new();
    for target in TARGETS {
        let named = arguments.targets.iter().any(|name| name == target.name);
        let plan = match arguments.targets.as_slice() {
            [] => target.plan(arguments.set),
            _ if named => target.plan(arguments.set).or(target.plan(Set::Full)),
            _ => None,
        };
        if let Some(plan) = plan {
            chosen.push((target, adjusted(plan, arguments)));
        }
    }
    Ok(chosen)
}

fn adjusted(plan: Plan, arguments: &Arguments) -> Plan {
    Plan {
        begin: arguments.begin.unwrap_or(plan.begin),
        every: arguments.every.unwrap_or(plan.every),
        peers_every: plan.peers_every,
        max_steps: arguments.max_steps.unwrap_or(plan.max_steps),
        inject: arguments.inject.map(|signal| (signal, arguments.every_inject)).or(plan.inject),
    }
}

/// Says whether all targets could be run, and nothing was found that must not be.
fn run(arguments: &Arguments) -> Result<bool> {
    match arguments.question {
        Question::Chain => run_chain(arguments),
        Question::Clear => run_clear(arguments),
        Question::Rows => run_rows(arguments),
        Question::Fast => run_fast(arguments),
        Question::Objects => run_objects(arguments),
    }
}

fn run_chain(arguments: &Arguments) -> Result<bool> {
    let ran = run::run(&chosen(arguments)?, arguments.jobs, run::measured, report);
    let failures = ran.iter().filter(|(_, outcome)| outcome.is_err()).count();
    let outcomes: Vec<Outcome> = ran.into_iter().filter_map(|(_, outcome)| outcome.ok()).collect();

    let names: Vec<String> = contender::all().iter().map(|c| c.name().to_owned()).collect();
    let text = table::table(&names, contender::missing(), &outcomes);
    print!("{text}");
    written(arguments, &text)?;
    let default = programs::directory().join("causes.md");
    let path = arguments.causes.as_ref().map_or(default, Into::into);
    fs::write(&path, table::causes(&names, &outcomes)).map_err(|e| Error::system(path.display(), e))?;
    println!("Causes of wrong answers: {}", path.display());
    if failures > 0 {
        println!("{failures} targets could not be run.");
    }
    let ours = names.iter().zip(table::pooled(&names, &outcomes)).find(|(name, _)| *name == OURS);
    let unlisted = ours.as_ref().map(|(_, score)| causes::unlisted(score)).unwrap_or_default();
    if !unlisted.is_empty() {
        println!("Wrong for reasons that are not listed, after {}.", unlisted.join(", "));
    }
    let trusted = ours.map_or(0, |(_, score)| score.false_trusts.len());
    Ok(failures == 0 && unlisted.is_empty() && trusted == 0)
}

fn run_clear(arguments: &Arguments) -> Result<bool> {
    let work = |target: &Target, plan: &Plan| clear::measure(target, &sparser(*plan, arguments));
    let outcomes = finished(run::run(&chosen(arguments)?, arguments.jobs, work, |(target, outcome)| match outcome {
        Ok(counts) => eprintln!("{}: {} steps", target.name, counts.steps),
        Err(error) => eprintln!("{}: {error}", target.name),
    }));
    let text = clear::table::table(&outcomes);
    print!("{text}");
    written(arguments, &text)?;
    let examples = clear::table::examples(&outcomes);
    if let Some(path) = &arguments.causes {
        fs::write(path, &examples).map_err(|e| Error::system(path, e))?;
    }
    let wrong: usize = outcomes.iter().map(|(_, counts)| counts.false_clear.len()).sum();
    if wrong > 0 {
        print!("{examples}");
    }
    Ok(wrong == 0)
}

fn run_rows(arguments: &Arguments) -> Result<bool> {
    let outcomes =
        finished(run::run(&chosen(arguments)?, arguments.jobs, rows::measure, |(target, outcome)| match outcome {
            Ok(counts) => eprintln!("{}: {} instructions", target.name, counts.asked()),
            Err(error) => eprintln!("{}: {error}", target.name),
        }));
    let text = rows::table::table(&outcomes);
    print!("{text}");
    written(arguments, &text)?;
    Ok(outcomes.iter().all(|(_, counts)| counts.refuted() == 0))
}

fn run_fast(arguments: &Arguments) -> Result<bool> {
    let ran =
        run::run(&chosen(arguments)?, arguments.jobs, fast::stepped::measure, |(target, outcome)| match outcome {
            Ok(counts) => eprintln!("{}: {} traces, {} differences", target.name, counts.asks, counts.differences),
            Err(error) => eprintln!("{}: {error}", target.name),
        });
    let all_ran = ran.iter().all(|(_, outcome)| outcome.is_ok());
    let outcomes = finished(ran);
    let text = fast::document::stepped(&outcomes);
    print!("{text}");
    written(arguments, &text)?;
    Ok(all_ran && outcomes.iter().all(|(_, counts)| counts.differences == 0 && counts.words.wrong == 0))
}

fn run_objects(arguments: &Arguments) -> Result<bool> {
    let mut outcomes = Vec::new();
    for (name, path) in fast::objects::objects(arguments.set) {
        if arguments.targets.is_empty() || arguments.targets.iter().any(|target| target == name) {
            let tally = fast::objects::measure(name, &path, arguments.set)?;
            eprintln!("{name}: {} asked, {} differences", tally.asked, tally.differences);
            outcomes.push((name, tally));
        }
    }
    let text = fast::document::objects(&outcomes);
    print!("{text}");
    written(arguments, &text)?;
    Ok(outcomes.iter().all(|(_, tally)| tally.differences == 0 && tally.is_small()))
}

/// A decision is asked for less often, and not so far into each program, unless the arguments say so.
fn sparser(plan: Plan, arguments: &Arguments) -> Plan {
    Plan {
        every: arguments.every.unwrap_or(CLEAR_EVERY),
        max_steps: arguments.max_steps.unwrap_or(plan.max_steps.min(CLEAR_STEPS)),
        ..plan
    }
}

/// The outcomes of those targets that could be run.
fn finished<T>(ran: Vec<Ran<T>>) -> Vec<(&'static str, T)> {
    ran.into_iter().filter_map(|(target, outcome)| Some((target.name, outcome.ok()?))).collect()
}

/// Writes the table where the arguments want it.
fn written(arguments: &Arguments, text: &str) -> Result<()> {
    let name = match arguments.question {
        Question::Chain => "oracle",
        Question::Clear => "oracle clear",
        Question::Rows => "oracle rows",
        Question::Fast => "oracle fast",
        Question::Objects => "oracle objects",
    };
    arguments.table.as_ref().map_or(Ok(()), |path| document::write(path, name, text))
}

fn report((target, outcome): &Ran<Outcome>) {
    match outcome {
        Ok(outcome) => eprintln!(
            "{}: {} steps in {:.1} s, ended {:?}",
            target.name,
            outcome.counts.steps,
            outcome.took.as_secs_f64(),
            outcome.end
        ),
        Err(error) => eprintln!("{}: {error}", target.name),
    }
}
