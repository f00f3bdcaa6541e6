//! Recorded frames, judged by somebody who has the files.

use crate::analyze::{Analysis, BareFrame, Registers, Walked, look_of};
use crate::fold::Fold;
use crate::snapshot::Thread;
use crate::snapshot::record::{RecordedFrame, Trace};
use crate::trace::{Judged, MOST_DOUBTS, Tracer};
use std::collections::HashMap;
use std::ops::Range;
use surestack_reliable::{Doubt, Doubted, Judge, Verdict};
use surestack_walk::{CodeAddress, End, Error, Evidence, Link, Proof, Regs, Root, RowEvidence, Target, Witness};

/// Most doubts of a record that are had again; a trace with one of them is not reliable, and with more not less so.
const RECALLED: usize = 1 << 12;
/// What is compared where nothing says where functions begin.
const PAGE: u64 = 4096;

/// The files' evidence about a process that is gone: of its code only what was said to be unchanged is what its files have.
struct Recalled<'t, 's> {
    files: &'t dyn Evidence,
    tracer: &'t Tracer<'s>,
    unchanged: &'t [Range<u64>],
}

impl Recalled<'_, '_> {
    /// Whether there is a file with the code at `pc`. Without it nobody has looked: that is no doubt.
    fn has_code(&self, pc: CodeAddress) -> bool {
        let module = self.tracer.snapshot().space.module(pc.lookup());
        module.is_some_and(|(_, module)| module.image.is_some())
    }
}

impl Evidence for Recalled<'_, '_> {
    fn call(&self, return_address: u64, callee: CodeAddress) -> Witness {
        let is_known = self.has_code(CodeAddress::Return(return_address)) && self.has_code(callee);
        if is_known { self.files.call(return_address, callee) } else { Witness::Unknown }
    }

    fn call_to_nowhere(&self, regs: &Regs) -> Witness {
        self.files.call_to_nowhere(regs)
    }

    fn frame(&self, pc: CodeAddress) -> Proof {
        if self.has_code(pc) { self.files.frame(pc) } else { Proof::Unknown }
    }

    fn row(&self, pc: CodeAddress) -> RowEvidence {
        if self.has_code(pc) { self.files.row(pc) } else { RowEvidence::UNKNOWN }
    }

    fn text(&self, pc: CodeAddress) -> Proof {
        let page = pc.lookup() & !(PAGE - 1);
        let (start, end) = self.tracer.function(pc.lookup()).unwrap_or((page, page.saturating_add(PAGE)));
        let is_told = self.unchanged.iter().any(|range| range.start <= start && end <= range.end);
        if is_told { self.files.text(pc) } else { Proof::Unknown }
    }

    fn root(&self, root: Root, regs: &Regs) -> Proof {
        self.files.root(root, regs)
    }
}

/// A recorded trace as a walk would have left it.
pub(super) fn walked(analysis: &Analysis<'_>, thread: &Thread, trace: &Trace, unchanged: &[Range<u64>]) -> Walked {
    let target = analysis.tracer.target(thread.stop);
    let recalled = Recalled { files: target.evidence, tracer: &analysis.tracer, unchanged };
    let target = Target { evidence: &recalled, ..target };
    let (mut judge, mut fold, mut doubts) = (Judge::new(), Fold::default(), Doubts::default());
    for (number, frame) in trace.frames.iter().enumerate() {
        judge.see_noted(&target, &frame.noted);
        doubts.take(&mut judge);
        let RecordedFrame { noted, .. } = frame;
        fold.push((noted.pc.value(), look_of(noted.pc, noted.link)), bare(analysis, thread, number, frame));
    }
    // That the walk stopped is said at the end.
    let lasting = trace.doubts.iter().filter(|doubted| !matches!(doubted.doubt, Doubt::Stopped(_)));
    for doubted in lasting.take(RECALLED) {
        judge.recall(*doubted);
        doubts.take(&mut judge);
    }
    let depth = trace.frames.len();
    let (end, then) = trace.end.unwrap_or((End::Stopped(Error::BrokenOff { frames: depth }), Verdict::Unreliable));
    let now = judge.verdict(&target, Some(end));
    doubts.take(&mut judge);
    // A doubt that was had and is not in the record any more was one all the same.
    let verdict = if then == Verdict::Unreliable || trace.doubted > 0 { Verdict::Unreliable } else { now };
    let judged = Judged { end, verdict, doubts: doubts.all, believed: judge.believed(), depth, refusals: vec![] };
    Walked { frames: fold.finish(), judged }
}

/// Doubts as they come, each once.
#[derive(Default)]
struct Doubts {
    all: Vec<Doubted>,
    by_frame: HashMap<usize, Vec<Doubt>>,
}

impl Doubts {
    fn take(&mut self, judge: &mut Judge) {
        for doubted in judge.doubts() {
            let known = self.by_frame.entry(doubted.frame).or_default();
            if self.all.len() < MOST_DOUBTS && !known.contains(&doubted.doubt) {
                known.push(doubted.doubt);
                self.all.push(doubted);
            }
        }
        judge.forget();
    }
}

fn bare(analysis: &Analysis<'_>, thread: &Thread, number: usize, frame: &RecordedFrame) -> BareFrame {
    let RecordedFrame { noted, regs, signal } = frame;
    let keep = noted.link != Link::Call || analysis.options.registers == Registers::Every;
    let delivered = regs.as_deref().zip(*signal).map(|(regs, signal)| analysis.told(thread, regs, signal));
    BareFrame {
        number,
        pc: noted.pc,
        link: noted.link,
        found_by: noted.found_by,
        sp: noted.sp,
        callee_cfa: noted.callee_cfa,
        regs: regs.clone().filter(|_| keep),
        delivered,
    }
}
