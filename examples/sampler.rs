//! Samples its own threads by timer signal, and writes folded stacks for a flame graph.
//!
//! ```text
//! cargo run --release --example sampler -- --out DIR [--seconds 3] [--hertz 997]
//! ```
//!
//! surestack, framehop and libunwind each profile the same work in a process of their own. Each writes
//! `DIR/NAME.folded`, whose lines `outer;…;inner count` are what `flamegraph.pl` and `inferno-flamegraph` read, and a row
//! of the table: what its samples cost, and how many of them are whole. `sampler/timer.rs` has the timers and the handler,
//! `sampler/ours.rs` all there is to do for surestack.
//!
//! What samples cost is the CPU time of the trace alone; the kernel's part of a signal comes on top, as for everybody. They
//! come when caches are cold, which is most of it: the same trace again at once costs a tenth.
//!
//! The kernel looks at CPU-time timers when its clock ticks: of more hertz than it has ticks, the rest is missed.

#[path = "sampler/contender.rs"]
mod contender;
#[path = "sampler/framehop.rs"]
mod framehop;
#[path = "sampler/libunwind.rs"]
mod libunwind;
#[path = "sampler/ours.rs"]
mod ours;
#[path = "sampler/pc.rs"]
mod pc;
#[path = "sampler/report.rs"]
mod report;
#[path = "sampler/timer.rs"]
mod timer;
#[path = "sampler/workload.rs"]
mod workload;

use clap::Parser;
use contender::Contender;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::sync::mpsc::channel;
use timer::{Samples, Timer, cpu_time};

/// Threads that work, the first one among them.
const THREADS: u64 = 3;

#[derive(Parser)]
struct Options {
    /// Where the folded stacks go.
    #[arg(long)]
    out: PathBuf,
    /// CPU time that each thread works, about.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Samples that are asked for in a second of CPU time.
    #[arg(long, default_value_t = 997)]
    hertz: u32,
    /// Who takes the samples, of this process; otherwise one process after the other, by each.
    #[arg(long)]
    by: Option<String>,
    /// How much work, instead of the seconds.
    #[arg(long)]
    rounds: Option<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    match options.by.as_deref() {
        None => everybody(&options),
        Some(ours::NAME) => profile::<ours::Surestack>(ours::NAME, &options),
        Some(framehop::NAME) => profile::<framehop::Framehop>(framehop::NAME, &options),
        Some(libunwind::NAME) => profile::<libunwind::Libunwind>(libunwind::NAME, &options),
        Some(pc::NAME) => profile::<pc::Pc>(pc::NAME, &options),
        Some(other) => Err(format!("nobody is called {other}").into()),
    }
}

/// The same amount of work for each, in processes of their own: none profits from what another one left in memory.
fn everybody(options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.out)?;
    println!("{}", report::HEADER);
    for name in [pc::NAME, ours::NAME, framehop::NAME, libunwind::NAME] {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--by").arg(name).arg("--out").arg(&options.out);
        command.args(["--rounds", &rounds(options).to_string(), "--hertz", &options.hertz.to_string()]);
        if !command.status()?.success() {
            return Err(format!("{name} failed").into());
        }
    }
    Ok(())
}

/// How much work takes that long, by one round of it.
fn rounds(options: &Options) -> u64 {
    options.rounds.unwrap_or_else(|| {
        let begun = cpu_time();
        workload::work(2, 0);
        let one = (cpu_time() - begun) as f64 / 2.0;
        ((options.seconds * 1e9 / one) as u64).max(1)
    })
}

/// Profiles this process, writes the folded stacks, and prints a row of the table.
fn profile<C: Contender>(name: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.out)?;
    if let Err(why) = C::prepare() {
        println!("| {name} | {why} |");
        return Ok(());
    }
    timer::install::<C>()?;
    let rounds = rounds(options);
    // Twice as many as are to be expected.
    let room = (options.seconds.max(1.0) * f64::from(options.hertz) * 2.0) as usize;
    let (taken, all) = channel();
    let (taken, reported) = (&taken, &Barrier::new(THREADS as usize));
    std::thread::scope(|scope| {
        for seed in 1..THREADS {
            scope.spawn(move || {
                let _known = C::enter();
                let _ = taken.send(sampled::<C>(options.hertz, room, rounds, seed));
                // Where a thread's stack ends can be looked up as long as there is the thread.
                reported.wait();
            });
        }
        let _known = C::enter();
        let own = sampled::<C>(options.hertz, room, rounds, 0);
        let samples = std::iter::once(own).chain(all.iter().take(THREADS as usize - 1)).collect::<Result<Vec<_>, _>>();
        let written = samples.map_err(Into::into).and_then(|samples| report::report(name, &options.out, &samples));
        reported.wait();
        written
    })
}

/// Samples of this thread at work.
fn sampled<C: Contender>(hertz: u32, room: usize, rounds: u64, seed: u64) -> std::io::Result<Samples<C>> {
    let timer = Timer::<C>::begin(hertz, room)?;
    std::hint::black_box(workload::work(rounds, seed));
    Ok(timer.end())
}
