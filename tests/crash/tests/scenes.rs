//! Every scene once: without a handler, to know that it is what it says; and under our own handler.

use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use surestack_crash_scenes::calls::{self, Calls};
use surestack_crash_scenes::contender::Contender;
use surestack_crash_scenes::judge::Trace;
use surestack_crash_scenes::random::{self, Count, Way};
use surestack_crash_scenes::run;
use surestack_crash_scenes::scenes::{Leaves, Outside, SCENES, Scene};
use surestack_crash_scenes::table::{self, Cell, Status};
use surestack_crash_scenes::victim::Victim;

/// Scenes whose system calls are compared with the list: few and many threads, signals of several kinds, places that are
/// closed, a child.
const TRACED: [&str; 8] = [
    "null_read",
    "call_null",
    "abort",
    "std_thread_null",
    "overflow_raw_thread",
    "threads_500",
    "stderr_closed",
    "fork_child",
];

fn main() {
    let arguments = Arguments::from_args();
    let victim = Victim::at(Path::new(env!("CARGO_BIN_EXE_surestack-crash-victim"))).expect("the victim was built");
    let mut trials = Vec::new();
    for scene in SCENES {
        let own = victim.clone();
        let name = format!("under_our_handler::{}_is_reported_and_ends_as_it_would", scene.name);
        trials.push(Trial::test(name, move || is_reported(&own, scene)));
        // What was sent from outside is lost in std's own handler: without another one, those victims live.
        if scene.outside == Outside::Signal {
            continue;
        }
        let own = victim.clone();
        let name = format!("without_a_handler::{}_ends_and_the_truth_is_kept", scene.name);
        trials.push(Trial::test(name, move || is_what_it_says(&own, scene)));
        let own = victim.clone();
        let name = format!("at_signal_time::{}_calls_no_allocator_lock_or_thread_local", scene.name);
        if !matches!(scene.outside, Outside::Preloaded(_)) {
            trials.push(Trial::test(name, move || calls_nothing(&own, scene)));
        }
    }
    for scene in SCENES.iter().filter(|scene| TRACED.contains(&scene.name)) {
        let victim = victim.clone();
        let name = format!("at_signal_time::{}_makes_only_the_listed_system_calls", scene.name);
        trials.push(Trial::test(name, move || only_listed(&victim, scene)));
    }
    for (way, name) in [
        (Way::Signal, "at_random_instructions::chain_and_registers_are_those_of_the_stepper"),
        (Way::Call, "at_random_calls::chain_and_registers_are_those_of_the_stepper"),
    ] {
        let victim = victim.clone();
        trials.push(Trial::test(name, move || dies_anywhere(&victim, way)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// It ends by its own fault, having begun its chain.
fn is_what_it_says(victim: &Victim, scene: &Scene) -> Result<(), Failed> {
    let death = run::run(victim, scene, Contender::None)?;
    death.tidy();
    match death.truths.iter().map(|t| t.unable).max() {
        Some(2) => {
            println!("skipped: {} is not allowed here", scene.name);
            return Ok(());
        }
        Some(1) => return Err(format!("it was not set up: {}", death.text).into()),
        _ => {}
    }
    match death.fate() {
        None => return Err("it hangs".into()),
        Some(0) if scene.name != "panic_thread" => return Err("it does not die".into()),
        _ => {}
    }
    let begun = death.truths.iter().any(|t| t.chain.len() >= 6);
    let ran_on = death.truths.iter().any(|t| t.survived);
    match (begun, ran_on) {
        (true, false) => Ok(()),
        (false, _) => Err("it kept no truth".into()),
        (true, true) => Err("it ran on over its fault".into()),
    }
}

/// As much is reported as the bytes allow, every address and every register right, and the status is what it would be.
fn is_reported(victim: &Victim, scene: &Scene) -> Result<(), Failed> {
    let without = match scene.outside {
        Outside::Signal => Some(libc::SIGSEGV),
        _ => table::without(victim, scene)?,
    };
    let death = run::run(victim, scene, Contender::Ours)?;
    death.tidy();
    let (trace, status) = match table::judge(&death, victim, scene, Contender::Ours, without) {
        Cell::Unable => {
            println!("skipped: {} cannot be set up here", scene.name);
            return Ok(());
        }
        Cell::Hang { trace } => return Err(format!("it hangs; {trace:?}\n{}", death.text).into()),
        Cell::Ended { trace, status } => (trace, status),
    };
    if status == Status::Lost {
        return Err(format!("it ends with {:x?} instead of {without:x?}\n{}", death.fate(), death.text).into());
    }
    let enough = match scene.leaves {
        Leaves::All => trace == Trace::Complete,
        Leaves::Some => matches!(trace, Trace::Complete | Trace::Partial { right: 1.., .. }),
        Leaves::Nothing => !matches!(trace, Trace::Wrong { .. }),
    };
    if !enough {
        return Err(format!("{trace:?}\n{}", death.text).into());
    }
    if scene.leaves != Leaves::Nothing && death.registers_are_right() == Some(false) {
        return Err(
            format!("the registers are not those of the victim: {:x?}\n{}", death.registers(), death.text).into()
        );
    }
    Ok(())
}

fn calls_nothing(victim: &Victim, scene: &Scene) -> Result<(), Failed> {
    let none = Calls { allocator: 0, locks: 0, thread_locals: 0 };
    match calls::library(victim, scene, Contender::Ours)? {
        Some(calls) if calls != none => Err(format!("{calls:?}").into()),
        _ => Ok(()),
    }
}

fn only_listed(victim: &Victim, scene: &Scene) -> Result<(), Failed> {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return Ok(());
    }
    let lines = include_str!("system-calls.txt").lines();
    let listed: BTreeSet<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    let made = calls::system(victim, scene, Contender::Ours)?;
    let others: Vec<&String> = made.iter().filter(|name| !listed.contains(name.as_str())).collect();
    match others.as_slice() {
        [] => Ok(()),
        others => Err(format!("{others:?} are not in system-calls.txt").into()),
    }
}

/// A few of the thousands that the command `random` or `calls` runs.
fn dies_anywhere(victim: &Victim, way: Way) -> Result<(), Failed> {
    const SAMPLES: usize = 25;
    let mut count = Count::default();
    for number in 0..SAMPLES {
        random::sample(victim, Contender::Ours, way, number, &mut count);
    }
    let right = [count.complete, count.status_kept, count.registers];
    if right == [SAMPLES; 3] { Ok(()) } else { Err(format!("{count}: {:?}", count.failures).into()) }
}
