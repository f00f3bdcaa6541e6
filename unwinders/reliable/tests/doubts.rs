//! Each doubt on a trace with exactly that fault, and no doubt on the same shape without it.

use surestack_cfi::{Cfi, DwarfRows};
use surestack_drawing::Stack;
use surestack_drawing::cfi::{Fde, def_cfa, eh_frame, offset, undefined};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_probe::Probes;
use surestack_reliable::{Doubt, Doubted, Judge, Missing, Verdict};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{Error, FoundBy, ProbeKind, Proof, Register, Root, Unwinder, Walk, Witness, X86_64};

/// Judges a walk by every unwinder. Returns the verdict, the doubts and how many frames are believed.
fn judge(stack: &Stack) -> (Verdict, Vec<Doubted>, usize) {
    stack.with(|target| {
        let unwinders: [&dyn Unwinder; 6] = [&SignalFrame, &Cfi(DwarfRows), &Probes, &Markers, &Entry, &FramePointer];
        let mut walk = Walk::new(target, &unwinders, stack.regs(), 20);
        let mut judge = Judge::new();
        while let Some(frame) = walk.next() {
            judge.see(target, &frame);
        }
        let verdict = judge.verdict(target, walk.end());
        assert_eq!(judge.count(), judge.doubts().count());
        (verdict, judge.doubts().collect(), judge.believed())
    })
}

/// The one doubt of a trace.
fn doubt(stack: &Stack) -> (usize, Doubt) {
    let (verdict, doubts, believed) = judge(stack);
    assert_eq!(verdict, Verdict::Unreliable);
    let &[Doubted { frame, doubt }] = doubts.as_slice() else { panic!("{doubts:?}") };
    assert_eq!(believed, frame, "the frames before the doubt are believed");
    (frame, doubt)
}

/// Rows for a leaf at 0x40_1000, a function at 0x40_2000 and the outermost one at 0x40_3000.
fn rows() -> Vec<u8> {
    let rules: [&[u8]; 2] = [&def_cfa(7, 16), &offset(16, 1)];
    eh_frame(&[
        Fde::new(&rules),
        Fde::new(&rules).of(0x40_2000..0x40_2100),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_3000..0x40_3100),
    ])
}

/// Three frames by call frame information, all evidence in favour.
fn sound() -> Stack {
    Stack::at(0x7000).words(&[0, 0x40_2010, 0, 0x40_3010]).eh_frame(rows()).proven()
}

#[test]
fn a_trace_by_rows_to_a_proven_root_is_reliable() {
    assert_eq!(judge(&sound()), (Verdict::Reliable, vec![], 3));
}

#[test]
fn a_root_that_nobody_can_place_leaves_the_verdict_pending() {
    let (verdict, doubts, believed) = judge(&sound().evidence(Witness::Confirmed, Proof::Unknown));
    assert_eq!((verdict, doubts, believed), (Verdict::Pending(Missing::ROOT), vec![], 3));
}

#[test]
fn a_root_at_another_place_is_doubted() {
    let stack = sound().evidence(Witness::Confirmed, Proof::Refuted);
    assert_eq!(doubt(&stack), (2, Doubt::RootMisplaced(Root::UndefinedReturn)));
}

#[test]
fn a_walk_that_stopped_is_doubted_at_its_last_frame() {
    let stack = sound().jump(0x7018).words(&[0x40_4000]);
    assert_eq!(doubt(&stack), (2, Doubt::Stopped(Error::UnknownCode { pc: 0x40_4000 })));
}

#[test]
fn a_return_address_after_no_call_is_doubted() {
    let (verdict, doubts, believed) = judge(&sound().evidence(Witness::NotACall, Proof::Proven));
    let at = |frame, return_address| Doubted { frame, doubt: Doubt::NotAfterCall { return_address } };
    assert_eq!((verdict, believed), (Verdict::Unreliable, 1));
    assert_eq!(doubts, [at(1, 0x40_2010), at(2, 0x40_3010)]);
}

#[test]
fn a_call_that_goes_elsewhere_is_doubted() {
    let stack = sound().evidence(Witness::Refuted { target: 0x40_9000 }, Proof::Proven);
    let first = judge(&stack).1[0];
    let doubt = Doubt::OtherCallee { return_address: 0x40_2010, target: 0x40_9000 };
    assert_eq!(first, Doubted { frame: 1, doubt });
}

#[test]
fn interrupted_code_that_has_left_its_frame_is_doubted_and_callers_are_not() {
    let mut stack = sound();
    stack.frame = Proof::Refuted;
    let (verdict, doubts, believed) = judge(&stack);
    assert_eq!((verdict, believed), (Verdict::Unreliable, 1));
    assert_eq!(doubts.len(), 1, "only the innermost frame was interrupted");
    assert!(matches!(doubts[0], Doubted { frame: 1, doubt: Doubt::FrameMoved { .. } }));
}

#[test]
fn an_unknown_call_alone_is_no_doubt() {
    assert_eq!(judge(&sound().evidence(Witness::Unknown, Proof::Proven)).0, Verdict::Reliable);
}

#[test]
fn a_frame_found_by_a_frame_pointer_is_doubted() {
    // 0x40_1800 has no row; the frame record leads to the outermost function.
    let stack = sound().pc(0x40_1800).words(&[]).jump(0x7000).words(&[0, 0x40_3010]);
    assert_eq!(doubt(&stack), (1, Doubt::Unvouched(FoundBy::FramePointer)));
}

/// A trampoline at 0x40_7000 whose context is at 0x7010 interrupted `pc`; the leaf returned into it.
fn signalled(pc: u64, cs: u64) -> Stack {
    let layout = &X86_64.signal_frame.registers;
    Stack::at(0x7000)
        .words(&[0, 0x40_7000])
        .block(layout, &[(Register::PC, pc), (X86_64.sp, 0x7400), (X86_64.fp, 0x7500), (Register::CS, cs)])
        .jump(0x7400)
        .words(&[0, 0x40_3010])
        .jump(0x7500)
        .words(&[0, 0x40_3010])
        .bytes(0x40_7000, &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05])
        .eh_frame(rows())
        .proven()
}

#[test]
fn a_signal_frame_between_rows_is_reliable() {
    assert_eq!(judge(&signalled(0x40_2010, 0x33)), (Verdict::Reliable, vec![], 4));
}

#[test]
fn the_trampoline_is_returned_to_without_a_call_and_that_is_no_doubt() {
    let (_, doubts, _) = judge(&signalled(0x40_2010, 0x33).evidence(Witness::NotACall, Proof::Proven));
    let frames: Vec<usize> = doubts.iter().map(|doubted| doubted.frame).collect();
    assert_eq!(frames, [3], "the call to the interrupted function only");
}

#[test]
fn a_frame_pointer_followed_out_of_interrupted_code_is_doubted() {
    assert_eq!(doubt(&signalled(0x40_1800, 0x33)), (3, Doubt::FramePointerAcrossSignal));
}

#[test]
fn a_forged_signal_frame_stops_the_walk_and_is_doubted() {
    let error = Error::ForgedSignalFrame { address: 0x7010 };
    assert_eq!(doubt(&signalled(0x40_2010, 0x10)), (1, Doubt::Stopped(error)));
}

#[test]
fn a_call_through_null_keeps_the_trace_reliable() {
    let stack = sound().pc(0).jump(0x7000).words(&[0x40_2010, 0, 0x40_3010]);
    assert_eq!(judge(&stack), (Verdict::Reliable, vec![], 3));
}

#[test]
fn what_the_stack_pointer_leads_to_is_doubted_where_no_call_is_known_to_have_left_it() {
    let stack = sound().pc(0).jump(0x7000).words(&[0x40_2010, 0, 0x40_3010]).evidence(Witness::Unknown, Proof::Proven);
    assert_eq!(doubt(&stack), (1, Doubt::Unvouched(FoundBy::CallAtSp)));
}

#[test]
fn a_return_address_outside_code_stops_the_walk_and_is_doubted() {
    let error = Error::NotCode { address: 0x7100 };
    assert_eq!(doubt(&sound().jump(0x7008).words(&[0x7100])), (0, Doubt::Stopped(error)));
}

/// The leaf at `leaf`, its caller found by rows at `sp`, which its own saved stack pointer leads to.
fn on_stacks(from: u64) -> Stack {
    sound().sp(from).jump(from).words(&[0, 0x40_2010, 0, 0x40_3010])
}

#[test]
fn a_stack_pointer_on_no_stack_is_doubted_in_every_frame() {
    let (verdict, doubts, believed) = judge(&on_stacks(0x9000));
    assert_eq!((verdict, believed), (Verdict::Unreliable, 0));
    assert_eq!(doubts[0], Doubted { frame: 0, doubt: Doubt::OffStack { address: 0x9000 } });
}

#[test]
fn a_change_of_stacks_without_a_signal_is_doubted() {
    // The second frame's stack pointer, 0x8010, is on the stack above.
    let stack = on_stacks(0x7ff8).stack(0x8001..0x9000);
    let (verdict, doubts, _) = judge(&stack);
    assert_eq!(verdict, Verdict::Unreliable);
    assert_eq!(doubts, [Doubted { frame: 1, doubt: Doubt::StackSwitched { sp: 0x8008 } }]);
}

#[test]
fn a_return_to_a_stack_that_was_left_is_doubted() {
    let layout = &X86_64.signal_frame.registers;
    // From the handler's stack to the other one and, by a second signal frame there, back. Both contexts name the stack
    // they lie on as the alternate one.
    let context = |sp, pc| [(Register::PC, pc), (X86_64.sp, sp), (Register::CS, 0x33_u64)];
    let stack = signalled(0x40_7000, 0x33)
        .stack(0x2_0000..0x2_1000)
        .jump(0x7010)
        .block(layout, &context(0x2_0000, 0x40_7000))
        .jump(0x7020)
        .words(&[0x6000, 0, 0x2000])
        .jump(0x2_0000)
        .block(layout, &context(0x7400, 0x40_2010))
        .jump(0x2_0010)
        .words(&[0x2_0000, 0, 0x1000]);
    let (verdict, doubts, _) = judge(&stack);
    assert_eq!(verdict, Verdict::Unreliable);
    assert_eq!(doubts, [Doubted { frame: 3, doubt: Doubt::StackRevisited { sp: 0x7400 } }]);
}

const HIGH: u64 = 0x7f00_0000_0000;

/// The leaf's stack pointer at `sp`, its frame at the bottom of a stack that begins at [`HIGH`].
fn overflowed(sp: u64) -> Stack {
    let rules: [&[u8]; 2] = [&def_cfa(7, 16), &offset(16, 1)];
    let rows = eh_frame(&[
        Fde::new(&[&def_cfa(6, 16), &offset(16, 1)]),
        Fde::new(&rules).of(0x40_2000..0x40_2100),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_3000..0x40_3100),
    ]);
    let stack = Stack::at(HIGH).words(&[0, 0x40_2010, 0, 0x40_3010]).stack(HIGH..HIGH + 0x1000);
    stack.eh_frame(rows).proven().sp(sp)
}

#[test]
fn a_stack_pointer_right_below_its_stack_has_overflowed_it_and_is_believed() {
    assert_eq!(judge(&overflowed(HIGH - 0x10)), (Verdict::Reliable, vec![], 3));
}

#[test]
fn a_stack_pointer_on_no_stack_and_not_right_below_its_callers_is_doubted() {
    for sp in [HIGH - 0x20_0000, HIGH + 0x1010] {
        let (verdict, doubts, believed) = judge(&overflowed(sp));
        assert_eq!((verdict, believed), (Verdict::Unreliable, 0));
        assert_eq!(doubts[0], Doubted { frame: 0, doubt: Doubt::OffStack { address: sp } });
    }
}

#[test]
fn a_probed_return_is_doubted_where_it_is_and_nothing_before_it() {
    // The leaf returns into the kernel's page, whose caller nobody knows.
    let mut stack = sound().probes(0x60_0000, ProbeKind::Return).jump(0x7008).words(&[0x60_0000]);
    stack.unknown_text = Some(0x60_0000..0x60_1000);
    let (verdict, doubts, believed) = judge(&stack);
    assert_eq!((verdict, believed), (Verdict::Unreliable, 1));
    let stopped = Doubt::Stopped(Error::UnknownCode { pc: 0x60_0000 });
    assert_eq!(doubts, [Doubt::ReturnProbed { page: 0x60_0000 }, stopped].map(|doubt| Doubted { frame: 1, doubt }));
}

#[test]
fn a_probed_nop_keeps_the_trace_reliable() {
    let call = 0x60_0000_u32.wrapping_sub(0x40_2010).to_le_bytes();
    let stack =
        sound().probes(0x60_0000, ProbeKind::Nop).pc(0x60_0000).bytes(0x40_200b, &[0xe8]).bytes(0x40_200c, &call);
    let mut stack = stack.jump(0x7000).words(&[0x40_2010, 0, 0x40_3010]);
    stack.unknown_text = Some(0x60_0000..0x60_1000);
    assert_eq!(judge(&stack), (Verdict::Reliable, vec![], 3));
}
