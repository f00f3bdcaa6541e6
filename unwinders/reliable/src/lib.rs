//! The judge: could this trace have left out a function that will be returned to?
//!
//! It consumes the frames of a walk as they come and has no way of walking of its own. Every rule that a frame breaks is
//! a [`Doubt`] with the frame's number; evidence that nobody at hand could give is [`Missing`]. The verdict is reliable
//! only with neither.
//!
//! This first judge knows the rules that need no proof of the unwind information: a known root at its place, every
//! return address after a call that leads to its callee, stacks and their order, no code without unwind information
//! unless it was analysed, authentic signal frames. It takes rows at their word.
#![no_std]
#![forbid(unsafe_code)]

mod doubt;

pub use doubt::{Doubt, Doubted, Missing};

use surestack_walk::{
    CodeAddress, End, Error, FoundBy, Frame, Grade, Link, Mapping, Proof, Regs, Root, Stack, Target, Witness,
};

/// Doubts that are kept; more are only counted.
const KEPT: usize = 16;
/// Stacks that a walk may have left: signal stacks nest at most a few deep.
const STACKS: usize = 8;

/// Judges one walk.
#[derive(Clone, Debug)]
pub struct Judge {
    doubts: [Option<Doubted>; KEPT],
    count: usize,
    missing: Missing,
    frames: usize,
    last: Option<Last>,
    left: [Option<Stack>; STACKS],
}

/// What has to be remembered of the frame before.
#[derive(Clone, Copy, Debug)]
struct Last {
    pc: CodeAddress,
    /// Whether the frame was recovered from a signal or entry frame, so that frame records say nothing about it.
    interrupted: bool,
    stack: Option<Stack>,
}

/// Whether a trace can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every function that will be returned to is in it.
    Reliable,
    /// It may have left one out; the doubts say why.
    Unreliable,
    /// Nothing speaks against it, but evidence is missing.
    Pending(Missing),
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

impl Judge {
    /// A judge who has seen nothing.
    pub const fn new() -> Self {
        Self { doubts: [None; KEPT], count: 0, missing: Missing::NONE, frames: 0, last: None, left: [None; STACKS] }
    }

    /// Takes the next frame of the walk.
    pub fn see(&mut self, target: &Target<'_>, frame: &Frame<'_>) {
        self.frames = self.frames.saturating_add(1);
        self.judge_method(frame);
        if let Some(last) = self.last {
            self.judge_link(target, frame, last);
        }
        self.judge_code(target, frame);
        let stack = self.judge_stack(target, frame);
        let interrupted = matches!(frame.link, Link::Signal | Link::Marker);
        self.last = Some(Last { pc: frame.pc, interrupted, stack });
    }

    /// Takes the end of the walk and the registers of its last frame, and decides.
    pub fn verdict(&mut self, target: &Target<'_>, end: Option<End>, last: &Regs) -> Verdict {
        match end {
            Some(End::Root(root)) => self.judge_root(target, root, last),
            Some(End::Stopped(error)) => self.doubt(Doubt::Stopped(error)),
            None => self.doubt(Doubt::Stopped(Error::Budget { frames: self.frames })),
        }
        match (self.count, self.missing) {
            (0, Missing::NONE) => Verdict::Reliable,
            (0, missing) => Verdict::Pending(missing),
            _ => Verdict::Unreliable,
        }
    }

    /// The doubts, in the order of their frames; the first sixteen of [`Judge::count`].
    pub fn doubts(&self) -> impl Iterator<Item = Doubted> + '_ {
        self.doubts.iter().flatten().copied()
    }

    /// How many doubts there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many frames, innermost first, lie before the first doubt.
    pub fn believed(&self) -> usize {
        self.doubts().map(|doubted| doubted.frame).min().unwrap_or(self.frames)
    }

    /// How a frame was found: only what is positively known is believed.
    fn judge_method(&mut self, frame: &Frame<'_>) {
        match frame.found_by {
            FoundBy::FramePointer if self.last.is_some_and(|last| last.interrupted) => {
                self.doubt(Doubt::FramePointerAcrossSignal);
            }
            FoundBy::FramePointer | FoundBy::Foreign(_) => self.doubt(Doubt::Unvouched(frame.found_by)),
            // A call into nowhere has just pushed its return address: nothing else can have run since.
            FoundBy::CallAtSp if frame.index > 1 && !self.last.is_some_and(|last| last.interrupted) => {
                self.doubt(Doubt::Unvouched(frame.found_by));
            }
            _ => {}
        }
    }

    /// What lies between a frame and its callee.
    fn judge_link(&mut self, target: &Target<'_>, frame: &Frame<'_>, last: Last) {
        if frame.link != Link::Call {
            return;
        }
        if matches!(frame.found_by, FoundBy::Cfi(_))
            && last.pc.is_exact()
            && target.evidence.frame(last.pc) == Proof::Refuted
        {
            self.doubt(Doubt::FrameMoved { pc: last.pc.value() });
        }
        let return_address = frame.pc.value();
        // Trampolines and the foot of a context are returned to without having called anybody.
        if target.is_entered_without_call(return_address) {
            return;
        }
        match target.evidence.call(return_address, last.pc) {
            Witness::Confirmed => {}
            // Seen from the pc alone, a return that does not return to a caller looks like one that does.
            Witness::Unknown if matches!(frame.found_by, FoundBy::Analysed(Grade::ToReturn) | FoundBy::Corrected) => {
                self.doubt(Doubt::Unvouched(frame.found_by));
            }
            Witness::Unknown => {}
            Witness::NotACall => self.doubt(Doubt::NotAfterCall { return_address }),
            Witness::Refuted { target } => self.doubt(Doubt::OtherCallee { return_address, target }),
        }
    }

    /// Where the pc lies.
    fn judge_code(&mut self, target: &Target<'_>, frame: &Frame<'_>) {
        let pc = frame.pc.value();
        match target.modules.mapping(pc) {
            Mapping::Code => {}
            Mapping::Unknown => self.missing = self.missing.and(Missing::CODE),
            // A call to nowhere leaves such a pc in the interrupted frame, and only there.
            Mapping::Data | Mapping::Nothing if frame.pc.is_exact() => {}
            Mapping::Data | Mapping::Nothing => self.doubt(Doubt::NotCode { pc }),
        }
    }

    /// Which stack the frame is on, and how it got there.
    fn judge_stack(&mut self, target: &Target<'_>, frame: &Frame<'_>) -> Option<Stack> {
        let sp = frame.regs.get(target.arch.sp)?;
        let Some(stack) = target.stacks.find(sp) else {
            self.doubt(Doubt::OffStack { sp });
            return None;
        };
        let Some(last) = self.last.and_then(|last| last.stack) else {
            return Some(stack);
        };
        if last == stack {
            return Some(stack);
        }
        if frame.link == Link::Call {
            self.doubt(Doubt::StackSwitched { sp });
        }
        if self.left.iter().flatten().any(|left| *left == stack) {
            self.doubt(Doubt::StackRevisited { sp });
        }
        match self.left.iter_mut().find(|left| left.is_none()) {
            Some(free) => *free = Some(last),
            None => self.doubt(Doubt::StackRevisited { sp }),
        }
        Some(stack)
    }

    fn judge_root(&mut self, target: &Target<'_>, root: Root, last: &Regs) {
        if matches!(root, Root::Registered | Root::Marker(_)) {
            return;
        }
        match target.evidence.root(root, last) {
            Proof::Proven => {}
            Proof::Refuted => self.doubt(Doubt::RootMisplaced(root)),
            Proof::Unknown => self.missing = self.missing.and(Missing::ROOT),
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        let frame = self.frames.saturating_sub(1);
        if let Some(free) = self.doubts.get_mut(self.count) {
            *free = Some(Doubted { frame, doubt });
        }
        self.count = self.count.saturating_add(1);
    }
}
