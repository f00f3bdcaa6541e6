//! One thread of ours, walked and judged where it stands.
//!
//! ```text
//!   registers ─► SignalFrame ─► Cfi ─► Probes ─► Markers ─► Entry ─► FramePointer ─► root
//!                                 │ each frame
//!                                 ├─► Noted ─► Judge (nobody with files is here: at best the verdict is pending)
//!                                 └─► see(frame)
//! ```

use crate::memory::{OwnMemory, Range};
use crate::surroundings::Surroundings;
use core::ops::ControlFlow;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_probe::Probes;
use surestack_reliable::{Doubted, Judge, Noted, Verdict};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{Arch, End, Error, NoEvidence, Registry, Regs, Stacks, Stop, Target, Unwinder, Walk};

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
    /// A frame, innermost first, with its registers. Breaks off the walk where that is asked for.
    fn frame(&mut self, frame: &Noted, regs: &Regs) -> ControlFlow<()>;
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
    let mut walk = Walk::new(&target, &unwinders, *regs, BUDGET);
    let mut judge = Judge::new();
    let mut broken = None;
    let mut frames = 0_usize;
    while let Some(frame) = walk.next() {
        let noted = Noted::of(&target, &frame);
        judge.see_noted(&target, &noted);
        frames = frames.saturating_add(1);
        let go_on = see.frame(&noted, frame.regs);
        tell(&mut judge, see);
        if go_on.is_break() {
            broken = Some(End::Stopped(Error::Budget { frames }));
            break;
        }
    }
    let end = broken.or(walk.end()).unwrap_or(End::Stopped(Error::Budget { frames }));
    let verdict = judge.verdict(&target, Some(end));
    tell(&mut judge, see);
    Traced { end, verdict, frames, believed: judge.believed() }
}

fn tell(judge: &mut Judge, see: &mut impl See) {
    judge.doubts().for_each(|doubted| see.doubt(&doubted));
    judge.forget();
}
