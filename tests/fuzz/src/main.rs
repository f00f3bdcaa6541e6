//! Hostile input, made by seeded mutation, so that every failure can be repeated by its number.
//!
//! `cargo run --profile fuzz -p surestack-fuzz -- --inputs N [--seed S] [--target NAME] [--only INPUT]`
//!
//! Every input must come back: without a panic (the profile has overflow checks), within [`WATCHDOG`], within a number
//! of reads of the target's memory that depends on its frames only, and within [`ADDRESS_SPACE`] of memory. Inputs that
//! broke something once are kept as lines `target seed input` in `fixtures/corpus/inputs` and run first.

mod corrupt;
mod files;
mod frame_information;
mod random;
mod recorders;
mod records;
mod stacks;

use random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One input takes microseconds; a machine under load may stop us for a while.
const WATCHDOG: Duration = Duration::from_secs(5);
/// What the whole run may map, its own sections and libc's included.
const ADDRESS_SPACE: u64 = 2 << 30;
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/corpus/inputs");

/// Something that reads hostile input.
trait Fuzzed {
    /// As the command line and the corpus call it.
    fn name(&self) -> &'static str;

    /// Makes one input from `random` and reads it. Returns a number about the outcome, so that a run can show that its
    /// inputs reach different ends.
    fn run(&mut self, random: &mut Random) -> &'static str;
}

struct Options {
    inputs: u64,
    seed: u64,
    target: Option<String>,
    only: Option<u64>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { inputs: 10_000, seed: 1, target: None, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{word} wants a number, not {value}"));
        match word.as_str() {
            "--inputs" => options.inputs = number()?,
            "--seed" => options.seed = number()?,
            "--only" => options.only = Some(number()?),
            "--target" => options.target = Some(value),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

/// When the input being run began, in milliseconds since the start; `u64::MAX` between inputs.
static BEGAN: AtomicU64 = AtomicU64::new(u64::MAX);
/// The number of the input being run.
static INPUT: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    limit_memory();
    let start = Instant::now();
    std::thread::spawn(move || watch(start));

    let mut targets: Vec<Box<dyn Fuzzed>> = vec![
        Box::new(frame_information::Sections::of_this_system()),
        Box::new(frame_information::Written),
        Box::new(stacks::Smashed),
        Box::new(stacks::Signals),
        Box::new(files::Files::cores()),
        Box::new(files::Files::programs()),
        Box::new(corrupt::Corrupt::demo()),
        Box::new(records::Records::of_demo()),
        Box::new(recorders::Recorders::new()),
    ];
    // Named only: without proofs of rows and text none of its threads is reliable as it is.
    targets.retain(|target| options.target.as_deref().is_none_or(|name| name == target.name()));
    let (mut inputs, mut failures) = (0, 0);
    let share = options.inputs.div_ceil(targets.len().max(1) as u64);
    for target in &mut targets {
        let kept = if options.only.is_none() { corpus(target.name()) } else { Vec::new() };
        let numbers = options.only.map_or(0..share, |only| only..only.saturating_add(1));
        let fresh = numbers.map(|input| (options.seed, input));
        let began = Instant::now();
        let mut outcomes = std::collections::BTreeMap::<&str, u64>::new();
        for (seed, input) in kept.into_iter().chain(fresh) {
            inputs += 1;
            INPUT.store(input, Ordering::Relaxed);
            BEGAN.store(u64::try_from(start.elapsed().as_millis()).unwrap_or(0), Ordering::Relaxed);
            let mut random = Random::new(target.name(), seed, input);
            let outcome = catch_unwind(AssertUnwindSafe(|| target.run(&mut random)));
            BEGAN.store(u64::MAX, Ordering::Relaxed);
            match outcome {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(_) => {
                    failures += 1;
                    println!("FAILED: {} {seed} {input}", target.name());
                }
            }
        }
        println!("{:<10} {:>6.1} s  {outcomes:?}", target.name(), began.elapsed().as_secs_f64());
    }
    println!("{inputs} inputs, {failures} failed, {:.1} s", start.elapsed().as_secs_f64());
    if failures == 0 && inputs > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Inputs that broke something once.
fn corpus(target: &str) -> Vec<(u64, u64)> {
    let lines = std::fs::read_to_string(CORPUS).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let named = words.next() == Some(target);
        named.then(|| Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?)))?
    };
    lines.lines().filter_map(parse).collect()
}

fn watch(start: Instant) {
    loop {
        std::thread::sleep(WATCHDOG / 10);
        let began = BEGAN.load(Ordering::Relaxed);
        if began != u64::MAX && start.elapsed() > Duration::from_millis(began) + WATCHDOG {
            let input = INPUT.load(Ordering::Relaxed);
            println!("FAILED: input {input} is still running after {} s", WATCHDOG.as_secs());
            std::process::abort();
        }
    }
}

fn limit_memory() {
    let limit = libc::rlimit { rlim_cur: ADDRESS_SPACE, rlim_max: ADDRESS_SPACE };
    // SAFETY: `limit` outlives the call, which only reads it.
    let refused = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(refused, 0, "the address space cannot be limited");
}
