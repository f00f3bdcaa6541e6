//! The judge: could this trace have left out a function that will be returned to?
//!
//! It consumes the frames of a walk as they come and has no way of walking of its own. Every rule that a frame breaks is
//! a [`Doubt`] with the frame's number; evidence that nobody at hand could give is [`Missing`]. The verdict is reliable
//! only with neither.
//!
//! ```text
//!   frame ─► Noted ─┬─► method   was it found in a way that anything vouches for?
//!                   ├─► call     does the call before it lead to its callee, by a row the instructions agree with?
//!                   ├─► code     is it code whose bytes are known?
//!                   └─► stack    is it where its callee's caller can be?
//!   end   ──────────────► root   is the outermost frame where an outermost frame must be?
//! ```
//!
//! What a frame tells is noted first, with everything that only the thread's memory can say. A judge who has files and a
//! decoder can judge the same [`Noted`] frames again later, and finish what was left pending.
#![no_std]
#![forbid(unsafe_code)]

mod doubt;
mod missing;
mod noted;
mod signal;

pub use doubt::{ContextFault, Doubt, Doubted};
pub use missing::Missing;
pub use noted::Noted;

use surestack_walk::{
    End, Error, FoundBy, Frame, Grade, Link, Mapping, Memory, ProbeKind, Proof, RegisterSet, Root, RowProof, Stack,
    Target, Witness,
};

/// Doubts that are kept until somebody takes them; more are only counted.
const KEPT: usize = 16;
/// Stacks that a walk may have left: signal stacks nest at most a few deep.
const STACKS: usize = 8;
/// Words of one frame that are looked through for other return addresses.
const WORDS: usize = 1 << 16;
/// How far below its stack a stack pointer may be that has just overflowed it: the kernel's guard gap below the main stack
/// is 256 pages.
const GUARD: u64 = 1 << 20;

/// Judges one walk.
#[derive(Clone, Debug)]
pub struct Judge {
    doubts: [Option<Doubted>; KEPT],
    kept: usize,
    count: usize,
    first: Option<usize>,
    missing: Missing,
    frames: usize,
    last: Option<Last>,
    left: [Option<Stack>; STACKS],
    generation: Option<u64>,
}

/// What has to be remembered of the frame before.
#[derive(Clone, Copy, Debug)]
struct Last {
    frame: Noted,
    /// Registers whose values rest on a row's word alone.
    unproven: RegisterSet,
    /// Registers whose values are shown to be wrong.
    wrong: RegisterSet,
    /// The stack the walk is on.
    stack: Option<Stack>,
}

impl Last {
    /// Whether the frame was recovered from a signal or entry frame, so that frame records say nothing about it.
    fn interrupted(&self) -> bool {
        matches!(self.frame.link, Link::Signal | Link::Marker | Link::Probe)
    }
}

/// Whether the call that led to the callee vouches for the frame: no word between the callee's stack pointer and the return
/// address is confirmed in the same way. The calls of a recursive function look the same on every level, and a row that
/// reaches too far finds the next of them. (Words behind calls through pointers lie in most frames, left over from calls that
/// have returned: a level that was left out, and called through one, is not seen.)
fn is_only_call(target: &Target<'_>, memory: &dyn Memory, frame: &Noted, last: &Last) -> bool {
    let (Some(sp), Some(slot)) = (last.frame.sp, frame.return_slot) else { return false };
    let words = (sp..slot).step_by(8);
    words.clone().count() <= WORDS
        && words.into_iter().all(|at| match memory.word(at) {
            Ok(word) => !matches!(target.evidence.call(word, last.frame.pc), Witness::Confirmed),
            Err(_) => false,
        })
}

/// Whether the call that led to a callee vouches for its caller's frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vouched {
    Yes,
    No,
    /// Only the thread's memory could tell.
    Unknown,
}

/// Whether a way of finding frames is right only if a call vouches for what it found.
fn is_guess(found_by: FoundBy) -> bool {
    matches!(found_by, FoundBy::Analysed(Grade::ToReturn | Grade::FromSymbol) | FoundBy::CallAtSp)
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
        Self {
            doubts: [None; KEPT],
            kept: 0,
            count: 0,
            first: None,
            missing: Missing::NONE,
            frames: 0,
            last: None,
            left: [None; STACKS],
            generation: None,
        }
    }

    /// Takes the next frame of the walk.
    pub fn see(&mut self, target: &Target<'_>, frame: &Frame<'_>) {
        self.look(target, &Noted::of(target, frame), Some(target.memory));
    }

    /// Takes the next frame as it was noted, now or earlier. Of `target` only code and evidence are asked.
    pub fn see_noted(&mut self, target: &Target<'_>, frame: &Noted) {
        self.look(target, frame, None);
    }

    /// Takes the next frame, with its thread's memory where that is at hand.
    fn look(&mut self, target: &Target<'_>, frame: &Noted, memory: Option<&dyn Memory>) {
        if self.frames == 0 {
            self.generation = target.modules.generation();
        }
        self.frames = self.frames.saturating_add(1);
        let (mut unproven, mut wrong) = (RegisterSet::EMPTY, RegisterSet::EMPTY);
        if let Some(last) = self.last {
            self.judge_method(frame, &last);
            if frame.link == Link::Call {
                let witness = self.judge_call(target, frame, &last);
                let vouched = || match (witness, memory) {
                    (Witness::Confirmed, None) => Vouched::Unknown,
                    (Witness::Confirmed, Some(memory)) if is_only_call(target, memory, frame, &last) => Vouched::Yes,
                    _ => Vouched::No,
                };
                (unproven, wrong) = self.judge_row(target, frame, &last, witness, &vouched);
            }
        } else if matches!(frame.found_by, FoundBy::FramePointer | FoundBy::Foreign(_)) {
            self.doubt(Doubt::Unvouched(frame.found_by));
        }
        self.judge_code(target, frame);
        let stack = self.judge_stack(frame);
        self.last = Some(Last { frame: *frame, unproven, wrong, stack });
    }

    /// Takes the end of the walk, and decides.
    pub fn verdict(&mut self, target: &Target<'_>, end: Option<End>) -> Verdict {
        if let Some(Last { frame: Noted { sp: Some(sp), link, .. }, stack: None, .. }) = self.last
            && (self.frames == 1 || link == Link::Signal)
        {
            self.doubt(Doubt::OffStack { address: sp });
        }
        match end {
            Some(End::Root(root)) => self.judge_root(target, root),
            Some(End::Stopped(error)) => self.doubt(Doubt::Stopped(error)),
            None => self.doubt(Doubt::Stopped(Error::Budget { frames: self.frames })),
        }
        if self.generation.is_none() || target.modules.generation() != self.generation {
            self.doubt(Doubt::ModulesChanged);
        }
        match (self.count, self.missing) {
            (0, Missing::NONE) => Verdict::Reliable,
            (0, missing) => Verdict::Pending(missing),
            _ => Verdict::Unreliable,
        }
    }

    /// A doubt that an earlier judge had about the same frames. It is not had twice.
    pub fn recall(&mut self, doubted: Doubted) {
        if !self.doubts().any(|known| known == doubted) {
            self.doubt_about(doubted.frame, doubted.doubt);
        }
    }

    /// The doubts since the last [`Judge::forget`], in the order in which they arose, sixteen at most.
    pub fn doubts(&self) -> impl Iterator<Item = Doubted> + '_ {
        self.doubts.iter().take(self.kept).flatten().copied()
    }

    /// Makes room: whoever takes the doubts after each frame has them all.
    pub fn forget(&mut self) {
        self.kept = 0;
    }

    /// How many doubts there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many frames, innermost first, lie before the first doubt.
    pub fn believed(&self) -> usize {
        self.first.unwrap_or(self.frames)
    }

    /// How a frame was found: only what is positively known is believed.
    fn judge_method(&mut self, frame: &Noted, last: &Last) {
        match frame.found_by {
            FoundBy::FramePointer if last.interrupted() => self.doubt(Doubt::FramePointerAcrossSignal),
            FoundBy::FramePointer | FoundBy::Foreign(_) => self.doubt(Doubt::Unvouched(frame.found_by)),
            _ => {}
        }
        if let Some(fault) = frame.context {
            self.doubt(Doubt::ForgedSignalFrame { ucontext: frame.callee_cfa.unwrap_or_default(), fault });
        }
    }

    /// Whether the call before a return address leads to the callee.
    fn judge_call(&mut self, target: &Target<'_>, frame: &Noted, last: &Last) -> Witness {
        let return_address = frame.pc.value();
        let witness = last.frame.arrival.unwrap_or_else(|| target.evidence.call(return_address, last.frame.pc));
        match witness {
            Witness::Confirmed => {}
            // Nobody called the page: its doubt is had where its code is judged.
            _ if target.modules.probe(return_address).is_some() => return Witness::Unknown,
            // Trampolines and the foot of a context are returned to without having called anybody.
            _ if target.is_entered_without_call(return_address) => {}
            // Seen from the pc alone, a return that does not return to a caller looks like one that does, and whatever the
            // stack pointer leads to looks like what a call has just left.
            Witness::Unknown if is_guess(frame.found_by) => {
                self.doubt(Doubt::Unvouched(frame.found_by));
            }
            Witness::Unknown => {}
            Witness::NotACall => self.doubt(Doubt::NotAfterCall { return_address }),
            Witness::Refuted { target } => self.doubt(Doubt::OtherCallee { return_address, target }),
        }
        witness
    }

    /// Whether the row by which the caller was found is what the instructions do. Returns the registers of the caller that
    /// rest on its word alone, and those that are wrong.
    fn judge_row(
        &mut self,
        target: &Target<'_>,
        frame: &Noted,
        last: &Last,
        witness: Witness,
        vouched: &dyn Fn() -> Vouched,
    ) -> (RegisterSet, RegisterSet) {
        let pc = last.frame.pc;
        let corrected = match frame.found_by {
            FoundBy::Cfi(_) => false,
            FoundBy::Corrected => true,
            // Only what was found on the stack, or left alone, by instructions that were followed.
            _ => return (last.unproven, last.wrong),
        };
        if pc.is_exact() && target.evidence.frame(pc) == Proof::Refuted {
            self.doubt(Doubt::FrameMoved { pc: pc.value() });
        }
        let row = target.evidence.row(pc);
        match row.frame {
            RowProof::Contradicted if !corrected => self.doubt(Doubt::RowContradicted { pc: pc.value() }),
            // The row is right and leads to no call: its return address was written over.
            RowProof::Proven if corrected => self.doubt(Doubt::Unvouched(frame.found_by)),
            RowProof::Proven | RowProof::Contradicted => {}
            // It leads to the right place; that nothing else is there yet the call alone tells.
            RowProof::Overwritten if witness == Witness::Confirmed => {}
            RowProof::Overwritten => self.doubt(Doubt::RowUndecided { pc: pc.value() }),
            RowProof::Assumed | RowProof::Undecided => match vouched() {
                Vouched::Yes => {}
                Vouched::No => self.doubt(Doubt::RowUndecided { pc: pc.value() }),
                Vouched::Unknown => self.missing = self.missing.and(Missing::STACK),
            },
            RowProof::Unknown => self.missing = self.missing.and(Missing::ROW),
        }
        let unproven = row.reads.common(last.unproven);
        let not_vouched = match unproven.first().map(|_| vouched()) {
            Some(Vouched::No) => unproven,
            Some(Vouched::Unknown) => {
                self.missing = self.missing.and(Missing::STACK);
                RegisterSet::EMPTY
            }
            Some(Vouched::Yes) | None => RegisterSet::EMPTY,
        };
        if let Some(register) = row.reads.common(last.wrong).and(not_vouched).first() {
            self.doubt(Doubt::RegisterUnproven { pc: pc.value(), register });
        }
        let saved = target.arch.callee_saved.iter().fold(RegisterSet::EMPTY, |set, register| set.with(*register));
        let good = row.saved.and(row.kept.without(last.unproven));
        (saved.without(good), row.wrong.and(row.kept.common(last.wrong)).without(row.saved))
    }

    /// Whether the pc lies in code, and in code that is known.
    fn judge_code(&mut self, target: &Target<'_>, frame: &Noted) {
        let pc = frame.pc;
        match target.evidence.text(pc) {
            Proof::Proven => return,
            Proof::Refuted => return self.doubt(Doubt::TextModified { pc: pc.value() }),
            Proof::Unknown => {}
        }
        if target.registry.generated.iter().any(|range| range.contains(&pc.lookup())) {
            return;
        }
        let probe = target.modules.probe(pc.value()).map(|page| page.kind);
        // A return address may be the first byte of its mapping.
        let mapped = if probe.is_some() { pc.value() } else { pc.lookup() };
        match target.modules.mapping(mapped) {
            // A call to nowhere leaves such a pc in the interrupted frame, and only there.
            Mapping::Data | Mapping::Nothing if pc.is_exact() => {}
            Mapping::Data | Mapping::Nothing => self.doubt(Doubt::NotCode { pc: pc.value() }),
            Mapping::Code if target.modules.find(pc.lookup()).is_some() => {
                self.missing = self.missing.and(Missing::TEXT);
            }
            Mapping::Code if target.is_entered_without_call(pc.value()) => {}
            Mapping::Code if probe == Some(ProbeKind::Nop) => {}
            Mapping::Code if probe == Some(ProbeKind::Return) => self.doubt(Doubt::ReturnProbed { page: pc.value() }),
            Mapping::Code => self.doubt(Doubt::UnknownCode { pc: pc.value() }),
            Mapping::Unknown => self.missing = self.missing.and(Missing::CODE),
        }
    }

    /// Which stack the frame is on, and how it got there.
    fn judge_stack(&mut self, frame: &Noted) -> Option<Stack> {
        let sp = frame.sp?;
        let Some(last) = self.last else {
            // Below its stack it may be an overflow: the next frame tells.
            return frame.stack;
        };
        let Some(before) = last.stack else {
            self.judge_overflow(frame, &last);
            return frame.stack;
        };
        let Some(stack) = frame.stack else {
            if frame.link == Link::Signal {
                // It may have overflowed its stack, which the handler on another one saw: the next frame tells.
                self.leave(before, sp);
                return None;
            }
            self.doubt(Doubt::OffStack { address: sp });
            return Some(before);
        };
        if before == stack {
            if let Some(slot) = frame.return_slot.filter(|slot| frame.link == Link::Call && !stack.holds(*slot, 8)) {
                self.doubt(Doubt::OffStack { address: slot });
            }
            return Some(stack);
        }
        if frame.link == Link::Call {
            self.doubt(Doubt::StackSwitched { sp });
        }
        self.enter(stack, sp);
        self.leave(before, sp);
        Some(stack)
    }

    /// No stack is entered that was left.
    fn enter(&mut self, stack: Stack, sp: u64) {
        if self.left.iter().flatten().any(|left| *left == stack) {
            self.doubt(Doubt::StackRevisited { sp });
        }
    }

    fn leave(&mut self, stack: Stack, sp: u64) {
        match self.left.iter_mut().find(|left| left.is_none()) {
            Some(free) => *free = Some(stack),
            None => self.doubt(Doubt::StackRevisited { sp }),
        }
    }

    /// So far the walk was on no stack. That is believed of the innermost frame and of one that a signal interrupted, right
    /// below the stack of its caller, and where something that knows the code found that.
    fn judge_overflow(&mut self, frame: &Noted, last: &Last) {
        let known_code = matches!(frame.found_by, FoundBy::Cfi(_) | FoundBy::Corrected | FoundBy::Analysed(_));
        let below = |sp| frame.stack?.low.checked_sub(sp);
        let may_overflow = self.frames == 2 || last.frame.link == Link::Signal;
        match last.frame.sp {
            Some(sp) if may_overflow && !(known_code && below(sp).is_some_and(|below| below <= GUARD)) => {
                self.doubt_about(self.frames.saturating_sub(2), Doubt::OffStack { address: sp });
            }
            _ => {}
        }
        if let (Some(stack), Some(sp)) = (frame.stack, frame.sp) {
            self.enter(stack, sp);
        }
        if let (None, Some(sp)) = (frame.stack, frame.sp) {
            self.doubt(Doubt::OffStack { address: sp });
        }
    }

    fn judge_root(&mut self, target: &Target<'_>, root: Root) {
        if matches!(root, Root::Registered | Root::Marker(_)) {
            return;
        }
        let Some(last) = self.last else { return self.missing = self.missing.and(Missing::ROOT) };
        match target.evidence.root(root, &last.frame.regs(target.arch)) {
            Proof::Proven => {}
            Proof::Refuted => self.doubt(Doubt::RootMisplaced(root)),
            Proof::Unknown => self.missing = self.missing.and(Missing::ROOT),
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        self.doubt_about(self.frames.saturating_sub(1), doubt);
    }

    fn doubt_about(&mut self, frame: usize, doubt: Doubt) {
        if let Some(free) = self.doubts.get_mut(self.kept) {
            *free = Some(Doubted { frame, doubt });
            self.kept = self.kept.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.first = Some(self.first.map_or(frame, |first| first.min(frame)));
    }
}
