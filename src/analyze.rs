//! Snapshot → report.

mod helped;
mod process;
mod record;

pub use helped::crashed;
pub use process::process;
pub use record::record;

use crate::error::Error;
use crate::fold::{Fold, Folded};
use crate::image::find::Find;
use crate::marker::Marking;
use crate::report::{
    Entry, FrameReport, FromRecorder, Head, ModuleOffset, ModuleReport, Printer, Tail, ThreadName, ThreadReport, words,
};
use crate::snapshot::{Gap, SignalInfo, Snapshot, Thread, core_file, recorder};
use crate::symbol::{Store, Symbols};
use crate::trace::{DEFAULT_BUDGET, Judged, Known, Method, Tracer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use surestack_signal_frame::SavedContext;
use surestack_walk::{CodeAddress, FoundBy, Frame, Link, Marker, Registry, Regs, SignalSign, Stop};

/// The highest signal number.
const SIGNALS: i32 = 64;

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where files are looked for.
    pub find: Find,
    /// Which unwinders are asked.
    pub method: Method,
    /// Which threads are reported.
    pub threads: Threads,
    /// Most frames of one thread.
    pub budget: usize,
    /// How the program marks its entry frames.
    pub markers: Vec<Marking>,
    /// Whether every frame keeps its registers, or only those of interrupted code.
    pub registers: Registers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            find: Find::default(),
            method: Method::default(),
            threads: Threads::default(),
            budget: DEFAULT_BUDGET,
            markers: Vec::new(),
            registers: Registers::default(),
        }
    }
}

/// Which threads are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// All of them.
    #[default]
    All,
    /// The one that took the fatal signal.
    Crashed,
    /// The one with this id.
    One(u32),
}

/// Which frames keep their registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registers {
    /// Those of interrupted code.
    #[default]
    Interrupted,
    /// All.
    Every,
}

/// Whether a report is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was missing from what it was made of.
    Whole,
    /// Something was; the report says what.
    Partial,
}

/// Reports on the core file at `path`.
///
/// # Errors
/// When the file is not a core that can be read, when the thread or the function asked for is not in it, or when the
/// printer fails.
pub fn core(path: &Path, options: &Options, printer: &mut dyn Printer) -> Result<Outcome, Error> {
    let snapshot = core_file::open(path, &options.find)?;
    snapshot_of(&snapshot, path, options, printer)
}

/// Reports on a snapshot that was read from `source`.
///
/// # Errors
/// When the thread or the function asked for is not in it, or when the printer fails.
pub fn snapshot_of(
    snapshot: &Snapshot,
    source: &Path,
    options: &Options,
    printer: &mut dyn Printer,
) -> Result<Outcome, Error> {
    let (known, store) = (Known::default(), Store::default());
    let markers = markers(snapshot, options)?;
    let crashed = snapshot.threads.first().map(|thread| thread.id);
    let analysis = Analysis::new(snapshot, &known, &store, &markers, options, crashed);
    let written = source.metadata().and_then(|file| file.modified()).ok();
    let (found, refused) = match recorder::find(snapshot, &options.find, written) {
        Ok(found) => (found, None),
        Err(what) => (None, Some(Gap::Unchecked { what })),
    };
    let mut tail = analysis.tail();
    if let Some(found) = &found {
        tail.gaps = recorder::without_its_gaps(tail.gaps, found);
    }
    tail.gaps.extend(refused);
    let recorder = found.map(|found| {
        let signalled = snapshot.threads.first().filter(|thread| thread.stop != Stop::default());
        Arc::new(FromRecorder::new(found, snapshot.process.pid, signalled.map(|thread| thread.id), None))
    });
    printer.head(&Head { recorder, ..analysis.head(source) })?;
    let mut groups = Groups::default();
    for thread in analysis.chosen()? {
        let walked = analysis.walk(thread);
        if analysis.crashed(thread) {
            printer.thread(&analysis.report(thread, walked))?;
        } else {
            groups.add(thread, walked);
        }
    }
    groups.print(&analysis, printer)?;
    printer.tail(&tail)?;
    Ok(if tail.is_partial() { Outcome::Partial } else { Outcome::Whole })
}

fn markers(snapshot: &Snapshot, options: &Options) -> Result<Vec<Marker<'static>>, Error> {
    (1..).zip(&options.markers).map(|(id, marking)| marking.find(snapshot, id)).collect()
}

/// Everything one analysis stands on.
struct Analysis<'s> {
    snapshot: &'s Snapshot,
    /// The thread that took the fatal signal.
    crashed: Option<u32>,
    tracer: Tracer<'s>,
    symbols: Symbols<'s>,
    paths: Vec<Arc<PathBuf>>,
    options: &'s Options,
}

/// A thread's frames before they are named.
struct Walked {
    frames: Vec<Folded<BareFrame>>,
    judged: Judged,
}

/// A frame as the walk lent it, without its name.
#[derive(Clone, Debug)]
struct BareFrame {
    number: usize,
    pc: CodeAddress,
    link: Link,
    found_by: FoundBy,
    sp: Option<u64>,
    callee_cfa: Option<u64>,
    regs: Option<Box<Regs>>,
    delivered: Option<Box<Delivered>>,
}

/// The signal whose frame was crossed to get to a frame, and what it was about.
#[derive(Clone, Debug)]
struct Delivered {
    signal: SignalInfo,
    what: String,
}

impl<'s> Analysis<'s> {
    fn new(
        snapshot: &'s Snapshot,
        known: &'s Known,
        store: &'s Store,
        markers: &'s [Marker<'static>],
        options: &'s Options,
        crashed: Option<u32>,
    ) -> Self {
        let registry = Registry { markers, ..Registry::default() };
        let tracer = Tracer::new(snapshot, known).registry(registry).method(options.method).budget(options.budget);
        Self { snapshot, crashed, tracer, symbols: Symbols::new(snapshot, store), paths: paths(snapshot), options }
    }

    /// The threads that were asked for, the crashed one first.
    fn chosen(&self) -> Result<Vec<&'s Thread>, Error> {
        let threads = &self.snapshot.threads;
        match self.options.threads {
            Threads::All => Ok(threads.iter().collect()),
            Threads::Crashed => Ok(threads.iter().take(1).collect()),
            Threads::One(id) => match threads.iter().find(|thread| thread.id == id) {
                Some(thread) => Ok(vec![thread]),
                None => Err(Error::NoThread { id, known: threads.iter().map(|thread| thread.id).collect() }),
            },
        }
    }

    fn crashed(&self, thread: &Thread) -> bool {
        self.crashed == Some(thread.id)
    }

    fn walk(&self, thread: &Thread) -> Walked {
        let mut fold = Fold::default();
        let judged = self.tracer.walk(&thread.regs, thread.stop, |frame| {
            fold.push((frame.pc.value(), look_of(frame.pc, frame.link)), self.bare(thread, frame));
        });
        Walked { frames: fold.finish(), judged }
    }

    fn bare(&self, thread: &Thread, frame: &Frame<'_>) -> BareFrame {
        let keep = frame.link != Link::Call || self.options.registers == Registers::Every;
        BareFrame {
            number: frame.index,
            pc: frame.pc,
            link: frame.link,
            found_by: frame.found_by,
            sp: frame.regs.get(self.snapshot.arch.sp),
            callee_cfa: frame.callee_cfa,
            regs: keep.then(|| Box::new(*frame.regs)),
            delivered: self.delivered(frame).map(|signal| self.told(thread, frame.regs, signal)),
        }
    }

    /// A signal that interrupted a thread where it had these registers.
    fn told(&self, thread: &Thread, regs: &Regs, signal: SignalInfo) -> Box<Delivered> {
        let interrupted = Thread { regs: *regs, signal: Some(signal), ..thread.clone() };
        let what = words::what(self.snapshot, &interrupted, &|pc| self.function(pc));
        Box::new(Delivered { signal, what })
    }

    fn report(&self, thread: &Thread, walked: Walked) -> ThreadReport {
        let Walked { frames, judged } = walked;
        let entry = |folded| match folded {
            Folded::One(frame) => Entry::Frame(self.named(frame)),
            Folded::Repeat { length, times } => Entry::Repeat { length, times },
        };
        ThreadReport {
            threads: vec![name(thread)],
            crashed: self.crashed(thread) && words::is_crash(thread),
            regs: thread.regs,
            frames: frames.into_iter().map(entry).collect(),
            depth: judged.depth,
            end: judged.end,
            refusals: judged.refusals,
            verdict: judged.verdict,
            doubts: judged.doubts,
            believed: judged.believed,
        }
    }

    /// A frame with its names.
    fn named(&self, frame: BareFrame) -> FrameReport {
        let BareFrame { number, pc, link, found_by, sp, callee_cfa, regs, delivered } = frame;
        let code = self.code(pc);
        let module = self.snapshot.space.module(code.lookup()).and_then(|(index, module)| {
            let offset = pc.value().wrapping_sub(module.bias);
            Some(ModuleOffset { index, path: Arc::clone(self.paths.get(index)?), offset })
        });
        let (signal, what) = delivered.map(|delivered| (delivered.signal, delivered.what)).unzip();
        let symbol = self.symbols.symbol(code);
        FrameReport { number, pc, link, found_by, sp, callee_cfa, module, symbol, regs, signal, what }
    }

    /// The pc as it is to be looked up: nothing was called before a trampoline that is returned to.
    fn code(&self, pc: CodeAddress) -> CodeAddress {
        let target = self.tracer.target(Stop::default());
        if target.is_entered_without_call(pc.value()) { CodeAddress::Exact(pc.value()) } else { pc }
    }

    /// The signal whose frame was crossed to get here.
    fn delivered(&self, frame: &Frame<'_>) -> Option<SignalInfo> {
        if frame.found_by != FoundBy::SignalFrame(SignalSign::Bytes) {
            return None;
        }
        let (arch, memory) = (self.snapshot.arch, &*self.snapshot.memory);
        let signal = SavedContext::of_ucontext(arch, frame.callee_cfa?).ok()?.signal(arch, memory).ok()?;
        // For a handler without SA_SIGINFO the kernel leaves there what it finds.
        let is_written = (1..=SIGNALS).contains(&signal.number)
            && (signal.number != libc::SIGSEGV
                || !(1..=2).contains(&signal.code)
                || signal.detail == signal.fault_address);
        if !is_written {
            return None;
        }
        Some(SignalInfo::from_words(signal.number, signal.code, signal.detail))
    }

    fn head(&self, source: &Path) -> Head {
        let crashed = self.snapshot.threads.first().cloned().map(|thread| {
            let regs = self.tracer.stopped_at(&thread.regs, thread.stop);
            Thread { regs, ..thread }
        });
        let crashed = crashed.as_ref();
        Head {
            source: source.to_path_buf(),
            arch: self.snapshot.arch,
            process: self.snapshot.process.clone(),
            threads: self.snapshot.threads.len(),
            signal: crashed.and_then(|thread| thread.signal),
            signal_number: crashed.map(|thread| thread.stop.signal).filter(|number| *number != 0),
            what: crashed.map(|thread| words::end(self.snapshot, thread, &|pc| self.function(pc))).unwrap_or_default(),
            held: None,
            recorded: None,
            recorder: None,
        }
    }

    /// The innermost function at `pc`.
    fn function(&self, pc: CodeAddress) -> Option<String> {
        let symbol = self.symbols.symbol(pc);
        symbol.functions.first().map(|function| function.name.clone()).filter(|name| !name.is_empty())
    }

    fn tail(&self) -> Tail {
        let module = |module: &crate::snapshot::LoadedModule| ModuleReport {
            start: module.start,
            end: module.end,
            bias: module.bias,
            path: module.path.clone(),
            build_id: module.build_id.clone(),
            identity: module.identity.clone(),
            debug: module.debug.is_some(),
        };
        let modules = self.snapshot.space.modules.iter().map(module).collect();
        Tail { modules, gaps: self.snapshot.gaps.clone(), absent: self.snapshot.absent.clone() }
    }
}

/// Threads with the same trace, in the order in which the first of each was seen.
#[derive(Default)]
struct Groups<'s> {
    list: Vec<(Vec<&'s Thread>, Walked)>,
    by_look: HashMap<Vec<(u64, u64)>, usize>,
}

impl<'s> Groups<'s> {
    fn print(self, analysis: &Analysis<'s>, printer: &mut dyn Printer) -> Result<(), Error> {
        for (threads, walked) in self.list {
            let Some(first) = threads.first() else { continue };
            let mut report = analysis.report(first, walked);
            report.threads = threads.iter().map(|thread| name(thread)).collect();
            printer.thread(&report)?;
        }
        Ok(())
    }

    fn add(&mut self, thread: &'s Thread, walked: Walked) {
        let look = walked.frames.iter().map(|folded| match folded {
            Folded::One(frame) => (frame.pc.value(), 0),
            &Folded::Repeat { length, times } => (as_word(length), as_word(times)),
        });
        let next = self.list.len();
        let group = *self.by_look.entry(look.collect()).or_insert(next);
        match self.list.get_mut(group) {
            Some((threads, first)) if first.judged.verdict == walked.judged.verdict => threads.push(thread),
            _ => self.list.push((vec![thread], walked)),
        }
    }
}

fn as_word(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What tells two frames with the same pc apart in a report.
fn look_of(pc: CodeAddress, link: Link) -> u64 {
    u64::from(link == Link::Call) << 1 | u64::from(pc.is_exact())
}

fn name(thread: &Thread) -> ThreadName {
    ThreadName { id: thread.id, name: thread.name.clone(), doing: None }
}

fn paths(snapshot: &Snapshot) -> Vec<Arc<PathBuf>> {
    snapshot.space.modules.iter().map(|module| Arc::new(module.path.clone())).collect()
}
