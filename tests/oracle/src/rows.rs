//! Is what is proven of unwind rows so when they are executed?
//!
//! At the first visit of each instruction the row that covers it is followed, one step, and compared with what the shadow
//! knows of the frame: where its return address lies, and what the registers held that it must hand back. A row that is
//! called proven must be right, one that is called contradicted must be wrong; where nothing is claimed it is only counted.
//! The row that is proven in place of a contradicted one must be right as well.

pub mod table;

use crate::contender::ours::Surestack;
use crate::error::{Error, Result};
use crate::measure::Plan;
use crate::session::{Called, Event, Session};
use crate::symbols::Symbols;
use crate::targets::Target;
use std::collections::BTreeMap;
use surestack::snapshot::Thread;
use surestack::trace::Tracer;
use surestack::walk::{CodeAddress, FoundBy, Regs, RowEvidence, RowProof, Step, Unwinder, X86_64};
use surestack_cfi::{Cfi, DwarfRows};

/// rbx, rbp, r12 to r15.
const SAVED: usize = 6;
const NAMES: [&str; SAVED] = ["rbx", "rbp", "r12", "r13", "r14", "r15"];

/// What was seen, by what had been said.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Instructions without a row, or whose frame the shadow does not know.
    pub skipped: u64,
    /// The frame (its address and return address), by what is said of it.
    pub frames: BTreeMap<&'static str, Seen>,
    /// Steps by rows that are proven in place of contradicted ones, with all registers that they find.
    pub corrected: Seen,
    /// Registers of which it is proven that they are as the row says.
    pub proven: Seen,
    /// Registers on the row's word alone.
    pub unproven: Seen,
    /// By function and what was wrong there, how often and the first time.
    pub places: BTreeMap<(String, String), (u64, String)>,
}

/// Whether what the row says was so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It was.
    pub right: u64,
    /// It was not.
    pub wrong: u64,
}

impl Seen {
    fn note(&mut self, right: bool) {
        self.right += u64::from(right);
        self.wrong += u64::from(!right);
    }
}

impl Counts {
    /// How many instructions were looked at.
    pub fn asked(&self) -> u64 {
        self.frames.values().map(|seen| seen.right + seen.wrong).sum()
    }

    /// Proofs that execution refutes: proven and wrong, or contradicted and right.
    pub fn refuted(&self) -> u64 {
        let of = |proof: RowProof| self.frames.get(word(proof)).copied().unwrap_or_default();
        of(RowProof::Proven).wrong + of(RowProof::Contradicted).right + self.proven.wrong + self.corrected.wrong
    }
}

/// What a row proof is called in the tables.
pub fn word(proof: RowProof) -> &'static str {
    match proof {
        RowProof::Proven => "proven",
        RowProof::Assumed | RowProof::Overwritten => "assumed",
        RowProof::Contradicted => "contradicted",
        RowProof::Undecided => "undecided",
        RowProof::Unknown => "unknown",
    }
}

/// Steps one target and looks at each instruction's row when it is first executed, and at every uniform sample.
pub fn measure(target: &Target, plan: &Plan) -> Result<Counts> {
    let mut session = Session::start(&mut target.command()?, plan.begin)?;
    let (mut ours, mut symbols, mut counts) = (Surestack::default(), Symbols::default(), Counts::default());
    while let Event::Stopped { first_visit, .. } = session.step()? {
        let step = session.counts().steps;
        if let Some((signal, every)) = plan.inject
            && step % every == 0
        {
            session.inject(signal)?;
        }
        if first_visit || step % plan.every == 0 {
            let Some(called) = session.called() else {
                counts.skipped += 1;
                continue;
            };
            let stop = session.stop()?;
            let followed = ours.look(&stop, |tracer, thread| {
                let target = tracer.target(thread.stop);
                let mut caller = Regs::new();
                let step = Cfi(DwarfRows).step(&target, &thread.regs, &mut caller);
                let evidence = target.evidence.row(CodeAddress::Exact(stop.registers.rip));
                let corrected = (evidence.frame == RowProof::Contradicted).then(|| corrected(tracer, thread)).flatten();
                (step, caller, evidence, corrected)
            });
            let (result, caller, evidence, corrected) = followed.map_err(|e| Error::new(e.to_string()))?;
            if let Some((cfa, regs)) = &corrected {
                counts.corrected.note(is_caller(called, *cfa, regs));
            }
            let Ok(Step::Caller { cfa, .. }) = result else {
                counts.skipped += 1;
                continue;
            };
            for wrong in counts.compare(called, cfa, &caller, &evidence) {
                let place = symbols.place(stop.modules, stop.registers.rip);
                let example = format!("{} step {step} pc {place}: {called:x?}, the row's cfa {cfa:#x}", target.name);
                let seen = counts.places.entry((place.in_function(), wrong)).or_insert((0, example));
                seen.0 += 1;
            }
        }
        if step >= plan.max_steps {
            break;
        }
    }
    Ok(counts)
}

/// The first step of the walk, where a contradicted row was put right.
fn corrected(tracer: &Tracer<'_>, thread: &Thread) -> Option<(u64, Regs)> {
    let mut found = None;
    tracer.walk(&thread.regs, thread.stop, |frame| {
        if frame.index == 1 && frame.found_by == FoundBy::Corrected {
            found = frame.callee_cfa.map(|cfa| (cfa, *frame.regs));
        }
    });
    found
}

/// Whether these are the registers of the caller, as far as they are known.
fn is_caller(called: Called, cfa: u64, caller: &Regs) -> bool {
    let known =
        X86_64.callee_saved.iter().zip(called.saved).filter_map(|(register, was)| Some((caller.get(*register)?, was)));
    is_frame(called, cfa, caller) && known.into_iter().all(|(found, was)| found == was)
}

fn is_frame(called: Called, cfa: u64, caller: &Regs) -> bool {
    cfa == called.slot.wrapping_add(8) && caller.pc().map(CodeAddress::value) == Some(called.address)
}

impl Counts {
    /// Counts one instruction; says what was not as it should be.
    fn compare(&mut self, called: Called, cfa: u64, caller: &Regs, evidence: &RowEvidence) -> Vec<String> {
        let mut wrong = Vec::new();
        let right = is_frame(called, cfa, caller);
        self.frames.entry(word(evidence.frame)).or_default().note(right);
        if right == (evidence.frame == RowProof::Contradicted) {
            let was = if right { "right" } else { "wrong" };
            wrong.push(format!("its frame is {} and was {was}", word(evidence.frame)));
        }
        if evidence.frame == RowProof::Contradicted {
            return wrong;
        }
        let proven = evidence.saved.and(evidence.kept);
        for (i, &register) in X86_64.callee_saved.iter().take(SAVED).enumerate() {
            let claimed = proven.contains(register);
            let said = caller.get(register);
            let right = said.is_some() && said == called.saved.get(i).copied();
            if claimed {
                self.proven.note(right);
            } else if said.is_some() {
                self.unproven.note(right);
            }
            if !right && (claimed || said.is_some()) {
                let claim = if claimed { "proven" } else { "unproven" };
                wrong.push(format!("{} is {claim} and was wrong", NAMES.get(i).unwrap_or(&"?")));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surestack::walk::RegisterSet;

    const CALLED: Called = Called { slot: 0x1000, address: 0x40, saved: [1, 2, 3, 4, 5, 6] };

    fn caller(rbx: u64) -> Regs {
        let mut regs = Regs::new();
        regs.set_pc(CodeAddress::Return(0x40));
        regs.set(X86_64.callee_saved[0], rbx);
        regs
    }

    fn evidence(frame: RowProof) -> RowEvidence {
        let kept = RegisterSet::EMPTY.with(X86_64.callee_saved[0]);
        RowEvidence { frame, kept, ..RowEvidence::UNKNOWN }
    }

    #[test]
    fn a_proven_row_that_is_wrong_and_a_contradicted_one_that_is_right_are_refuted() {
        let refuted = |frame, cfa, rbx| {
            let mut counts = Counts::default();
            counts.compare(CALLED, cfa, &caller(rbx), &evidence(frame));
            counts.refuted()
        };
        assert_eq!(refuted(RowProof::Proven, 0x1008, 1), 0);
        assert_eq!(refuted(RowProof::Proven, 0x1010, 1), 1);
        assert_eq!(refuted(RowProof::Proven, 0x1008, 9), 1);
        assert_eq!(refuted(RowProof::Contradicted, 0x1010, 1), 0);
        assert_eq!(refuted(RowProof::Contradicted, 0x1008, 1), 1);
        assert_eq!(refuted(RowProof::Undecided, 0x1010, 1), 0);
    }
}
