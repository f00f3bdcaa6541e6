//! Many traces of one stack, and one trace of each of many stacks.

use crate::contenders::Contender;
use crate::measure::{Effort, Ticks, cpu, fence, median};
use crate::programs::{Flavour, Link, Programs};
use crate::stacks::{Leaf, Numbers, stack};
use std::hint::black_box;

/// Pcs that there is room for.
pub const ROOM: usize = 512;

/// Of both flavours.
pub struct Both {
    with: Programs,
    without: Programs,
}

impl Both {
    pub fn load() -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self { with: Programs::load(Flavour::FramePointers)?, without: Programs::load(Flavour::Without)? })
    }

    pub fn of(&self, contender: &Contender) -> &Programs {
        match contender.flavour {
            Flavour::FramePointers => &self.with,
            Flavour::Without => &self.without,
        }
    }
}

/// What one contender needed on one workload.
#[derive(Clone, Debug)]
pub struct Figure {
    /// For a frame.
    pub nanoseconds: f64,
    /// The same beside the raw chase, which is the first contender: the median of the ratios of each round.
    pub beside_raw: f64,
    /// True return addresses that it found, and that there were, of one stack on average.
    pub found: f64,
    pub truth: f64,
}

impl Figure {
    pub fn is_complete(&self) -> bool {
        self.truth - self.found < 0.001
    }
}

/// What was seen in the rounds.
#[derive(Clone, Default)]
pub struct Seen {
    turns: Vec<f64>,
    found: usize,
    truth: usize,
    stacks: usize,
}

impl Seen {
    /// Compares the last trace, of so many frames, with the truth.
    pub fn check(&mut self, contender: &Contender, leaf: &Leaf<'_>, pcs: &mut [usize], count: usize) {
        (contender.show)(pcs);
        self.found += leaf.found(pcs.get(..count).unwrap_or(pcs));
        self.truth += leaf.truth.len();
        self.stacks += 1;
    }

    /// What one turn took, for a frame.
    pub fn turn(&mut self, nanoseconds: f64) {
        self.turns.push(nanoseconds);
    }

    /// All turns so far.
    pub fn turns(&self) -> &[f64] {
        &self.turns
    }

    pub fn figure(&self, raw: &Self) -> Figure {
        let average = |count: usize| count as f64 / self.stacks as f64;
        let ratios: Vec<f64> = self.turns.iter().zip(&raw.turns).map(|(mine, raw)| mine / raw).collect();
        Figure {
            nanoseconds: median(&self.turns),
            beside_raw: median(&ratios),
            found: average(self.found),
            truth: average(self.truth),
        }
    }
}

/// The trace is taken again and again at the same leaf, for a turn of CPU time; the contenders in turns. A fence stands
/// between one trace and the next: the processor would begin the next one early, which it cannot do where a trace is
/// wanted once.
pub fn repeated(
    contenders: &[Contender],
    both: &Both,
    effort: Effort,
    links: impl Fn(&Programs) -> Vec<Link>,
) -> Vec<Figure> {
    let mut seen = vec![Seen::default(); contenders.len()];
    let mut pcs = [0; ROOM];
    for _ in 0..effort.rounds {
        for (contender, seen) in contenders.iter().zip(&mut seen) {
            stack(&links(both.of(contender)), &mut |leaf| {
                let count = (contender.trace)(leaf, &mut pcs);
                seen.check(contender, leaf, &mut pcs, count);
                let batch = batch(contender, leaf, &mut pcs, effort);
                let (began, mut frames) = (cpu(), 0);
                for _ in 0..batch {
                    frames += black_box((contender.trace)(leaf, &mut pcs));
                    fence();
                }
                seen.turn((cpu() - began).as_nanos() as f64 / frames.max(1) as f64);
            });
        }
    }
    seen.iter().map(|one| one.figure(&seen[0])).collect()
}

/// As many traces as fill a turn.
fn batch(contender: &Contender, leaf: &Leaf<'_>, pcs: &mut [usize], effort: Effort) -> usize {
    const TRIED: u32 = 8;
    let began = cpu();
    for _ in 0..TRIED {
        black_box((contender.trace)(leaf, pcs));
    }
    let one = ((cpu() - began) / TRIED).as_nanos().max(1);
    usize::try_from(effort.turn.as_nanos() / one).unwrap_or(0).clamp(8, 5000)
}

/// Each stack is another one, that shares nothing with the one before but where it begins, and is traced once: the
/// counter of the processor is read before and after, and what reading it takes is subtracted. A turn is many stacks,
/// the same ones for every contender, and its figure their mean.
pub fn varied(contenders: &[Contender], both: &Both, effort: Effort, ticks: &Ticks) -> Vec<Figure> {
    let mut seen = vec![Seen::default(); contenders.len()];
    for round in 0..effort.rounds {
        for (contender, seen) in contenders.iter().zip(&mut seen) {
            let mut numbers = Numbers(round as u64);
            let stacks = (0..effort.visits).map(|_| both.of(contender).wide(&mut numbers));
            let turn = once_each(contender, stacks, ticks, seen);
            seen.turn(turn);
        }
    }
    seen.iter().map(|one| one.figure(&seen[0])).collect()
}

/// Nanoseconds a frame, of stacks that are traced once each: of all but the slowest of twenty, for somebody else may
/// have had the processor meanwhile.
pub fn once_each(
    contender: &Contender,
    stacks: impl Iterator<Item = Vec<Link>>,
    ticks: &Ticks,
    seen: &mut Seen,
) -> f64 {
    let mut pcs = [0; ROOM];
    let mut visits = Vec::new();
    for links in stacks {
        stack(&links, &mut |leaf| {
            let mut count = 0;
            let nanoseconds = ticks.of(|| count = black_box((contender.trace)(leaf, &mut pcs)));
            visits.push(nanoseconds / count.max(1) as f64);
            seen.check(contender, leaf, &mut pcs, count);
        });
    }
    visits.sort_by(f64::total_cmp);
    visits.truncate((visits.len() * 19).div_ceil(20));
    visits.iter().sum::<f64>() / visits.len() as f64
}
