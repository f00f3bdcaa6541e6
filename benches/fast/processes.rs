//! What needs a process of its own: nothing has been traced there before.

use crate::contenders::{Contender, named};
use crate::measure::{Effort, Ticks, cpu, median};
use crate::programs::{Programs, many};
use crate::repeated::{ROOM, Seen, once_each};
use crate::stacks::{Numbers, shuffled, stack};
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

/// Passes through the 10,000 functions, and how many of them are for settling: libunwind's cache grows meanwhile, and
/// forgets.
const PASSES: usize = 9;
const SETTLED: usize = 4;

/// A kind of process: what tells this program to be one.
#[derive(Clone, Copy)]
pub enum Kind {
    /// About 80 frames of every kind, traced twice. Says what preparing, the first and the second trace took in
    /// microseconds of CPU time, the first by the clock, and how many return addresses were found and true.
    First,
    /// Chains of 60 out of 10,000 functions, each function once in a pass, and in other chains in the next one. Says
    /// nanoseconds a frame of the first pass, of the second, and of those in which nothing changes any more; and how
    /// many return addresses of a chain were found and true.
    Many,
}

impl Kind {
    pub const fn word(self) -> &'static str {
        match self {
            Self::First => "--first",
            Self::Many => "--many",
        }
    }
}

/// What processes of a kind say, for each contender: the medians of many, in turns.
pub fn medians<const COLUMNS: usize>(
    kind: Kind,
    contenders: &[Contender],
    effort: Effort,
) -> Result<Vec<[f64; COLUMNS]>, Box<dyn Error>> {
    let mut seen = vec![[const { Vec::new() }; COLUMNS]; contenders.len()];
    for _ in 0..effort.processes {
        for (contender, columns) in contenders.iter().zip(&mut seen) {
            let output = Command::new(std::env::current_exe()?).args([kind.word(), contender.name]).output()?;
            let said = String::from_utf8(output.stdout)?;
            let numbers = said.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
            if numbers.len() != COLUMNS {
                return Err(format!("{} {}: {:?}", kind.word(), contender.name, output.status).into());
            }
            columns.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
        }
    }
    Ok(seen.iter().map(|columns| columns.each_ref().map(|column| median(column))).collect())
}

/// Is such a process.
pub fn run(kind: Kind, contender: &str) -> Result<(), Box<dyn Error>> {
    let contender = named(contender)?;
    match kind {
        Kind::First => first(&contender),
        Kind::Many => again_and_again(&contender),
    }
}

fn first(contender: &Contender) -> Result<(), Box<dyn Error>> {
    let programs = Programs::load(contender.flavour)?;
    let links = programs.wide(&mut Numbers(0));
    let (mut pcs, mut seen) = ([0; ROOM], Seen::default());
    let began = cpu();
    (contender.prepare)()?;
    let prepared = cpu() - began;
    stack(&links, &mut |leaf| {
        let (clock, began) = (Instant::now(), cpu());
        let count = black_box((contender.trace)(leaf, &mut pcs));
        let (first, first_by_clock) = (cpu() - began, clock.elapsed());
        seen.check(contender, leaf, &mut pcs, count);
        let began = cpu();
        black_box((contender.trace)(leaf, &mut pcs));
        let second = cpu() - began;
        let times = [prepared, first, second, first_by_clock].map(|time| time.as_nanos() as f64 / 1000.0);
        times.iter().for_each(|time| print!("{time} "));
    });
    let figure = seen.figure(&seen);
    println!("{} {}", figure.found, figure.truth);
    Ok(())
}

fn again_and_again(contender: &Contender) -> Result<(), Box<dyn Error>> {
    let programs = Programs::load(contender.flavour)?;
    let (functions, ticks) = (many(contender.flavour)?, Ticks::new());
    (contender.prepare)()?;
    // What it does only once in a process is not what is asked about.
    once_each(contender, [programs.recursion(60)].into_iter(), &ticks, &mut Seen::default());
    let (mut numbers, mut seen) = (Numbers(1), Seen::default());
    for _ in 0..PASSES {
        let chains = shuffled(&functions, programs.leaf, &mut numbers);
        let pass = once_each(contender, chains.into_iter(), &ticks, &mut seen);
        seen.turn(pass);
    }
    let passes = seen.turns();
    let settled = median(passes.get(SETTLED..).unwrap_or_default());
    let figure = seen.figure(&seen);
    println!("{} {} {settled} {} {}", passes[0], passes[1], figure.found, figure.truth);
    Ok(())
}
