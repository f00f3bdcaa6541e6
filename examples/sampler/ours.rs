//! surestack: a [`Backtrace`] of each sample, and of some a [`Trace`] that is judged afterwards.

use crate::contender::{Contender, FRAMES, Frames};
use crate::timer::{alternate_stack, cpu_time};
use std::collections::BTreeMap;
use std::ffi::c_void;
use surestack::Verdict;
use surestack::this_process::{Backtrace, KnownThread, Trace, know_this_thread, prepare};
use surestack::walk::End;

pub const NAME: &str = "surestack";

/// Of so many samples one is judged.
const JUDGED: usize = 16;

/// The traces of one thread that are to be judged.
pub struct Surestack {
    traces: Vec<Trace<FRAMES>>,
    samples: usize,
    nanoseconds: u64,
}

impl Contender for Surestack {
    type Trace = Backtrace<FRAMES>;
    type Known = KnownThread;
    const EMPTY: Self::Trace = Backtrace::EMPTY;

    fn prepare() -> Result<(), String> {
        // For traces that are judged alone: from an alternate stack they read others only where faults are made good.
        let handler = surestack::Handler::builder().directory(std::env::temp_dir()).install();
        handler.map_err(|error| error.to_string())?.keep();
        // The first thread makes itself known as the others do.
        drop(prepare());
        Ok(())
    }

    fn enter() -> KnownThread {
        alternate_stack();
        know_this_thread()
    }

    fn of_this_thread(room: usize) -> Self {
        Self { traces: vec![Trace::EMPTY; room.div_ceil(JUDGED)], samples: 0, nanoseconds: 0 }
    }

    unsafe fn take(&mut self, context: *const c_void, backtrace: &mut Self::Trace) {
        // SAFETY: as the caller promises.
        unsafe { backtrace.capture_ucontext(context) };
    }

    unsafe fn look_closer(&mut self, context: *const c_void) {
        let sample = self.samples;
        self.samples += 1;
        let Some(trace) = self.traces.get_mut(sample / JUDGED) else { return };
        if sample.is_multiple_of(JUDGED) {
            let begun = cpu_time();
            // SAFETY: as the caller promises.
            unsafe { trace.capture_ucontext(context) };
            self.nanoseconds += cpu_time() - begun;
        }
    }

    fn frames(backtrace: &Self::Trace) -> Frames {
        let complete = matches!(backtrace.end(), Some(End::Root(_)));
        Frames { pcs: backtrace.frames().collect(), complete: Some(complete) }
    }

    fn judged(threads: &[&Self]) -> Result<String, surestack::Error> {
        let taken = |thread: &Self| thread.samples.div_ceil(JUDGED).min(thread.traces.len());
        let traces: Vec<_> = threads.iter().flat_map(|thread| thread.traces.iter().take(taken(thread))).collect();
        let judged = Trace::judge_each(traces.iter().copied())?;
        let reliable = judged.iter().filter(|judged| judged.verdict == Verdict::Reliable).count();
        let micros =
            threads.iter().map(|thread| thread.nanoseconds).sum::<u64>() as f64 / 1e3 / traces.len().max(1) as f64;
        let mut text = format!("{reliable} of {} judged, {micros:.0} µs each", traces.len());
        // The others by the kind of their first doubt, with an example.
        let mut others = BTreeMap::<String, (usize, String)>::new();
        for judged in judged.iter().filter(|judged| judged.verdict != Verdict::Reliable) {
            let doubt = judged.doubts.first().map(|doubted| doubted.doubt);
            let kind = doubt.map_or_else(|| format!("{:?}", judged.verdict), |doubt| format!("{doubt:?}"));
            let kind = kind.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
            let example = || (0, doubt.map_or_else(String::new, |doubt| format!(" ({doubt})")));
            others.entry(kind.to_owned()).or_insert_with(example).0 += 1;
        }
        others.iter().for_each(|(kind, (count, example))| text.push_str(&format!("; {count} {kind}{example}")));
        Ok(text)
    }
}
