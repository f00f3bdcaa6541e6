//! One thread walked with everything we have, and judged.
//!
//! ```text
//!   SignalFrame ─► Cfi<DwarfRows> ─► Probes ─► Markers ─► Cfi<AnalysedRows> ─► Entry ─► FramePointer
//! ```

use crate::corrected::Corrected;
use crate::evidence::{Answers, FileEvidence, FileProofs};
use crate::rows::{AnalysedRows, CachedRows};
use crate::snapshot::Snapshot;
use std::rc::Rc;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_framehop::Framehop;
use surestack_probe::Probes;
use surestack_reliable::{Doubted, Judge, Verdict};
use surestack_signal_frame::{SavedContext, SignalFrame};
use surestack_walk::{CodeAddress, End, Error, Frame, Registry, Regs, Step, Stop, Target, Unwinder, Walk, Why};

/// Which unwinders are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// All of ours, strongest first.
    #[default]
    Best,
    /// Unwind information only, and signal frames.
    Cfi,
    /// Frame records only, and signal frames.
    FramePointer,
    /// The framehop crate.
    Framehop,
}

/// What was learned about a target's code. It stays true as long as nothing is mapped anew and the target stands still; of a
/// target that ran, [`Known::ran_on`] keeps what does.
#[derive(Default)]
pub struct Known {
    dwarf: Cfi<CachedRows<DwarfRows>>,
    analysed: Cfi<CachedRows<AnalysedRows>>,
    framehop: Framehop,
    answers: Rc<Answers>,
}

impl Known {
    /// Forgets what a target that ran may have changed without mapping anything: code that belongs to no file, whether code
    /// still has the bytes of its file, and where calls through words lead that the loader has yet to write.
    pub fn ran_on(&self) {
        self.dwarf.0.ran_on();
        self.analysed.0.ran_on();
        self.answers.ran_on();
    }

    /// Nothing but what was proven of files.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { answers: Rc::new(self.answers.anew()), ..Self::default() }
    }

    /// Nothing but what was proven of files, for this target and others.
    pub fn sharing(files: &FileProofs) -> Self {
        Self { answers: Rc::new(Answers::sharing(files)), ..Self::default() }
    }
}

/// Walks and judges threads of one snapshot.
pub struct Tracer<'s> {
    snapshot: &'s Snapshot,
    known: &'s Known,
    registry: Registry<'s>,
    evidence: FileEvidence<'s>,
    method: Method,
    budget: usize,
}

/// What became of a walk.
#[derive(Clone, Debug)]
pub struct Judged {
    /// How it ended.
    pub end: End,
    /// Whether the trace can be trusted.
    pub verdict: Verdict,
    /// What speaks against it, the first [`MOST_DOUBTS`].
    pub doubts: Vec<Doubted>,
    /// How many frames lie before the first doubt.
    pub believed: usize,
    /// How many frames there were.
    pub depth: usize,
    /// Why each unwinder that was asked last had nothing to say.
    pub refusals: Vec<(&'static str, Why)>,
}

/// Most doubts that are kept of one trace. A forged stack has one for each of its words.
pub const MOST_DOUBTS: usize = 1 << 16;
/// More frames than any stack holds: 8 GiB of 16-byte frames.
pub const DEFAULT_BUDGET: usize = 1 << 29;

impl<'s> Tracer<'s> {
    /// A tracer of a snapshot's threads, adding to what is known about its code.
    pub fn new(snapshot: &'s Snapshot, known: &'s Known) -> Self {
        known.analysed.0.source().learn(&snapshot.space);
        Self {
            snapshot,
            known,
            registry: Registry { signed_bits: snapshot.signed_bits, ..Registry::default() },
            evidence: FileEvidence::new(snapshot, Rc::clone(&known.answers)),
            method: Method::Best,
            budget: DEFAULT_BUDGET,
        }
    }

    /// Uses what the user made known: markers, roots.
    #[must_use]
    pub fn registry(mut self, registry: Registry<'s>) -> Self {
        self.registry = Registry { signed_bits: self.registry.signed_bits | registry.signed_bits, ..registry };
        self
    }

    /// Asks other unwinders.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Stops after so many frames.
    #[must_use]
    pub fn budget(mut self, frames: usize) -> Self {
        self.budget = frames;
        self
    }

    /// What it traces the threads of.
    pub fn snapshot(&self) -> &'s Snapshot {
        self.snapshot
    }

    /// The target as unwinders see it, of a thread that is stopped by `stop`.
    pub fn target(&self, stop: Stop) -> Target<'_> {
        Target {
            arch: self.snapshot.arch,
            memory: &*self.snapshot.memory,
            modules: &self.snapshot.space,
            stacks: &self.snapshot.space,
            registry: &self.registry,
            evidence: &self.evidence,
            stop,
        }
    }

    /// The function at `address`, as unwind information delimits it.
    pub(crate) fn function(&self, address: u64) -> Option<(u64, u64)> {
        self.evidence.function(address)
    }

    /// Walks from `regs`, lends each frame to `see`, and judges.
    pub fn walk(&self, regs: &Regs, stop: Stop, mut see: impl FnMut(&Frame<'_>)) -> Judged {
        let target = self.target(stop);
        let (dwarf, analysed) = (&self.known.dwarf, &self.known.analysed);
        let checked = Corrected { dwarf, analysed, snapshot: self.snapshot, evidence: &self.evidence };
        let interrupted = Interrupted(self);
        let named = self.unwinders(&interrupted, &checked);
        let unwinders: Vec<&dyn Unwinder> = named.iter().map(|(_, unwinder)| *unwinder).collect();
        let regs = self.stopped_at(regs, stop);
        let mut walk = Walk::new(&target, &unwinders, regs, self.budget);
        let mut judge = Judge::new();
        let (mut depth, mut doubts) = (0, Vec::new());
        let mut take = |judge: &mut Judge| {
            let room = MOST_DOUBTS.saturating_sub(doubts.len());
            doubts.extend(judge.doubts().take(room));
            judge.forget();
        };
        while let Some(frame) = walk.next() {
            judge.see(&target, &frame);
            take(&mut judge);
            see(&frame);
            depth += 1;
        }
        let end = walk.end().unwrap_or(End::Stopped(Error::Budget { frames: self.budget }));
        let verdict = judge.verdict(&target, Some(end));
        take(&mut judge);
        let refusals = walk.refusals().filter_map(|(asked, why)| Some((named.get(asked)?.0, why))).collect();
        Judged { end, verdict, doubts, believed: judge.believed(), depth, refusals }
    }

    fn unwinders<'u>(
        &'u self,
        interrupted: &'u Interrupted<'_, 's>,
        checked: &'u Corrected<'_>,
    ) -> Vec<(&'static str, &'u dyn Unwinder)> {
        let signal: (_, &dyn Unwinder) = ("signal frame", interrupted);
        let probe: (_, &dyn Unwinder) = ("probe", &Probes);
        let dwarf: (_, &dyn Unwinder) = ("cfi", &self.known.dwarf);
        let markers: (_, &dyn Unwinder) = ("marker", &Markers);
        let [entry, fp]: [(_, &dyn Unwinder); 2] = [("entry", &Entry), ("frame pointer", &FramePointer)];
        match self.method {
            Method::Best => {
                vec![signal, ("cfi", checked), probe, markers, ("analysis", &self.known.analysed), entry, fp]
            }
            Method::Cfi => vec![signal, dwarf, probe, markers],
            Method::FramePointer => vec![signal, probe, markers, entry, fp],
            Method::Framehop => vec![("framehop", &self.known.framehop)],
        }
    }

    /// The registers with the pc at the instruction at which the thread is.
    pub fn stopped_at(&self, regs: &Regs, stop: Stop) -> Regs {
        let mut regs = *regs;
        if let Some(pc) = self.breakpoint(&regs, stop) {
            regs.set_pc(pc);
        }
        regs
    }

    /// The breakpoint that stopped the thread, when a debugger planted it: the pc is behind it, the instruction under it has
    /// not run, and that is where the thread really is. An `int3` of the program's own has run. Only where it is the last
    /// instruction of its function does it stand for the pc behind it, which is none of that function's.
    fn breakpoint(&self, regs: &Regs, stop: Stop) -> Option<CodeAddress> {
        const SIGTRAP: i32 = 5;
        const TRAP_BRKPT: i32 = 1;
        const SI_KERNEL: i32 = 0x80;
        const INT3: u8 = 0xcc;
        if self.snapshot.arch.machine != surestack_walk::X86_64.machine
            || stop.signal != SIGTRAP
            || !matches!(stop.code, TRAP_BRKPT | SI_KERNEL)
        {
            return None;
        }
        let pc = regs.pc()?.value();
        let at = pc.checked_sub(1)?;
        let mut byte = [0];
        self.snapshot.memory.read(at, &mut byte).ok()?;
        let module = self.snapshot.space.module(at);
        let file = module.and_then(|(_, module)| module.image.as_ref()?.at(at.wrapping_sub(module.bias), 1));
        let planted = file.is_some_and(|original| original != [INT3]);
        let last = || stop.code == SI_KERNEL && self.evidence.function(at) != self.evidence.function(pc);
        (byte == [INT3] && (planted || last())).then_some(CodeAddress::Exact(at))
    }
}

/// Steps from a sigreturn trampoline to the instruction at which the thread was: the one under the breakpoint, where a
/// planted one raised the signal. A handler that did not ask for a `siginfo_t` leaves nothing that says so.
struct Interrupted<'t, 's>(&'t Tracer<'s>);

impl Unwinder for Interrupted<'_, '_> {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let step = SignalFrame.step(target, callee, caller)?;
        if let Step::Caller { cfa, .. } = step
            && let Ok(signal) =
                SavedContext::of_ucontext(target.arch, cfa).and_then(|saved| saved.signal(target.arch, target.memory))
        {
            *caller = self.0.stopped_at(caller, Stop { signal: signal.number, code: signal.code });
        }
        Ok(step)
    }
}
