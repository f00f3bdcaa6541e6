//! One thread of ours, walked and judged where it stands.
//!
//! ```text
//!   registers ─► SignalFrame ─► Cfi ─► Probes ─► Markers ─► Entry ─► FramePointer ─► root
//!                                 │ each frame
//!                                 ├─► Noted ─► Judge (nobody with files is here: at best the verdict is pending)
//!                                 └─► see(frame)
//! ```

use crate::fast::{CACHE, Layers, OwnRules};
use crate::memory::{OwnMemory, Range};
use crate::surroundings::Surroundings;
use core::ops::ControlFlow;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_fast::{Chase, Ground, Passed, Start, Take, Words};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_probe::Probes;
use surestack_reliable::{Doubted, Judge, Noted, Verdict};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{
    Arch, End, Error, Frame, Memory, NoEvidence, Register, Registry, Regs, Stack, StackKind, Stacks, Stop, Target,
    Unwinder, Walk,
};

/// Most frames of a trace: 8 MiB of the smallest.
pub const BUDGET: usize = 1 << 19;
/// Below its stack pointer code keeps up to 128 bytes (AMD64 supplement, 3.2.2).
const RED_ZONE: u64 = 128;

/// A thread to walk: the registers it stopped with, and why it stopped.
#[derive(Clone, Copy)]
pub struct Stopped<'a> {
    /// Its architecture, which is ours.
    pub arch: &'static Arch,
    /// Its registers.
    pub regs: &'a Regs,
    /// The signal.
    pub stop: Stop,
}

/// What a trace gives as it goes.
pub trait See {
    /// A frame, innermost first. Breaks off the walk where that is asked for.
    fn frame(&mut self, frame: &Noted) -> ControlFlow<()>;
    /// A doubt about a frame that was seen.
    fn doubt(&mut self, doubted: &Doubted);
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// How it ended.
    pub end: End,
    /// Whether it can be trusted.
    pub verdict: Verdict,
    /// How many frames there were.
    pub frames: usize,
    /// How many of them lie before the first doubt.
    pub believed: usize,
}

/// Walks a thread that stands still meanwhile, and judges.
///
/// # Safety
/// The thread's stack, from its stack pointer to the end of its mapping, stays mapped. Everything else may go away at any
/// time if a handler of ours is installed ([`crate::arm`]), and is not read otherwise.
pub unsafe fn trace(
    around: &Surroundings<'_>,
    registry: &Registry<'_>,
    thread: Stopped<'_>,
    see: &mut impl See,
) -> Traced {
    let Stopped { arch, regs, stop } = thread;
    let sp = regs.get(arch.sp);
    let stack = sp.and_then(|sp| Stacks::find(around, sp));
    let known =
        stack.zip(sp).map(|(stack, sp)| Range { low: sp.saturating_sub(RED_ZONE).max(stack.low), high: stack.high });
    // SAFETY: as the caller promises.
    let memory = unsafe { OwnMemory::new(known.as_slice()) };
    let target =
        Target { arch, memory: &memory, modules: around, stacks: around, registry, evidence: &NoEvidence, stop };
    let unwinders: [&dyn Unwinder; 6] = [&SignalFrame, &Cfi(DwarfRows), &Probes, &Markers, &Entry, &FramePointer];
    let rules = OwnRules { modules: around.map(), layers: Layers::All };
    let ground = Ground {
        target: &target,
        unwinders: &unwinders,
        budget: BUDGET,
        cache: &CACHE,
        rules,
        words: Checked(&memory),
    };
    let register = |register| regs.get(register).unwrap_or(0);
    let start = Start {
        pc: register(Register::PC),
        sp: register(arch.sp),
        fp: register(arch.fp),
        stack: stack.unwrap_or(NOWHERE),
        regs: || *regs,
    };
    let mut judging =
        Judging { target: &target, judge: Judge::new(), see, thread: regs.get(Register::THREAD), frames: 0 };
    let mut chase = Chase::new(&ground, &start);
    // What the cache and the tables have is of the map alone.
    let end = if around.is_the_map() { chase.run(&mut judging) } else { walk(&target, &unwinders, regs, &mut judging) };
    let Judging { mut judge, see, frames, .. } = judging;
    let end = end.unwrap_or(End::Stopped(Error::Budget { frames }));
    let verdict = judge.verdict(&target, Some(end));
    tell(&mut judge, see);
    Traced { end, verdict, frames, believed: judge.believed() }
}

/// No stack.
const NOWHERE: Stack = Stack { low: 0, high: 0, kind: StackKind::Other };

/// The full walk, alone.
fn walk(target: &Target<'_>, unwinders: &[&dyn Unwinder], regs: &Regs, take: &mut impl Take) -> Option<End> {
    let mut walk = Walk::new(target, unwinders, *regs, BUDGET);
    while let Some(frame) = walk.next() {
        if take.take(Passed::of(target, &frame)).is_break() {
            return None;
        }
    }
    walk.end()
}

/// Words of any stack: those that are not known to be there are loaded with care.
struct Checked<'m, 'r>(&'m OwnMemory<'r>);

impl Words for Checked<'_, '_> {
    #[inline]
    fn word(&self, address: u64) -> Option<u64> {
        self.0.word(address).ok()
    }
}

/// Judges frames as they come, and hands them on.
struct Judging<'t, S> {
    target: &'t Target<'t>,
    judge: Judge,
    see: &'t mut S,
    /// The thread's storage, which no frame changes.
    thread: Option<u64>,
    frames: usize,
}

impl<S: See> Take for Judging<'_, S> {
    fn take(&mut self, frame: Passed) -> ControlFlow<()> {
        let mut regs = Regs::new();
        for (register, value) in [(self.target.arch.sp, frame.sp), (Register::THREAD, self.thread)] {
            if let Some(value) = value {
                regs.set(register, value);
            }
        }
        regs.set_pc(frame.pc);
        let Passed { pc, link, callee_cfa, return_slot, found_by, .. } = frame;
        let frame = Frame { index: self.frames, regs: &regs, pc, found_by, link, callee_cfa, return_slot };
        let noted = Noted::of(self.target, &frame);
        self.judge.see_noted(self.target, &noted);
        self.frames = self.frames.saturating_add(1);
        let go_on = self.see.frame(&noted);
        tell(&mut self.judge, self.see);
        go_on
    }
}

fn tell(judge: &mut Judge, see: &mut impl See) {
    judge.doubts().for_each(|doubted| see.doubt(&doubted));
    judge.forget();
}
