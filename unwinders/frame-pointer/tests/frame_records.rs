//! Frame records, and interrupted code that has none yet.

use surestack_drawing::Stack;
use surestack_frame_pointer::{Entry, FramePointer};
use surestack_walk::{AARCH64, CodeAddress, End, Error, FoundBy, Register, Why, X86_64};

/// `call rel32`, five bytes that end where a return address points.
const CALL: [u8; 8] = [0x90, 0x90, 0x90, 0xe8, 1, 0, 0, 0];
const NO_CALL: [u8; 8] = [0x90; 8];

fn refusal(stack: &Stack) -> Why {
    let trace = stack.walk(&[&FramePointer]);
    assert_eq!(trace.pcs(), [0x40_1000]);
    trace.refusals[0].1
}

#[test]
fn frame_records_are_followed_to_the_last_one() {
    let stack = Stack::at(0x7000)
        .words(&[0x7020, 0x40_2000])
        .jump(0x7020)
        .words(&[0x7040, 0x40_3000])
        .bytes(0x40_1ff8, &CALL)
        .bytes(0x40_2ff8, &CALL);
    let trace = stack.walk(&[&FramePointer]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000, 0x40_3000]);
    assert_eq!(trace.frames[1].pc, CodeAddress::Return(0x40_2000));
    assert_eq!((trace.frames[1].callee_cfa, trace.frames[1].return_slot), (Some(0x7010), Some(0x7008)));
    assert_eq!(trace.frames[1].found_by, FoundBy::FramePointer);
    assert_eq!((trace.last(X86_64.sp), trace.last(X86_64.fp)), (Some(0x7030), Some(0x7040)));
}

#[test]
fn a_frame_record_does_not_say_what_the_callee_did_with_other_registers() {
    let rbx = Register::general(3).unwrap();
    let trace = Stack::at(0x7000).set(rbx, 9).words(&[0x7020, 0x40_2000]).walk(&[&FramePointer]);
    assert_eq!(trace.frames[0].regs.get(rbx), Some(9));
    assert_eq!(trace.frames[1].regs.get(rbx), None);
}

#[test]
fn a_misaligned_frame_pointer_is_no_record() {
    let stack = Stack::at(0x7000).words(&[0x7020, 0x40_2000, 0x40_2000]).fp(0x7004);
    assert_eq!(refusal(&stack), Why::NoFrameRecord);
}

#[test]
fn a_frame_pointer_below_the_stack_pointer_is_no_record() {
    let stack = Stack::at(0x7000).words(&[0x7020, 0x40_2000]).sp(0x7008);
    assert_eq!(refusal(&stack), Why::NoFrameRecord);
}

#[test]
fn a_frame_pointer_off_the_stack_is_no_record() {
    let stack = Stack::at(0x7000).fp(0x9000).jump(0x9000).words(&[0x9020, 0x40_2000]);
    assert_eq!(refusal(&stack), Why::NoFrameRecord);
}

#[test]
fn a_record_that_leaves_the_stack_by_a_word_is_no_record() {
    let stack = Stack::at(0x7ff8).words(&[0x8020, 0x40_2000]);
    assert_eq!(refusal(&stack), Why::NoFrameRecord);
}

#[test]
fn an_address_that_follows_no_call_is_no_return_address() {
    let stack = Stack::at(0x7000).words(&[0x7020, 0x40_2000]).bytes(0x40_1ff8, &NO_CALL);
    assert_eq!(refusal(&stack), Why::NotAfterCall);
    assert_eq!(refusal(&Stack::at(0x7000).words(&[0x7020, 0x7100])), Why::NotAfterCall, "an address of the stack");
}

#[test]
fn a_call_through_null_keeps_the_caller() {
    let stack = Stack::at(0x7000).pc(0).fp(0x7100).word(0x40_2000).bytes(0x40_1ff8, &CALL);
    let trace = stack.walk(&[&Entry]);
    assert_eq!(trace.pcs(), [0, 0x40_2000]);
    assert_eq!(trace.frames[1].found_by, FoundBy::CallAtSp);
    assert_eq!((trace.last(X86_64.sp), trace.last(X86_64.fp)), (Some(0x7008), Some(0x7100)));
}

#[test]
fn a_call_to_data_keeps_the_caller_and_a_word_that_is_no_return_address_does_not() {
    let call = |bytes: &[u8]| Stack::at(0x7000).pc(0x7800).word(0x40_2000).bytes(0x40_1ff8, bytes).walk(&[&Entry]);
    assert_eq!(call(&CALL).pcs(), [0x7800, 0x40_2000]);
    assert_eq!(call(&NO_CALL).end, End::Stopped(Error::UnknownCode { pc: 0x7800 }));
}

#[test]
fn a_call_through_null_on_aarch64_keeps_the_caller_in_the_link_register() {
    let x30 = Register::general(30).unwrap();
    let stack = Stack::of(&AARCH64, 0x7000).pc(0).set(x30, 0x40_2000).bytes(0x40_1ff8, &[0, 0, 0, 0, 0, 0, 0x3f, 0xd6]);
    let trace = stack.walk(&[&Entry]);
    assert_eq!(trace.pcs(), [0, 0x40_2000]);
    assert_eq!(trace.last(AARCH64.sp), Some(0x7000));
}

/// A thread at 0x40_1000 with `before` and `after` around its pc, and these words at its stack pointer.
fn interrupted(before: &[u8], after: &[u8], words: &[u64]) -> Stack {
    let pc = 0x40_1000;
    Stack::at(0x7000)
        .fp(0x7777)
        .words(words)
        .bytes(pc - 8, &[0x90; 16])
        .bytes(pc - before.len() as u64, before)
        .bytes(pc, after)
        .bytes(0x40_1ff8, &CALL)
}

#[test]
fn at_the_first_instruction_the_return_address_is_at_the_stack_pointer() {
    for after in [&[0x55, 0x48, 0x89, 0xe5][..], &[0xc3], &[0xf3, 0xc3], &[0xc2, 8, 0]] {
        let trace = interrupted(&[], after, &[0x40_2000]).walk(&[&Entry]);
        assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000], "{after:x?}");
        assert_eq!((trace.last(X86_64.sp), trace.last(X86_64.fp)), (Some(0x7008), Some(0x7777)));
    }
}

#[test]
fn in_a_stub_for_an_import_the_return_address_is_at_the_stack_pointer() {
    let (stub, marked) = ([0xff, 0x25, 1, 2, 3, 0], [0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25]);
    for after in [stub, marked] {
        let trace = interrupted(&[], &after, &[0x40_2000]).walk(&[&Entry]);
        assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000], "{after:x?}");
        assert_eq!(trace.frames[1].found_by, FoundBy::CallAtSp);
    }
    // The first stub of all jumps to the loader with two words pushed.
    let lazy = interrupted(&[], &stub, &[0x7100, 3, 0x40_2000]).walk(&[&Entry]);
    assert_eq!(lazy.refusals, [(0, Why::NotAfterCall)]);
}

#[test]
fn after_push_rbp_the_return_address_is_one_word_up_and_the_frame_pointer_is_on_the_stack() {
    for (before, after) in
        [(&[0x55][..], &[0x48, 0x89, 0xe5][..]), (&[0x55], &[0x48, 0x8b, 0xec]), (&[], &[0x5d, 0xc3])]
    {
        let trace = interrupted(before, after, &[0x7100, 0x40_2000]).walk(&[&Entry]);
        assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000], "{after:x?}");
        assert_eq!((trace.last(X86_64.sp), trace.last(X86_64.fp)), (Some(0x7010), Some(0x7100)));
        assert_eq!(trace.frames[1].regs.place(X86_64.fp), Some(0x7000));
    }
}

#[test]
fn code_in_the_middle_of_a_function_is_not_decided_by_its_bytes() {
    let trace = interrupted(&[], &[0x90, 0x90], &[0x40_2000]).walk(&[&Entry]);
    assert_eq!(trace.refusals, [(0, Why::Undecided)]);
}

#[test]
fn a_frame_that_made_a_call_is_never_taken_for_one_that_is_being_entered() {
    let trace = interrupted(&[], &[0xc3], &[0x40_2000]).returning_to(0x40_1000).walk(&[&Entry]);
    assert_eq!(trace.refusals, [(0, Why::NoPc)]);
}
