//! A trace that was recorded without files, and judged again by somebody who has them.

use surestack_cfi::{Cfi, DwarfRows};
use surestack_drawing::Stack;
use surestack_drawing::cfi::{Fde, def_cfa, eh_frame, offset, undefined};
use surestack_reliable::{Doubt, Doubted, Judge, Missing, Noted, Verdict};
use surestack_walk::{End, Proof, RowEvidence, RowProof, Unwinder, Walk, Witness};

/// What a handler keeps of a trace.
struct Record {
    frames: Vec<Noted>,
    doubts: Vec<Doubted>,
    end: Option<End>,
    verdict: Verdict,
}

fn rows() -> Vec<u8> {
    let rules: [&[u8]; 2] = [&def_cfa(7, 16), &offset(16, 1)];
    eh_frame(&[
        Fde::new(&rules),
        Fde::new(&rules).of(0x40_2000..0x40_2100),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_3000..0x40_3100),
    ])
}

/// Two calls, and no evidence at hand.
fn recorded(sp: u64) -> Record {
    let stack = Stack::at(sp).words(&[0, 0x40_2010, 0, 0x40_3010]).eh_frame(rows());
    stack.with(|target| {
        let unwinders: [&dyn Unwinder; 1] = [&Cfi(DwarfRows)];
        let mut walk = Walk::new(target, &unwinders, stack.regs(), 20);
        let (mut judge, mut frames) = (Judge::new(), vec![]);
        while let Some(frame) = walk.next() {
            let noted = Noted::of(target, &frame);
            judge.see_noted(target, &noted);
            frames.push(noted);
        }
        let verdict = judge.verdict(target, walk.end());
        Record { frames, doubts: judge.doubts().collect(), end: walk.end(), verdict }
    })
}

/// Judges a record where nothing of the thread's memory is left.
fn later(record: &Record, evidence: &Stack) -> (Verdict, Vec<Doubted>) {
    evidence.with(|target| {
        let mut judge = Judge::new();
        record.frames.iter().for_each(|noted| judge.see_noted(target, noted));
        record.doubts.iter().for_each(|doubted| judge.recall(*doubted));
        (judge.verdict(target, record.end), judge.doubts().collect())
    })
}

/// The files, and a memory in which there is nothing.
fn files() -> Stack {
    Stack::at(0x1000).proven()
}

#[test]
fn a_pending_record_becomes_reliable_when_the_evidence_is_there() {
    let record = recorded(0x7000);
    let missing = Missing::ROOT.and(Missing::ROW).and(Missing::TEXT);
    assert_eq!(record.verdict, Verdict::Pending(missing));
    assert_eq!(later(&record, &files()), (Verdict::Reliable, vec![]));
}

#[test]
fn a_pending_record_becomes_unreliable_when_the_evidence_speaks_against_it() {
    let record = recorded(0x7000);
    let refuted = files().evidence(Witness::Refuted { target: 0x40_9000 }, Proof::Proven);
    assert_eq!(later(&record, &refuted).0, Verdict::Unreliable);
    let mut contradicted = files();
    contradicted.row = RowEvidence { frame: RowProof::Contradicted, ..contradicted.row };
    assert_eq!(later(&record, &contradicted).0, Verdict::Unreliable);
}

#[test]
fn a_row_that_only_the_stack_could_confirm_is_left_pending_later_and_doubted_without_a_known_call() {
    let record = recorded(0x7000);
    let mut assumed = files();
    assumed.row = RowEvidence { frame: RowProof::Assumed, ..assumed.row };
    let confirmed = assumed.clone().evidence(Witness::Confirmed, Proof::Proven);
    assert_eq!(later(&record, &confirmed), (Verdict::Pending(Missing::STACK), vec![]));
    let unknown = later(&record, &assumed.evidence(Witness::Unknown, Proof::Proven));
    let undecided = |frame, pc| Doubted { frame, doubt: Doubt::RowUndecided { pc } };
    assert_eq!(unknown, (Verdict::Unreliable, vec![undecided(1, 0x40_1000), undecided(2, 0x40_2010)]));
}

#[test]
fn what_was_doubted_at_the_time_stays_doubted_and_is_said_once() {
    // The frames lie on no stack, which only the thread's own memory map could tell.
    let record = recorded(0x9000);
    let off_stack = |doubted: &Doubted| matches!(doubted.doubt, Doubt::OffStack { .. });
    let doubts = record.doubts.iter().filter(|doubted| off_stack(doubted)).count();
    assert_eq!(doubts, 3);
    let (verdict, again) = later(&record, &files());
    assert_eq!(verdict, Verdict::Unreliable);
    assert_eq!(again.iter().filter(|doubted| off_stack(doubted)).count(), 3);
}
