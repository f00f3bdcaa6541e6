//! Runs scenes, prints what became of them, and writes the table.

use std::env;
use std::ops::Range;
use std::process::ExitCode;
use surestack_crash_scenes::contender::{CONTENDERS, Contender};
use surestack_crash_scenes::random::{Count, Way};
use surestack_crash_scenes::victims::{Linked, Victims};
use surestack_crash_scenes::{calls, random, run, scenes, table};
use surestack_oracle::error::{Error, Result};

const USAGE: &str = "usage: surestack-crash-scenes [--there] COMMAND
    --there                    takes the victims beside this program, and does not build them
    table [--write FILE]       every scene under every handler
    scene NAME HANDLER         one of them, with everything it left
    random N [HANDLER]         N (or FROM..TO) programs that die of a signal at a random instruction
    calls N [HANDLER]          N programs that die of a random call through a bad pointer
    samples SIGNALS CALLS OTHERS [--write FILE]
                               both, so many for ours, and how many of each for the others
    builds [--write FILE]      every scene under our handler in programs linked otherwise
    calls-made NAME [HANDLER]  what it calls at signal time
    list                       the scenes";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--there", rest @ ..] => command(Victims::there, rest),
        all => command(Victims::built, all),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn command(victims: fn() -> Result<Victims>, words: &[&str]) -> Result<()> {
    match words {
        ["list"] => {
            for scene in scenes::SCENES {
                println!("{:24}{}", scene.name, scene.says);
            }
            Ok(())
        }
        ["scene", name, contender] => one(&victims()?, name, contender),
        ["table", rest @ ..] => {
            let text = table::table(&victims()?, &mut |row| print!("{row}"))?;
            written(rest, "crash handlers", &text)
        }
        ["samples", signals, calls, others, rest @ ..] => {
            let text = samples(&victims()?, range(signals)?, range(calls)?, range(others)?)?;
            written(rest, "crash samples", &text)
        }
        ["builds", rest @ ..] => {
            let builds = [Linked::Dynamic, Linked::StaticPie, Linked::Static];
            let victims = builds.map(|linked| Ok((linked, Victims::linked(linked)?)));
            let victims: Vec<(Linked, Victims)> = victims.into_iter().collect::<Result<_>>()?;
            let text = table::builds(&victims, &mut |row| print!("{row}"))?;
            written(rest, "crash builds", &text)
        }
        ["calls-made", name] => made(&victims()?, name, "ours"),
        ["calls-made", name, contender] => made(&victims()?, name, contender),
        ["random", number, rest @ ..] => many(&victims()?, Way::Signal, number, rest),
        ["calls", number, rest @ ..] => many(&victims()?, Way::Call, number, rest),
        _ => Err(Error::new(USAGE)),
    }
}

/// Where to, if the arguments say so.
fn written(rest: &[&str], name: &str, text: &str) -> Result<()> {
    match rest {
        [] => Ok(()),
        ["--write", path] => surestack_oracle::document::write(path, name, text),
        _ => Err(Error::new(USAGE)),
    }
}

/// A row for each handler and way to die.
fn samples(victims: &Victims, signals: Range<usize>, calls: Range<usize>, others: Range<usize>) -> Result<String> {
    let mut text = format!("{}\n|---|---|---|---|---|---|---|---|---|\n", Count::HEAD);
    for contender in CONTENDERS.iter().copied().filter(|c| *c != Contender::Std) {
        for (way, own) in [(Way::Signal, &signals), (Way::Call, &calls)] {
            let range = if contender == Contender::Ours { own } else { &others };
            let count = tally(victims, contender, way, range)?;
            let row = format!("| {} | {} |{}\n", contender.name(), way.words(), count.row());
            print!("{row}");
            text.push_str(&row);
        }
    }
    Ok(text)
}

fn tally(victims: &Victims, contender: Contender, way: Way, range: &Range<usize>) -> Result<Count> {
    let mut count = Count::default();
    for number in range.clone() {
        random::sample(victims.of(contender)?, contender, way, number, &mut count);
    }
    for failure in count.failures.iter().take(20) {
        eprintln!("{}: {failure}", contender.name());
    }
    Ok(count)
}

/// From `FROM..TO`, or from nothing to a number.
fn range(words: &str) -> Result<Range<usize>> {
    let number = |word: &str| word.parse().map_err(|_| Error::new(format!("{word} is no number")));
    match words.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => Ok(0..number(words)?),
    }
}

fn many(victims: &Victims, way: Way, numbers: &str, rest: &[&str]) -> Result<()> {
    let range = range(numbers)?;
    let contenders: Vec<Contender> = match rest {
        [name] => vec![named(name)?],
        _ => CONTENDERS.iter().copied().filter(|c| *c != Contender::Std).collect(),
    };
    for contender in contenders {
        println!("{}: {}", contender.name(), tally(victims, contender, way, &range)?);
    }
    Ok(())
}

fn named(contender: &str) -> Result<Contender> {
    Contender::named(contender)
        .ok_or_else(|| Error::new(format!("no handler is called {contender}, or it is not compiled in")))
}

fn made(victims: &Victims, name: &str, contender: &str) -> Result<()> {
    let scene = scenes::named(name).ok_or_else(|| Error::new(format!("no scene is called {name}")))?;
    let contender = named(contender)?;
    println!("{:?}", calls::library(victims.of(contender)?, &scene, contender)?);
    for name in calls::system(victims.of(contender)?, &scene, contender)? {
        println!("{name}");
    }
    Ok(())
}

fn one(victims: &Victims, name: &str, contender: &str) -> Result<()> {
    let scene = scenes::named(name).ok_or_else(|| Error::new(format!("no scene is called {name}")))?;
    let contender = named(contender)?;
    let victim = victims.of(contender)?;
    let death = run::run(victim, &scene, contender)?;
    println!("{}", death.text);
    for truth in &death.truths {
        println!("truth: pc {:x?}, survived {}, calls {:?}", truth.pc, truth.survived, truth.calls);
        for entry in truth.chain.iter().take(40) {
            println!("    {:x?}", entry.known);
        }
    }
    println!("fate {:x?} in {:?}; {:?}", death.fate(), death.took, death.trace(contender, victim));
    for left in &death.records {
        println!("record: {} threads, done {}, {:?}", left.threads, left.done, left.troubles);
        println!("    frames {:x?}", left.frames.iter().take(40).collect::<Vec<_>>());
    }
    println!("registers right: {:?}", death.registers_are_right());
    println!("left in {}", death.directory.display());
    Ok(())
}
