//! What the instructions say about rows, and what the judge makes of it.

use surestack_cfi::{Cfi, DwarfRows};
use surestack_drawing::Stack;
use surestack_drawing::cfi::{Fde, def_cfa, eh_frame, offset, undefined};
use surestack_reliable::{Doubt, Doubted, Judge, Missing, Verdict};
use surestack_walk::{Proof, RegisterSet, RowEvidence, RowProof, Unwinder, Walk, Witness, X86_64};

const LEAF: u64 = 0x40_1000;
const CALLER: u64 = 0x40_2010;

fn judge(stack: &Stack) -> (Verdict, Vec<Doubted>) {
    stack.with(|target| {
        let unwinders: [&dyn Unwinder; 1] = [&Cfi(DwarfRows)];
        let mut walk = Walk::new(target, &unwinders, stack.regs(), 20);
        let mut judge = Judge::new();
        while let Some(frame) = walk.next() {
            judge.see(target, &frame);
        }
        (judge.verdict(target, walk.end()), judge.doubts().collect())
    })
}

/// A leaf, a caller whose frame hangs on rbp, and the outermost function.
///
/// ```text
///   0x7000  saved rbp of the leaf     0x7100
///   0x7008  return into the caller
///   0x7100  saved rbp of the caller
///   0x7108  return into the outermost function
/// ```
fn sound() -> Stack {
    let leaf: [&[u8]; 3] = [&def_cfa(7, 16), &offset(16, 1), &offset(6, 2)];
    let caller: [&[u8]; 3] = [&def_cfa(6, 16), &offset(16, 1), &offset(6, 2)];
    let rows = eh_frame(&[
        Fde::new(&leaf),
        Fde::new(&caller).of(0x40_2000..0x40_2100),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_3000..0x40_3100),
    ]);
    let stack = Stack::at(0x7000).words(&[0x7100, CALLER]).words(&[0; 30]);
    stack.words(&[0x7200, 0x40_3010]).eh_frame(rows).proven()
}

fn graded(frame: RowProof) -> RowEvidence {
    RowEvidence { frame, ..sound().row }
}

fn rbp() -> RegisterSet {
    RegisterSet::EMPTY.with(X86_64.fp)
}

/// The stack with this evidence for the leaf's row, and for the caller's that rbp is read.
fn with(leaf: RowEvidence) -> Stack {
    let mut stack = sound();
    stack.rows.insert(LEAF, leaf);
    stack.rows.insert(CALLER, RowEvidence { reads: rbp(), ..stack.row });
    stack
}

#[test]
fn rows_that_are_proven_are_believed_even_where_no_call_is_known() {
    let stack = sound();
    assert_eq!(judge(&stack), (Verdict::Reliable, vec![]));
    assert_eq!(judge(&stack.evidence(Witness::Unknown, Proof::Proven)), (Verdict::Reliable, vec![]));
}

#[test]
fn a_contradicted_row_is_doubted_even_where_the_call_is_confirmed() {
    let doubts = vec![Doubted { frame: 1, doubt: Doubt::RowContradicted { pc: LEAF } }];
    assert_eq!(judge(&with(graded(RowProof::Contradicted))), (Verdict::Unreliable, doubts));
}

#[test]
fn an_undecided_row_is_believed_with_a_confirmed_call_and_doubted_without() {
    for grade in [RowProof::Undecided, RowProof::Assumed] {
        let stack = with(graded(grade));
        assert_eq!(judge(&stack), (Verdict::Reliable, vec![]));
        let doubts = vec![Doubted { frame: 1, doubt: Doubt::RowUndecided { pc: LEAF } }];
        assert_eq!(judge(&stack.evidence(Witness::Unknown, Proof::Proven)), (Verdict::Unreliable, doubts));
    }
}

#[test]
fn a_row_that_nobody_looked_at_leaves_the_verdict_pending() {
    assert_eq!(judge(&with(RowEvidence::UNKNOWN)), (Verdict::Pending(Missing::ROW), vec![]));
}

#[test]
fn a_register_that_an_outer_row_needs_must_be_proven_or_its_call_confirmed() {
    let unproven = RowEvidence { saved: RegisterSet::EMPTY, ..graded(RowProof::Proven) };
    let stack = with(unproven);
    assert_eq!(judge(&stack), (Verdict::Reliable, vec![]), "the call vouches for it");
    let doubts = vec![Doubted { frame: 2, doubt: Doubt::RegisterUnproven { pc: CALLER, register: X86_64.fp } }];
    assert_eq!(judge(&stack.evidence(Witness::Unknown, Proof::Proven)), (Verdict::Unreliable, doubts));
}

#[test]
fn a_confirmed_call_vouches_for_nothing_where_another_return_address_lies_before_it() {
    // The caller calls itself: the word at 0x7020 looks like the return address as well, and may be it.
    let recursive = |stack: Stack| stack.jump(0x7020).words(&[CALLER]);
    let unproven = RowEvidence { saved: RegisterSet::EMPTY, ..graded(RowProof::Proven) };
    let doubts = vec![Doubted { frame: 2, doubt: Doubt::RegisterUnproven { pc: CALLER, register: X86_64.fp } }];
    assert_eq!(judge(&recursive(with(unproven))), (Verdict::Unreliable, doubts));
    let mut stack = recursive(sound());
    stack.rows.insert(CALLER, graded(RowProof::Undecided));
    let doubts = vec![Doubted { frame: 2, doubt: Doubt::RowUndecided { pc: CALLER } }];
    assert_eq!(judge(&stack), (Verdict::Unreliable, doubts));
    assert_eq!(judge(&recursive(sound())), (Verdict::Reliable, vec![]), "a proven row needs no call");
    let mut stack = recursive(sound());
    stack.rows.insert(CALLER, graded(RowProof::Overwritten));
    assert_eq!(judge(&stack), (Verdict::Reliable, vec![]), "it leads to the right place");
}

#[test]
fn a_register_that_no_outer_row_needs_may_be_anything() {
    let mut stack = with(RowEvidence { saved: RegisterSet::EMPTY, wrong: rbp(), ..graded(RowProof::Proven) });
    stack.rows.remove(&CALLER);
    assert_eq!(judge(&stack.evidence(Witness::Unknown, Proof::Proven)), (Verdict::Reliable, vec![]));
}

#[test]
fn a_register_shown_to_be_wrong_is_doubted_even_where_the_call_is_confirmed() {
    let wrong = RowEvidence { saved: RegisterSet::EMPTY, wrong: rbp(), ..graded(RowProof::Proven) };
    let doubts = vec![Doubted { frame: 2, doubt: Doubt::RegisterUnproven { pc: CALLER, register: X86_64.fp } }];
    assert_eq!(judge(&with(wrong)), (Verdict::Unreliable, doubts));
}

#[test]
fn a_register_that_is_kept_is_as_good_as_it_was_before() {
    // rbp of the leaf's caller, which keeps it, leads from the third frame to the fourth.
    let [leaf, keeper, reader]: [&[&[u8]]; 3] = [
        &[&def_cfa(7, 16), &offset(16, 1), &offset(6, 2)],
        &[&def_cfa(7, 16), &offset(16, 1)],
        &[&def_cfa(6, 16), &offset(16, 1)],
    ];
    let rows = eh_frame(&[
        Fde::new(leaf),
        Fde::new(keeper).of(0x40_2000..0x40_2100),
        Fde::new(reader).of(0x40_3000..0x40_3100),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_4000..0x40_4100),
    ]);
    let stack = Stack::at(0x7000).words(&[0x7100, CALLER, 0, 0x40_3010]).jump(0x7108).words(&[0x40_4010]);
    let mut stack = stack.eh_frame(rows).proven().evidence(Witness::Unknown, Proof::Proven);
    stack.rows.insert(0x40_3010, RowEvidence { reads: rbp(), ..stack.row });
    let none = RowEvidence { saved: RegisterSet::EMPTY, ..stack.row };
    let doubts = vec![Doubted { frame: 3, doubt: Doubt::RegisterUnproven { pc: 0x40_3010, register: X86_64.fp } }];

    stack.rows.insert(CALLER, RowEvidence { kept: rbp(), ..none });
    assert_eq!(judge(&stack), (Verdict::Reliable, vec![]), "proven, then kept");
    stack.rows.insert(LEAF, none);
    assert_eq!(judge(&stack), (Verdict::Unreliable, doubts.clone()), "unproven, then kept");
    stack.rows.insert(LEAF, RowEvidence { wrong: rbp(), ..none });
    let stack = stack.evidence(Witness::Confirmed, Proof::Proven);
    assert_eq!(judge(&stack), (Verdict::Unreliable, doubts), "wrong, then kept");
}

#[test]
fn code_that_differs_from_its_file_is_doubted_in_every_frame_that_runs_it() {
    let mut stack = sound();
    stack.text = Proof::Refuted;
    let (verdict, doubts) = judge(&stack);
    let modified = |frame, pc| Doubted { frame, doubt: Doubt::TextModified { pc } };
    assert_eq!(verdict, Verdict::Unreliable);
    assert_eq!(doubts, [modified(0, LEAF), modified(1, CALLER), modified(2, 0x40_3010)]);
}

#[test]
fn code_whose_file_nobody_has_leaves_the_verdict_pending() {
    let mut stack = sound();
    stack.text = Proof::Unknown;
    assert_eq!(judge(&stack), (Verdict::Pending(Missing::TEXT), vec![]));
}

#[test]
fn code_in_no_file_is_doubted_unless_somebody_vouches_for_it() {
    let jitted = || {
        let mut stack = sound().pc(0x50_1000).code(0x50_0000..0x51_0000);
        stack.text = Proof::Unknown;
        stack
    };
    let first = |stack: Stack| judge(&stack).1.first().copied();
    assert_eq!(first(jitted()), Some(Doubted { frame: 0, doubt: Doubt::UnknownCode { pc: 0x50_1000 } }));
    let vouched = first(jitted().generated_in(0x50_0000..0x51_0000));
    assert!(!matches!(vouched, Some(Doubted { doubt: Doubt::UnknownCode { .. }, .. })), "{vouched:?}");
}

#[test]
fn modules_that_change_during_the_walk_are_doubted_at_its_end() {
    let stack = sound();
    let (before, mut after) = (stack.clone(), stack.clone());
    after.generation = Some(1);
    let mut changing = stack.clone();
    changing.generation = None;
    let doubts = |begins: &Stack, ends: &Stack| {
        let mut judge = Judge::new();
        begins.with(|target| {
            let unwinders: [&dyn Unwinder; 1] = [&Cfi(DwarfRows)];
            let mut walk = Walk::new(target, &unwinders, stack.regs(), 20);
            while let Some(frame) = walk.next() {
                judge.see(target, &frame);
            }
            ends.with(|target| judge.verdict(target, walk.end()));
        });
        judge.doubts().collect::<Vec<_>>()
    };
    assert_eq!(doubts(&before, &before), []);
    assert_eq!(doubts(&before, &after), [Doubted { frame: 2, doubt: Doubt::ModulesChanged }]);
    assert_eq!(doubts(&changing, &changing), [Doubted { frame: 2, doubt: Doubt::ModulesChanged }]);
}
