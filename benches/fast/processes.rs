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

/// A kind of process: what tells this program to be one.
#[derive(Clone, Copy)]
pub enum Kind {
    /// About 80 frames of every kind, traced twice. Says what preparing, the first and the second trace took in
    /// microseconds of CPU time, the first by the clock, and how many return addresses were found and true.
    First,
    /// Chains of 60 out of 10,000 functions, each function once, and then each once more in other chains. Says nanoseconds a
    /// frame of both passes, and how many return addresses of a chain were found and true.
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
        Kind::Many => twice(&contender),
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
        let began = cpu();
        black_box((contender.trace)(leaf, &mut pcs));
        let second = cpu() - began;
        seen.check(leaf, pcs.get(..count).unwrap_or(&pcs));
        let times = [prepared, first, second, first_by_clock].map(|time| time.as_nanos() as f64 / 1000.0);
        times.iter().for_each(|time| print!("{time} "));
    });
    let figure = seen.figure();
    println!("{} {}", figure.found, figure.truth);
    Ok(())
}

fn twice(contender: &Contender) -> Result<(), Box<dyn Error>> {
    let programs = Programs::load(contender.flavour)?;
    let (functions, ticks) = (many(contender.flavour)?, Ticks::new());
    (contender.prepare)()?;
    // What it does only once in a process is not what is asked about.
    let mut seen = Seen::default();
    once_each(contender, [programs.recursion(60)].into_iter(), &ticks, &mut seen);
    let mut numbers = Numbers(1);
    let mut seen = Seen::default();
    for _ in 0..2 {
        let chains = shuffled(&functions, programs.leaf, &mut numbers);
        print!("{} ", once_each(contender, chains.into_iter(), &ticks, &mut seen));
    }
    let figure = seen.figure();
    println!("{} {}", figure.found, figure.truth);
    Ok(())
}
