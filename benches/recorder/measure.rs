//! Clocks, and turns of one thread and of two.

use std::ops::Range;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How much is done.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Rounds in which every contender has its turn.
    pub rounds: usize,
    /// CPU time of one turn.
    pub turn: Duration,
}

impl Effort {
    pub const FULL: Self = Self { rounds: 41, turn: Duration::from_millis(10) };
    /// For trying.
    pub const QUICK: Self = Self { rounds: 5, turn: Duration::from_millis(4) };
}

/// Calls between two looks at the clock.
const BATCH: u64 = 500;

/// CPU time of this thread.
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Calls in a turn, and the CPU time and the time that they took.
fn turn(work: fn(Range<u64>), turn: Duration) -> (f64, Duration, Duration) {
    work(0..1);
    let (began, started) = (cpu(), Instant::now());
    let mut calls = 0;
    loop {
        work(calls..calls + BATCH);
        calls += BATCH;
        let used = cpu() - began;
        if used >= turn {
            return (calls as f64, used, started.elapsed());
        }
    }
}

/// Nanoseconds of CPU time a call.
pub fn alone(work: fn(Range<u64>), length: Duration) -> f64 {
    let (calls, used, _) = turn(work, length);
    used.as_nanos() as f64 / calls
}

/// What two threads do, beside one: in a second of their own CPU time, and in a second.
pub fn two_beside_one(work: fn(Range<u64>), length: Duration) -> (f64, f64) {
    let rates = |threads: usize| {
        let barrier = Barrier::new(threads);
        let run = || {
            barrier.wait();
            turn(work, length)
        };
        let turns: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            all.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let rate = |time: fn(&(f64, Duration, Duration)) -> Duration| -> f64 {
            turns.iter().map(|turn| turn.0 / time(turn).as_secs_f64()).sum()
        };
        (rate(|turn| turn.1), rate(|turn| turn.2))
    };
    let (one, two) = (rates(1), rates(2));
    (two.0 / one.0, two.1 / one.1)
}

/// The one in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
