//! A thread's own trace, taken anywhere and judged at leisure.

use crate::error::Error;
use crate::evidence::{Answers, FileEvidence};
use crate::image::Find;
use crate::snapshot::process::StoppedProcess;
use std::ffi::c_void;
use std::fmt;
use std::ops::ControlFlow;
use std::rc::Rc;
use surestack_capture::{ARCH, Interrupted, Mappings, See, Stopped, Surroundings, here, syscall, trace, with_room};
use surestack_reliable::{Doubt, Doubted, Judge, Noted, Verdict};
use surestack_walk::{End, Error as Broken, Registry, Regs, Stop, Target};

/// Doubts that are kept of one trace.
const DOUBTS: usize = 16;

/// The stack of the thread that captures it: innermost frame first, and whether it can be trusted.
///
/// ```
/// use surestack::this_process::{Trace, refresh};
///
/// // Once, outside of any handler, and again when something was loaded.
/// refresh();
/// let trace: Trace = Trace::capture();
/// for frame in trace.frames() {
///     println!("{}", frame.pc);
/// }
/// println!("{:?}", trace.judge()?.verdict);
/// # Ok::<(), surestack::Error>(())
/// ```
///
/// Capturing is safe in any signal handler: it allocates nothing, takes no lock, touches no thread-local storage, and every
/// system call is made without libc. It finds modules in the map that [`refresh`](super::refresh) fills, and keeps `FRAMES`
/// frames; what is deeper is counted, and such a trace is not reliable. A frame takes two hundred bytes: on a small stack,
/// capture into a [`Trace::EMPTY`] that lies elsewhere. The walk itself is done on a stack of ours; 64 threads
/// at once can have one, and the next gets a trace without frames.
///
/// Memory that is not on the stack it begins on is read only where our crash handler is installed, which makes faults good:
/// without it a trace from a handler on an alternate stack ends at what was interrupted, and says so.
///
/// The verdict of the moment is at best pending, for files are needed to tell more: [`Trace::judge`] does that later.
#[derive(Clone)]
pub struct Trace<const FRAMES: usize = 64> {
    thread: u32,
    frames: [Option<Noted>; FRAMES],
    depth: usize,
    doubts: [Option<Doubted>; DOUBTS],
    doubted: usize,
    end: Option<End>,
    verdict: Verdict,
    generation: Option<u64>,
}

/// What was made of a trace by somebody with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it can be trusted.
    pub verdict: Verdict,
    /// What speaks against it.
    pub doubts: Vec<Doubted>,
    /// How many frames lie before the first doubt.
    pub believed: usize,
}

impl<const FRAMES: usize> Trace<FRAMES> {
    /// Of nobody.
    pub const EMPTY: Self = Self {
        thread: 0,
        frames: [None; FRAMES],
        depth: 0,
        doubts: [None; DOUBTS],
        doubted: 0,
        end: None,
        verdict: Verdict::Unreliable,
        generation: None,
    };

    /// Of this thread, from where it is called.
    #[inline(always)]
    pub fn capture() -> Self {
        let mut trace = Self::EMPTY;
        trace.walk(&here(), Stop::default());
        trace
    }

    /// The same, in memory that is there already.
    #[inline(always)]
    pub fn capture_here(&mut self) {
        self.walk(&here(), Stop::default());
    }

    /// Of what a signal interrupted, by the third argument of its handler.
    ///
    /// # Safety
    /// It is that, and the handler has not returned.
    pub unsafe fn of_ucontext(context: *const c_void) -> Self {
        let mut trace = Self::EMPTY;
        // SAFETY: as the caller promises.
        unsafe { trace.capture_ucontext(context) };
        trace
    }

    /// The same, in memory that is there already.
    ///
    /// # Safety
    /// As for [`Trace::of_ucontext`].
    pub unsafe fn capture_ucontext(&mut self, context: *const c_void) {
        let ucontext = context.expose_provenance();
        // SAFETY: as the caller promises; the second address is not looked at.
        match unsafe { Interrupted { ucontext, siginfo: ucontext }.registers() } {
            Ok(regs) => self.walk(&regs, Stop::default()),
            Err(error) => *self = Self { end: Some(End::Stopped(error)), ..Self::EMPTY },
        }
    }

    #[inline(never)]
    fn walk(&mut self, regs: &Regs, stop: Stop) {
        self.clear();
        // Handlers run on stacks that are too small for this.
        with_room(&mut || self.walk_on(regs, stop));
    }

    fn walk_on(&mut self, regs: &Regs, stop: Stop) {
        // Each time anew: in a forked child, what its parent opened shows the parent's.
        let maps = syscall::open_at(-100, c"/proc/self/maps", 0o2_000_000, 0).ok();
        let around = Surroundings::new(super::modules(), Mappings::new(maps));
        self.thread = syscall::thread_id();
        self.generation = Some(super::modules().generation());
        let stopped = Stopped { arch: ARCH, regs, stop };
        // SAFETY: this thread is here, and so is its stack. What a handler interrupted stands meanwhile.
        let traced = unsafe { trace(&around, &Registry::default(), stopped, &mut Frames(self)) };
        if let Some(maps) = maps {
            let _ = syscall::close(maps);
        }
        (self.end, self.verdict) = (Some(traced.end), traced.verdict);
        if self.depth > FRAMES {
            (self.end, self.verdict) = (Some(End::Stopped(Broken::Budget { frames: FRAMES })), Verdict::Unreliable);
        }
    }

    fn clear(&mut self) {
        // In place: a trace may be larger than what is left of the stack.
        self.frames.iter_mut().for_each(|frame| *frame = None);
        self.doubts = [None; DOUBTS];
        (self.depth, self.doubted, self.end, self.verdict) = (0, 0, None, Verdict::Unreliable);
    }

    /// Which thread's.
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// Its frames, innermost first, as far as there was room.
    pub fn frames(&self) -> impl Iterator<Item = &Noted> {
        self.frames.iter().flatten()
    }

    /// How many frames there were, kept or not.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// How the walk ended; nothing if there was none.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// What could be said at the time.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Judges again, with our files and memory: allocates, and reads them. Not for handlers.
    ///
    /// Whether a thread's outermost frame is where it must be is known by its stack's mapping: the thread should not have
    /// ended.
    ///
    /// # Errors
    /// [`Error::Process`] when the process cannot read itself.
    pub fn judge(&self) -> Result<Judged, Error> {
        with_files(|target, _| self.judged(target))
    }

    /// Judges several, in their order, and opens files once: what was proven of code for one need not be for the next.
    ///
    /// # Errors
    /// As for [`Trace::judge`].
    pub fn judge_each<'t>(traces: impl IntoIterator<Item = &'t Self>) -> Result<Vec<Judged>, Error> {
        with_files(|target, answers| {
            let judged = traces.into_iter().map(|trace| {
                // The process runs on meanwhile.
                super::refresh();
                answers.ran_on();
                trace.judged(target)
            });
            judged.collect()
        })
    }

    fn judged(&self, target: &Target<'_>) -> Judged {
        let mut judge = Judge::new();
        let mut doubts = vec![];
        let mut take = |judge: &mut Judge| {
            doubts.extend(judge.doubts());
            judge.forget();
        };
        for frame in self.frames() {
            judge.see_noted(target, frame);
            take(&mut judge);
        }
        let changed = self.generation != Some(super::modules().generation());
        let changed = changed.then_some(Doubted { frame: 0, doubt: Doubt::ModulesChanged });
        for doubted in self.doubts.iter().flatten().copied().chain(changed) {
            // That the walk stopped is said at the end.
            if !matches!(doubted.doubt, Doubt::Stopped(_)) {
                judge.recall(doubted);
                take(&mut judge);
            }
        }
        let verdict = judge.verdict(target, self.end);
        take(&mut judge);
        // A doubt for which there was no room was one all the same.
        let verdict = if self.verdict == Verdict::Unreliable { Verdict::Unreliable } else { verdict };
        doubts.sort_by_key(|doubted| doubted.frame);
        doubts.dedup();
        Judged { verdict, doubts, believed: judge.believed() }
    }
}

impl<const FRAMES: usize> fmt::Debug for Trace<FRAMES> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pcs = self.frames().map(|frame| frame.pc);
        write!(out, "thread {}, {:?}, {} frames: ", self.thread, self.verdict, self.depth)?;
        out.debug_list().entries(pcs).finish()
    }
}

/// Opens our files and memory for whoever judges.
fn with_files<T>(judge: impl FnOnce(&Target<'_>, &Answers) -> T) -> Result<T, Error> {
    super::refresh();
    // By the thread that asks: the first one may have exited.
    let process = StoppedProcess::open_by(std::process::id(), syscall::thread_id(), Find::default())?;
    let snapshot = process.snapshot();
    let answers = Rc::new(Answers::default());
    let evidence = FileEvidence::new(snapshot, Rc::clone(&answers));
    let target = Target {
        arch: snapshot.arch,
        memory: &*snapshot.memory,
        modules: &snapshot.space,
        stacks: &snapshot.space,
        registry: &Registry::default(),
        evidence: &evidence,
        stop: Stop::default(),
    };
    Ok(judge(&target, &answers))
}

/// Keeps what comes.
struct Frames<'t, const FRAMES: usize>(&'t mut Trace<FRAMES>);

impl<const FRAMES: usize> See for Frames<'_, FRAMES> {
    fn frame(&mut self, frame: &Noted) -> ControlFlow<()> {
        let trace = &mut *self.0;
        if let Some(place) = trace.frames.get_mut(trace.depth) {
            *place = Some(*frame);
        }
        trace.depth = trace.depth.saturating_add(1);
        ControlFlow::Continue(())
    }

    fn doubt(&mut self, doubted: &Doubted) {
        let trace = &mut *self.0;
        if let Some(place) = trace.doubts.get_mut(trace.doubted) {
            *place = Some(*doubted);
        }
        trace.doubted = trace.doubted.saturating_add(1);
    }
}
