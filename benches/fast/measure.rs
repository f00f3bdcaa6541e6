//! Clocks, and medians of interleaved rounds.

use crate::scaling;
use std::arch::x86_64::{__rdtscp, _mm_lfence, _rdtsc};
use std::time::{Duration, Instant};

/// CPU time of this thread.
pub fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The counter of the processor, for what is too short for a system call: a single trace.
pub struct Ticks {
    nanoseconds: f64,
    /// What is counted between two readings with nothing between.
    empty: u64,
}

impl Ticks {
    /// Compared with the clock for a while.
    pub fn new() -> Self {
        let (began, first) = (Instant::now(), begin());
        while began.elapsed() < Duration::from_millis(40) {}
        let nanoseconds = began.elapsed().as_nanos() as f64 / (end() - first) as f64;
        let mut empty: Vec<u64> = (0..1001).map(|_| Self::between(begin(), end())).collect();
        empty.sort_unstable();
        Self { nanoseconds, empty: empty.get(empty.len() / 2).copied().unwrap_or(0) }
    }

    fn between(began: u64, ended: u64) -> u64 {
        ended.saturating_sub(began)
    }

    /// Nanoseconds that this takes, once.
    pub fn of(&self, work: impl FnOnce()) -> f64 {
        let began = begin();
        work();
        let ended = end();
        Self::between(began, ended).saturating_sub(self.empty) as f64 * self.nanoseconds
    }
}

/// What follows is begun when everything before has ended.
pub fn fence() {
    // SAFETY: every processor has it.
    unsafe { _mm_lfence() };
}

fn begin() -> u64 {
    fence();
    // SAFETY: every processor has it.
    let now = unsafe { _rdtsc() };
    fence();
    now
}

fn end() -> u64 {
    // SAFETY: every processor of the last fifteen years has it.
    let now = unsafe { __rdtscp(&mut 0) };
    fence();
    now
}

/// The one in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How much is done.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Rounds in which every contender has its turn.
    pub rounds: usize,
    /// CPU time of one turn.
    pub turn: Duration,
    /// Stacks in one turn where each is traced once.
    pub visits: usize,
    /// Processes of each kind.
    pub processes: usize,
    /// The same for look-ups of modules.
    pub look_ups: scaling::Effort,
}

impl Effort {
    pub const FULL: Self = Self {
        rounds: 25,
        turn: Duration::from_millis(2),
        visits: 1000,
        processes: 11,
        look_ups: scaling::Effort::FULL,
    };
    /// For trying.
    pub const QUICK: Self = Self {
        rounds: 5,
        turn: Duration::from_micros(500),
        visits: 200,
        processes: 3,
        look_ups: scaling::Effort::QUICK,
    };
}
