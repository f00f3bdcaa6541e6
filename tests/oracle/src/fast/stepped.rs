//! The fast path over programs that run: its cache and its memory are kept from one sampled stop to the next.

use super::seen::Seen;
use super::tables::Tables;
use super::world::{Asked, Changing, Checked, Tabled};
use crate::contender::ours::Surestack;
use crate::contender::{MAX_FRAMES, Stop};
use crate::error::{Error, Result};
use crate::measure::Plan;
use crate::session::{Event, Session};
use crate::targets::Target;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use surestack::snapshot::Thread;
use surestack::trace::Tracer;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_fast::{Cache, Chase, Ground, Passed, Remembered, Start, Take};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_probe::Probes;
use surestack_signal_frame::SignalFrame;
use surestack_walk::{Register, Target as Walked, Unwinder, X86_64};

/// Of one program.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Stops at which everybody was asked.
    pub asks: u64,
    /// Frames of the full walks.
    pub frames: u64,
    /// Those that the memory handed over many at a time.
    pub remembered: u64,
    /// Rules that were not in the cache.
    pub missed: u64,
    /// Those of them that the table had.
    pub from_table: u64,
    /// Traces of which the full walk had to say a part.
    pub walked: u64,
    /// Words that were asked for, and of them those that must not be.
    pub words: Asked,
    /// Traces that are not the full walk's.
    pub differences: u64,
    /// The first of these.
    pub examples: Vec<String>,
}

/// Most differences that are told in full.
const EXAMPLES: usize = 10;
/// At every so many stops the chase goes without its memory, and without its cache.
const WITHOUT: u64 = 8;

/// Steps one target, and has every sampled stop traced by both.
pub fn measure(target: &Target, plan: &Plan) -> Result<Counts> {
    let mut session = Session::start(&mut target.command()?, plan.begin)?;
    let mut ours = Surestack::default();
    let mut run = Run { name: target.name, ..Run::default() };
    while let Event::Stopped { first_visit, .. } = session.step()? {
        let step = session.counts().steps;
        if let Some((signal, every)) = plan.inject
            && step % every == 0
        {
            session.inject(signal)?;
        }
        if first_visit || step % plan.every == 0 {
            let stop = session.stop()?;
            run.changes_to(&stop);
            let look = ours.look(&stop, |tracer, thread| run.ask(&stop, step, tracer, thread));
            look.map_err(|e| Error::new(e.to_string()))?;
        }
        if step >= plan.max_steps {
            break;
        }
    }
    Ok(run.counts)
}

/// What is kept while a program runs.
#[derive(Default)]
struct Run {
    name: &'static str,
    cache: Box<Cache>,
    previous: HashMap<i32, Box<Remembered>>,
    generation: u64,
    tables: Tables,
    counts: Counts,
}

impl Run {
    /// Tells the cache of each change of what is mapped.
    fn changes_to(&mut self, stop: &Stop<'_>) {
        if self.generation > stop.maps_generation {
            // Another program in this one's place.
            self.cache.clear();
            self.previous.clear();
            self.generation = stop.maps_generation;
        }
        while self.generation < stop.maps_generation {
            self.generation += 1;
            self.cache.changed(2 * self.generation);
        }
    }

    fn ask(&mut self, stop: &Stop<'_>, step: u64, tracer: &Tracer<'_>, thread: &Thread) {
        const UNWINDERS: [&dyn Unwinder; 6] = [&SignalFrame, &Cfi(DwarfRows), &Probes, &Markers, &Entry, &FramePointer];
        let space = &tracer.snapshot().space;
        let modules = Changing { space, count: 2 * stop.maps_generation };
        let checked = Checked::new(space, thread.regs.get(X86_64.sp).unwrap_or(0));
        let target = Walked { modules: &modules, stacks: &checked, ..tracer.target(thread.stop) };
        let regs = thread.regs;
        let full = Seen::walked(&target, &UNWINDERS, regs, MAX_FRAMES);
        let [pc, sp, fp] = [Register::PC, X86_64.sp, X86_64.fp].map(|register| regs.get(register).unwrap_or(0));
        let Some(stack) = target.stacks.find(sp) else { return };
        self.counts.asks += 1;
        self.counts.frames += u64::try_from(full.frames.len()).unwrap_or(0);

        let asked = Cell::new(Asked::default());
        let walked = Cell::new(0);
        let tabled = Tabled::new(self.tables.of(space));
        let words = checked.words(target.memory, &asked);
        let (budget, cache) = (MAX_FRAMES, &*self.cache);
        let ground = Ground { target: &target, unwinders: &UNWINDERS, budget, cache, rules: &tabled, words };
        let regs = || {
            walked.set(1);
            regs
        };
        let start = Start { pc, sp, fp, stack, regs };
        let previous = self.previous.entry(stop.tid).or_default();
        let mut taken = Taken::default();
        taken.seen.end = Chase::new(&ground, &start).run_again(previous, &mut taken);
        let mut found: Vec<_> = taken.seen.difference(&full).into_iter().collect();
        self.counts.remembered += taken.at_once;
        self.counts.walked += walked.get();
        self.counts.missed += tabled.missed.get();
        self.counts.from_table += tabled.from_table.get();
        if self.counts.asks.is_multiple_of(WITHOUT) {
            let mut seen = Seen::default();
            seen.end = Chase::new(&ground, &start).run(&mut seen);
            found.extend(seen.difference(&full).map(|text| format!("with the cache alone: {text}")));
            let mut seen = Seen::default();
            seen.end = Chase::new(&ground, &start).without_cache().run(&mut seen);
            found.extend(seen.difference(&full).map(|text| format!("without cache: {text}")));
        }
        self.counts.words.add(asked.get());
        self.counts.differences += u64::try_from(found.len()).unwrap_or(0);
        let room = EXAMPLES.saturating_sub(self.counts.examples.len());
        let name = self.name;
        self.counts.examples.extend(found.into_iter().take(room).map(|text| format!("{name} step {step}: {text}")));
    }
}

/// Frames, and how many came many at a time.
#[derive(Default)]
struct Taken {
    seen: Seen,
    at_once: u64,
}

impl Take for Taken {
    fn take(&mut self, frame: Passed) -> ControlFlow<()> {
        self.seen.take(frame)
    }

    fn take_called(&mut self, frames: impl ExactSizeIterator<Item = (u64, u64)>) -> usize {
        let taken = self.seen.take_called(frames);
        self.at_once += u64::try_from(taken).unwrap_or(0);
        taken
    }
}
