//! Instructions a frame, counted by valgrind.

use crate::contenders::{Contender, named};
use crate::programs::Programs;
use crate::repeated::ROOM;
use crate::stacks::{Leaf, Numbers, stack};
use std::error::Error;
use std::hint::black_box;
use std::process::Command;

/// What tells this program to do one contender's work and nothing else.
pub const WORD: &str = "--count";

/// Traces that are counted, after as many that are not.
const TRACES: usize = 100;

/// Whether the next trace is of the same stack.
#[derive(Clone, Copy)]
pub enum Stacks {
    Same,
    Varied,
}

impl Stacks {
    const fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Varied => "varied",
        }
    }
}

/// Instructions a frame, of 80 frames; `None` without valgrind.
pub fn counted(contender: &Contender, stacks: Stacks) -> Option<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=bench_counted"]);
    valgrind.arg(std::env::current_exe().ok()?).args([WORD, contender.name, stacks.word()]);
    let output = valgrind.output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let refs = said.lines().find_map(|line| line.split_once("refs:"))?.1;
    let frames: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    Some(refs.trim().replace(',', "").parse::<f64>().ok()? / frames)
}

/// Does it, and prints how many frames there were.
pub fn run(contender: &str, stacks: &str) -> Result<(), Box<dyn Error>> {
    let contender = named(contender)?;
    let programs = Programs::load(contender.flavour)?;
    (contender.prepare)()?;
    let (mut numbers, mut pcs, mut frames) = (Numbers(0), [0; ROOM], 0);
    if stacks == Stacks::Same.word() {
        stack(&programs.wide(&mut numbers), &mut |leaf| {
            for _ in 0..TRACES {
                black_box((contender.trace)(leaf, &mut pcs));
            }
            frames = (0..TRACES).map(|_| bench_counted(&contender, leaf, &mut pcs)).sum();
        });
    } else {
        for _ in 0..TRACES {
            let links = programs.wide(&mut numbers);
            stack(&links, &mut |leaf| {
                black_box((contender.trace)(leaf, &mut pcs));
            });
        }
        for _ in 0..TRACES {
            let links = programs.wide(&mut numbers);
            stack(&links, &mut |leaf| frames += bench_counted(&contender, leaf, &mut pcs));
        }
    }
    println!("{frames}");
    Ok(())
}

/// The counter runs in here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_counted(contender: &Contender, leaf: &Leaf<'_>, pcs: &mut [usize; ROOM]) -> usize {
    black_box((contender.trace)(leaf, pcs))
}
