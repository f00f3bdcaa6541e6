//! Signal frames as the kernel writes them, and each way in which a forged one differs.

use surestack_cfi::{Cfi, DwarfRows};
use surestack_drawing::Stack;
use surestack_drawing::cfi::{Fde, def_cfa, eh_frame, offset, undefined};
use surestack_reliable::{ContextFault, Doubt, Doubted, Judge, Verdict};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{Register, Unwinder, Walk, X86_64};

const UCONTEXT: u64 = 0x7000;
/// `uc_stack`, and the pointer to the vector registers.
const UC_STACK: u64 = UCONTEXT + 16;
const POINTER: u64 = UCONTEXT + 224;
/// The vector registers, their two signs, and their size with both.
const BLOCK: u64 = 0x7200;
const SIGN: u64 = BLOCK + 464;
const WHOLE: u64 = 0x400;
const END: u64 = BLOCK + WHOLE - 4;

fn judge(stack: &Stack) -> (Verdict, Vec<Doubted>) {
    stack.with(|target| {
        let unwinders: [&dyn Unwinder; 2] = [&SignalFrame, &Cfi(DwarfRows)];
        let mut walk = Walk::new(target, &unwinders, stack.regs(), 20);
        let mut judge = Judge::new();
        while let Some(frame) = walk.next() {
            judge.see(target, &frame);
        }
        (judge.verdict(target, walk.end()), judge.doubts().collect())
    })
}

/// In a trampoline that returns to the leaf at `sp`, which the outermost function called.
fn interrupted(sp: u64) -> Stack {
    let rows = eh_frame(&[
        Fde::new(&[&def_cfa(7, 16), &offset(16, 1)]),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_3000..0x40_3100),
    ]);
    let saved = [(Register::PC, 0x40_1000), (X86_64.sp, sp), (Register::CS, 0x33_u64)];
    Stack::at(UCONTEXT)
        .pc(0x40_7000)
        .bytes(0x40_7000, &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05])
        .block(&X86_64.signal_frame.registers, &saved)
        .bytes(POINTER, &BLOCK.to_le_bytes())
        .bytes(BLOCK, &[0; WHOLE as usize])
        .bytes(SIGN, &0x4650_5853_u32.to_le_bytes())
        .bytes(SIGN + 4, &(WHOLE as u32).to_le_bytes())
        .bytes(END, &0x4650_5845_u32.to_le_bytes())
        .jump(sp)
        .words(&[0, 0x40_3010])
        .eh_frame(rows)
        .proven()
}

fn forged(fault: ContextFault) -> (Verdict, Vec<Doubted>) {
    let doubt = Doubt::ForgedSignalFrame { ucontext: UCONTEXT, fault };
    (Verdict::Unreliable, vec![Doubted { frame: 1, doubt }])
}

#[test]
fn a_signal_frame_as_the_kernel_writes_it_is_believed() {
    assert_eq!(judge(&interrupted(0x7800)), (Verdict::Reliable, vec![]));
}

#[test]
fn a_processor_without_more_vector_registers_signs_nothing() {
    assert_eq!(judge(&interrupted(0x7800).bytes(SIGN, &[0; 8])).0, Verdict::Reliable);
    assert_eq!(judge(&interrupted(0x7800).bytes(POINTER, &[0; 8])).0, Verdict::Reliable);
}

#[test]
fn vector_registers_without_their_closing_sign_are_doubted() {
    assert_eq!(judge(&interrupted(0x7800).bytes(END, &[0; 4])), forged(ContextFault::Extended));
}

#[test]
fn vector_registers_elsewhere_than_above_the_context_are_doubted() {
    for place in [0x6f00_u64, 0x7f00, 0x9000, BLOCK + 8] {
        let stack = interrupted(0x7800).bytes(POINTER, &place.to_le_bytes());
        assert_eq!(judge(&stack), forged(ContextFault::Extended), "{place:#x}");
    }
}

#[test]
fn a_context_that_reaches_over_the_end_of_its_stack_is_doubted() {
    let stack = interrupted(0x2_0100).ending_at(UCONTEXT + 0x80).stack(0x2_0000..0x2_1000);
    assert_eq!(judge(&stack), forged(ContextFault::OffStack));
}

/// A leaf that has overflowed the stack from 0x20000 on, with its return address there, and whose handler runs elsewhere.
fn overflowed(sp: u64) -> Stack {
    let rows = eh_frame(&[
        Fde::new(&[&def_cfa(6, 16), &offset(16, 1), &offset(6, 2)]),
        Fde::new(&[&def_cfa(7, 16), &undefined(16)]).of(0x40_3000..0x40_3100),
    ]);
    let saved = [(Register::PC, 0x40_1000), (X86_64.sp, sp), (X86_64.fp, 0x2_0020), (Register::CS, 0x33_u64)];
    let stack = interrupted(0x2_0100).jump(UCONTEXT).block(&X86_64.signal_frame.registers, &saved).eh_frame(rows);
    let stack = stack.jump(0x2_0020).words(&[0, 0x40_3010]).stack(0x2_0000..0x2_1000);
    stack.jump(UC_STACK).words(&[0x6800, 0, 0x1800])
}

#[test]
fn an_overflow_that_a_handler_on_the_alternate_stack_saw_is_believed() {
    assert_eq!(judge(&overflowed(0x2_0010)), (Verdict::Reliable, vec![]), "on its stack");
    assert_eq!(judge(&overflowed(0x1_fff0)), (Verdict::Reliable, vec![]), "right below");
}

#[test]
fn an_interrupted_stack_pointer_on_no_stack_and_not_right_below_its_callers_is_doubted() {
    let sp = 0x1_0000_0000;
    let doubts = judge(&overflowed(sp));
    assert_eq!(doubts, (Verdict::Unreliable, vec![Doubted { frame: 1, doubt: Doubt::OffStack { address: sp } }]));
}

#[test]
fn leaving_a_stack_for_another_is_believed_of_the_alternate_stack_alone() {
    let stack = || interrupted(0x2_0100).stack(0x2_0000..0x2_1000).jump(UC_STACK);
    assert_eq!(judge(&stack().words(&[0x6800, 0, 0x1800])), (Verdict::Reliable, vec![]));
    assert_eq!(
        judge(&stack().words(&[0x6000, 0, 0x800])),
        forged(ContextFault::OtherStack),
        "it ends before the frame"
    );
    assert_eq!(judge(&stack().words(&[0x6800, 2, 0x1800])), forged(ContextFault::OtherStack), "disabled");
}
