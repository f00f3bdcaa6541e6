//! What several threads do at once: rates per second of a thread's own CPU time, so that a machine that is shared, or has
//! fewer processors than there are threads, changes nothing.
//!
//! Whatever is measured is a closure that does one unit of work again and again ([`Contender`]). A round measures everybody
//! once, in turn; a table shows the median of all rounds, and ratios are medians of the ratios of each round. The control
//! counts in registers: what its two threads lose, the machine takes.

pub mod churn;
mod look_ups;

use churn::{Churn, Library};
use look_ups::{Addresses, Variety};
use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Threads at once, in the third table.
const THREADS: [usize; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Libraries that are loaded in addition, so that look-ups have many modules to choose from.
const MORE: usize = 60;

/// Something to measure.
pub struct Contender<'w> {
    /// What the tables call it.
    pub name: &'w str,
    /// How many operations one unit of work is.
    pub operations: u32,
    /// Does one unit of work, on any thread.
    pub unit: &'w (dyn Fn() + Sync),
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    rounds: usize,
    /// How long each measurement takes for two threads or fewer; for more, each has as much time of its own.
    each: Duration,
}

impl Effort {
    /// For figures that are written down.
    pub const FULL: Self = Self { rounds: 9, each: Duration::from_millis(50) };
    /// To see that it works.
    pub const QUICK: Self = Self { rounds: 3, each: Duration::from_millis(20) };
}

/// Look-ups of modules beside those of glibc, and `traces` (whatever the caller measures beside them) on several threads.
/// Returns our rate beside `_dl_find_object`'s where it is least: as the program starts, and with many libraries.
pub fn tables(out: &mut impl Write, effort: Effort, traces: &[Contender<'_>]) -> Result<[f64; 2], Box<dyn Error>> {
    let library = Library::build()?;
    let few = alone(out, effort, &library, "as the program starts")?;
    let loaded = library.copies(MORE)?;
    surestack::this_process::refresh();
    let many = alone(out, effort, &library, "with many libraries")?;
    drop(loaded);
    surestack::this_process::refresh();

    let addresses = Addresses::of_all_modules(Variety::Random)?;
    let (ours, theirs, lock) = (|| addresses.ours(), || addresses.theirs(), || addresses.lock());
    let operations = addresses.count();
    let control = Contender { name: "control: counts in registers", operations: COUNTED, unit: &count };
    let mut all = vec![
        control,
        Contender { name: "surestack, module look-up", operations, unit: &ours },
        Contender { name: "`_dl_find_object`", operations, unit: &theirs },
        Contender { name: "`dl_iterate_phdr`", operations, unit: &lock },
    ];
    all.extend(traces.iter().map(|&Contender { name, operations, unit }| Contender { name, operations, unit }));
    two(out, effort, &library, &all)?;
    sliced(out, effort, &all)?;
    writeln!(out, "\n{}", addresses.unanswered())?;
    Ok([few, many])
}

/// One thread looks modules up. Returns the least ratio.
fn alone(out: &mut impl Write, effort: Effort, library: &Library, when: &str) -> Result<f64, Box<dyn Error>> {
    surestack::this_process::refresh();
    let random = Addresses::of_all_modules(Variety::Random)?;
    let stack = Addresses::of_all_modules(Variety::Stack)?;
    writeln!(
        out,
        "\n| {} modules, {when} | `_dl_find_object`, M/s | surestack, M/s | ratio |\n|---|---|---|---|",
        random.modules()
    )?;
    let kinds = [("random addresses", &random), ("80 addresses again and again", &stack)];
    let mut least = f64::INFINITY;
    for (kind, addresses) in kinds {
        let (ours, theirs) = (|| addresses.ours(), || addresses.theirs());
        least = least.min(pair(out, effort, kind, addresses.count(), [&theirs, &ours])?);
        let (ours, theirs) = (|| addresses.ours_in_turn(), || addresses.theirs_in_turn());
        let kind = format!("{kind}, each known after the last answer");
        least = least.min(pair(out, effort, &kind, addresses.count(), [&theirs, &ours])?);
    }
    let mut costs = Vec::new();
    for _ in 0..effort.rounds * 10 {
        costs.push(library.refreshes()?);
    }
    let [nothing, came, went] = [0, 1, 2].map(|which| median(costs.iter().map(|cost| cost[which].as_secs_f64() * 1e6)));
    writeln!(
        out,
        "\nTelling the map of {} modules: {nothing:.1} µs where nothing changed, {came:.1} µs where a small library came, \
         {went:.1} µs where it went.",
        random.modules()
    )?;
    Ok(least)
}

/// A row of two that do the same: theirs, then ours. Returns the ratio.
fn pair(
    out: &mut impl Write,
    effort: Effort,
    name: &str,
    operations: u32,
    units: [&(dyn Fn() + Sync); 2],
) -> Result<f64, Box<dyn Error>> {
    let measured = |unit| rate(&Contender { name, operations, unit }, 1, effort.each);
    let rounds: Vec<[f64; 2]> = (0..effort.rounds).map(|_| units.map(measured)).collect();
    let of = |value: fn(&[f64; 2]) -> f64| median(rounds.iter().map(value));
    let (theirs, ours, ratio) = (of(|[theirs, _]| *theirs), of(|[_, ours]| *ours), of(|[theirs, ours]| ours / theirs));
    writeln!(out, "| {name} | {theirs:.1} | {ours:.1} | {ratio:.2} |")?;
    Ok(ratio)
}

/// Two threads beside one, while nothing changes and while a library comes and goes.
fn two(out: &mut impl Write, effort: Effort, library: &Library, all: &[Contender<'_>]) -> Result<(), Box<dyn Error>> {
    let both = |one: &Contender<'_>| [rate(one, 1, effort.each), rate(one, 2, effort.each)];
    let mut cycles = Vec::new();
    let mut rounds: Vec<Vec<[[f64; 2]; 2]>> = Vec::new();
    for _ in 0..effort.rounds {
        let quiet: Vec<[f64; 2]> = all.iter().map(both).collect();
        let churn = Churn::begin(library)?;
        let churned: Vec<[f64; 2]> = all.iter().map(both).collect();
        cycles.push(churn.end());
        rounds.push(quiet.into_iter().zip(churned).map(|(quiet, churned)| [quiet, churned]).collect());
    }
    let cycles = median(cycles.into_iter());
    writeln!(
        out,
        "\n| M a thread-CPU-second | 1 thread | 2 threads, sum | ratio | with `dlopen` and `dlclose`, {cycles:.0} times a second: 1 thread | 2 threads, sum | ratio |\n|---|---|---|---|---|---|---|"
    )?;
    for (index, one) in all.iter().enumerate() {
        let column = |when: usize| {
            let of = |value: fn([f64; 2]) -> f64| median(rounds.iter().map(|round| value(round[index][when])));
            let (one, sum, ratio) = (of(|[one, _]| one), of(|[_, two]| 2.0 * two), of(|[one, two]| 2.0 * two / one));
            format!("{one:.2} | {sum:.2} | {ratio:.2}")
        };
        writeln!(out, "| {} | {} | {} |", one.name, column(0), column(1))?;
    }
    Ok(())
}

/// More and more threads, which take turns on the processors.
fn sliced(out: &mut impl Write, effort: Effort, all: &[Contender<'_>]) -> Result<(), Box<dyn Error>> {
    let mut rounds: Vec<Vec<[f64; THREADS.len()]>> = Vec::new();
    for _ in 0..effort.rounds {
        rounds.push(all.iter().map(|one| THREADS.map(|threads| rate(one, threads, effort.each))).collect());
    }
    let names: String = THREADS.iter().map(|threads| format!("{threads} | ")).collect();
    writeln!(
        out,
        "\n| M a thread-CPU-second, of so many threads | {names}farthest from one |\n|---|{}---|",
        "---|".repeat(THREADS.len())
    )?;
    for (index, one) in all.iter().enumerate() {
        write!(out, "| {} |", one.name)?;
        let mut farthest = 0f64;
        for column in 0..THREADS.len() {
            let ratio = median(rounds.iter().map(|round| round[index][column] / round[index][0]));
            if (ratio - 1.0).abs() > farthest.abs() {
                farthest = ratio - 1.0;
            }
            write!(out, " {:.2} |", median(rounds.iter().map(|round| round[index][column])))?;
        }
        writeln!(out, " {:+.1} % |", farthest * 100.0)?;
    }
    Ok(())
}

/// Million operations in a second of CPU time of a thread, when so many threads do the same at once.
fn rate(of: &Contender<'_>, threads: usize, each: Duration) -> f64 {
    let (ready, done) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let work = || {
        // Once for what is made at the first use.
        (of.unit)();
        ready.wait();
        let (mut units, before) = (0u64, cpu());
        while !done.load(Ordering::Relaxed) {
            (of.unit)();
            units += 1;
        }
        (units, cpu() - before)
    };
    let (units, time) = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        ready.wait();
        std::thread::sleep(each * u32::try_from(threads.div_ceil(2)).unwrap_or(u32::MAX));
        done.store(true, Ordering::Relaxed);
        let sum = |(units, time): (u64, Duration), (more, longer)| (units + more, time + longer);
        running.into_iter().map(|thread| thread.join().expect("a unit of work")).fold((0, Duration::ZERO), sum)
    });
    units as f64 * f64::from(of.operations) / time.as_secs_f64() / 1e6
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const COUNTED: u32 = 1 << 16;

/// Work that two threads can share nothing of.
fn count() {
    let mut number = black_box(1u64);
    for _ in 0..COUNTED {
        number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
    }
    black_box(number);
}
