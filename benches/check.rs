//! What a decision costs: 1,000 stopped threads, warm, and the search of memory.
//!
//! `cargo bench --bench check` prints CPU milliseconds, the minimum of many rounds. Warm means that what is known of the
//! code is kept, as between two asks of the same process.

use std::error::Error;
use std::time::{Duration, Instant};
use surestack::consistency::{Spared, Target, ThreadTrace, Unlisted, World, decide, search};
use surestack::image::Find;
use surestack::snapshot::{Snapshot, core_file};
use surestack::trace::{Known, Tracer};
use surestack_fixtures::Case;

const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(built) = Case::named(&["threads-1000".to_owned()])?.pop().map(|case| case.build()).transpose()?.flatten()
    else {
        println!("not measured: tools are missing");
        return Ok(());
    };
    let snapshot = core_file::open(&built.core, &Find::default())?;
    let targets = [Target::range("absent", 0x1000..0x2000), target(&snapshot)];
    let known = Known::default();
    let tracer = Tracer::new(&snapshot, &known);
    let record =
        || -> Vec<ThreadTrace> { snapshot.threads.iter().map(|thread| ThreadTrace::record(&tracer, thread)).collect() };
    let world = World { unlisted: Unlisted::Searched, obstacles: vec![] };
    let cold = timed(&record).0;
    let judge = (0..ROUNDS).map(|_| timed(&record).0).min().unwrap_or_default();
    let traces = record();
    let decided = (0..ROUNDS).map(|_| timed(&|| decide(&targets, &traces, &world)).0).min().unwrap_or_default();
    let threads = traces.len();
    let frames: usize = traces.iter().map(|trace| trace.traces().next().map_or(0, |trace| trace.frames.len())).sum();
    println!("{threads} threads, {frames} frames: walk and judge {judge:.2?} (cold {cold:.2?}), decide {decided:.2?}");

    let (took, found) = (0..ROUNDS)
        .map(|_| timed(&|| search(&snapshot, &targets, &traces, &Spared::default())))
        .min_by_key(|(took, _)| *took)
        .ok_or("no rounds")?;
    let copied = copy(&snapshot);
    let rate = |took: Duration| found.bytes as f64 / took.as_secs_f64() / 1e9;
    println!(
        "search: {} MiB in {took:.2?}, {:.2} GB/s (reading them and no more: {:.2} GB/s)",
        found.bytes >> 20,
        rate(took),
        rate(copied)
    );
    Ok(())
}

/// A function that no thread is in.
fn target(snapshot: &Snapshot) -> Target {
    let module = snapshot.space.modules.iter().find(|module| module.path.ends_with("libc.so.6"));
    let start = module.map_or(0x1000, |module| module.start.saturating_add(0x2_8000));
    Target::range("somewhere in libc", start..start.saturating_add(0x100))
}

/// CPU time of one round.
fn timed<T>(run: &dyn Fn() -> T) -> (Duration, T) {
    let began = cpu();
    let result = run();
    (cpu().saturating_sub(began), result)
}

/// The slow obvious part of a search: every byte is read.
fn copy(snapshot: &Snapshot) -> Duration {
    let mut buffer = vec![0; 1 << 20];
    let mut round = || {
        let began = cpu();
        for mapped in snapshot.space.mappings.iter().filter(|mapped| mapped.writable != Some(false)) {
            let mut at = mapped.start;
            while at < mapped.end {
                let size = usize::try_from(mapped.end - at).unwrap_or(buffer.len()).min(buffer.len());
                let _ = snapshot.memory.read(at, &mut buffer[..size]);
                at += size as u64;
            }
        }
        cpu().saturating_sub(began)
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into `time`, which lives until the call returns.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    if failed != 0 {
        static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        return BEGAN.get_or_init(Instant::now).elapsed();
    }
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
