//! How many traces several threads take in a second of CPU time each, with and without a thread that loads and unloads
//! a library all the time.

use crate::contenders::Contender;
use crate::measure::{Effort, cpu, fence, median};
use crate::repeated::{Both, ROOM};
use crate::scaling::churn::{Churn, Library};
use crate::stacks::{Numbers, stack};
use std::error::Error;
use std::hint::black_box;
use std::sync::Barrier;

/// Traces between two looks at the clock.
const BATCH: u32 = 16;

/// Whether libraries come and go meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Quiet,
    Churns,
}

impl Loader {
    /// After a number of threads.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Quiet => "",
            Self::Churns => ", `dlopen` meanwhile",
        }
    }
}

/// What is measured: threads that trace, and what the loader does.
pub const SETTINGS: [(usize, Loader); 6] = [
    (1, Loader::Quiet),
    (2, Loader::Quiet),
    (4, Loader::Quiet),
    (8, Loader::Quiet),
    (1, Loader::Churns),
    (2, Loader::Churns),
];

/// Traces a second of CPU time.
pub struct Rates {
    /// Of one thread.
    pub one: f64,
    /// In each of the settings, summed over its threads, beside one thread in the same round.
    pub beside_one: [f64; SETTINGS.len()],
}

pub fn rates(contenders: &[Contender], both: &Both, effort: Effort) -> Result<Vec<Rates>, Box<dyn Error>> {
    let library = Library::build()?;
    let mut seen: Vec<[Vec<f64>; SETTINGS.len()]> = vec![Default::default(); contenders.len()];
    for _ in 0..effort.rounds.div_ceil(3) {
        for (setting, (threads, loader)) in SETTINGS.into_iter().enumerate() {
            let churn = (loader == Loader::Churns).then(|| Churn::begin(&library)).transpose()?;
            for (contender, seen) in contenders.iter().zip(&mut seen) {
                seen[setting].push(together(threads, || alone(contender, both, effort)));
            }
            churn.map(Churn::end);
        }
    }
    let rates = |settings: &[Vec<f64>; SETTINGS.len()]| {
        let beside_one = |rates: &Vec<f64>| {
            let ratios: Vec<f64> = rates.iter().zip(&settings[0]).map(|(rate, one)| rate / one).collect();
            median(&ratios)
        };
        Rates { one: median(&settings[0]), beside_one: settings.each_ref().map(beside_one) }
    };
    Ok(seen.iter().map(rates).collect())
}

/// The sum of what so many threads reach at once.
fn together(threads: usize, alone: impl Fn() -> f64 + Sync) -> f64 {
    let start = Barrier::new(threads);
    let traces = || {
        start.wait();
        alone()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(traces)).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).sum()
    })
}

/// Traces of one stack a second of this thread's CPU time.
fn alone(contender: &Contender, both: &Both, effort: Effort) -> f64 {
    if (contender.prepare)().is_err() {
        return f64::NAN;
    }
    let (mut pcs, mut rate) = ([0; ROOM], f64::NAN);
    stack(&both.of(contender).wide(&mut Numbers(0)), &mut |leaf| {
        let mut trace = || black_box((contender.trace)(leaf, &mut pcs));
        trace();
        let (began, mut traces) = (cpu(), 0.0);
        while cpu() - began < effort.turn * 10 {
            for _ in 0..BATCH {
                trace();
                fence();
            }
            traces += f64::from(BATCH);
        }
        rate = traces / (cpu() - began).as_secs_f64();
    });
    rate
}
