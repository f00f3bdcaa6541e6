//! `surestack-oracle short|full [--target NAME] [--table FILE] [--causes FILE]`, or the same with one command's own
//! limits: `--every N --max-steps N`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::{env, fs, thread};
use surestack_oracle::contender;
use surestack_oracle::error::{Error, Result};
use surestack_oracle::measure::{Outcome, measure};
use surestack_oracle::programs;
use surestack_oracle::targets::{Set, TARGETS, Target};
use surestack_oracle::table;

struct Arguments {
    set: Set,
    targets: Vec<String>,
    every: Option<u64>,
    max_steps: Option<u64>,
    table: Option<String>,
    causes: Option<String>,
    jobs: usize,
}

const USAGE: &str = "usage: surestack-oracle short|full [--target NAME]... [--every N] [--max-steps N] [--jobs N] \
                     [--table FILE] [--causes FILE]";

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
    let set = match words.next().as_deref() {
        Some("short") => Set::Short,
        Some("full") => Set::Full,
        _ => return Err(Error::new("which set?")),
    };
    let mut arguments =
        Arguments { set, targets: Vec::new(), every: None, max_steps: None, table: None, causes: None, jobs: 2 };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| Error::new(format!("{word} needs a value")))?;
        let number = || value.parse::<u64>().ok().filter(|&n| n > 0);
        let numeric = || number().ok_or_else(|| Error::new(format!("{word} needs a number above 0, not {value}")));
        match word.as_str() {
            "--target" => arguments.targets.push(value),
            "--every" => arguments.every = Some(numeric()?),
            "--max-steps" => arguments.max_steps = Some(numeric()?),
            "--jobs" => arguments.jobs = usize::try_from(numeric()?).unwrap_or(1),
            "--table" => arguments.table = Some(value),
            "--causes" => arguments.causes = Some(value),
            _ => return Err(Error::new(format!("unknown option {word}"))),
        }
    }
    Ok(arguments)
}

fn chosen(arguments: &Arguments) -> Result<Vec<&'static Target>> {
    for name in &arguments.targets {
        if !TARGETS.iter().any(|t| t.name == name) {
            let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            return Err(Error::new(format!("no target is called {name}; there are {}", names.join(", "))));
        }
    }
    let wanted = |t: &&Target| match arguments.targets.as_slice() {
        [] => t.plan(arguments.set).is_some(),
        names => names.iter().any(|n| n == t.name),
    };
    Ok(TARGETS.iter().filter(wanted).collect())
}

/// Runs the chosen targets, prints the table, writes the reports; says whether all targets could be run.
fn run(arguments: &Arguments) -> Result<bool> {
    let targets = chosen(arguments)?;
    let queue = Mutex::new(targets.iter().enumerate().rev().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while let Some((i, target)) = queue.lock().ok().and_then(|mut q| q.pop()) {
                    let outcome = one(target, arguments);
                    report(target.name, &outcome);
                    if let Ok(mut done) = done.lock() {
                        done.push((i, outcome));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(i, _)| *i);
    let failures = done.iter().filter(|(_, outcome)| outcome.is_err()).count();
    let outcomes: Vec<Outcome> = done.into_iter().filter_map(|(_, outcome)| outcome.ok()).collect();

    let names: Vec<String> = contender::all().iter().map(|c| c.name().to_owned()).collect();
    let text = table::table(&names, contender::missing(), &outcomes);
    print!("{text}");
    if let Some(path) = &arguments.table {
        fs::write(path, &text).map_err(|e| Error::system(path, e))?;
    }
    let default = programs::directory().join("causes.md");
    let path = arguments.causes.as_ref().map_or(default, Into::into);
    fs::write(&path, table::causes(&names, &outcomes)).map_err(|e| Error::system(path.display(), e))?;
    println!("Causes of wrong answers: {}", path.display());
    if failures > 0 {
        println!("{failures} targets could not be run.");
    }
    Ok(failures == 0)
}

fn one(target: &Target, arguments: &Arguments) -> Result<Outcome> {
    let in_either_set = || target.plan(Set::Full).or(target.plan(Set::Short));
    let plan = target.plan(arguments.set).or_else(in_either_set);
    let mut plan = plan.ok_or_else(|| Error::new("the target is in no set"))?;
    plan.every = arguments.every.unwrap_or(plan.every);
    plan.max_steps = arguments.max_steps.unwrap_or(plan.max_steps);
    measure(target.name, &mut target.command()?, &plan, &mut contender::all())
}

fn report(name: &str, outcome: &Result<Outcome>) {
    match outcome {
        Ok(outcome) => eprintln!(
            "{name}: {} steps in {:.1} s, {} return addresses rewritten, {} execs, {:?}",
            outcome.counts.steps,
            outcome.took.as_secs_f64(),
            outcome.counts.rewritten,
            outcome.counts.execs,
            outcome.end
        ),
        Err(error) => eprintln!("{name}: {error}"),
    }
}
