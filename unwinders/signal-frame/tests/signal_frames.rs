//! Signal frames known by their trampoline's bytes: every register comes back, and forgeries are refused.

use surestack_drawing::Stack;
use surestack_signal_frame::{SavedContext, Signal, SignalFrame};
use surestack_walk::{
    AARCH64, CodeAddress, End, Error, FoundBy, Layout, Link, Register, Root, SignalSign, Step, Why, X86_64,
};

const PC: Register = Register::PC;
const CS: Register = Register::CS;
const SS: Register = Register::SS;
const SP: Register = X86_64.sp;
const LONG: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
const SHORT: &[u8] = &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05];
const ARM: &[u8] = &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
const CONTEXT: &Layout = &X86_64.signal_frame.registers;

/// A thread that has returned into a trampoline at 0x40_1000, the `ucontext_t` at its stack pointer.
fn trampoline(code: &[u8], values: &[(Register, u64)]) -> Stack {
    Stack::at(0x7000).returning_to(0x40_1000).bytes(0x40_1000, code).block(CONTEXT, values)
}

#[test]
fn every_register_of_the_interrupted_code_is_recovered() {
    let values: Vec<(Register, u64)> = CONTEXT
        .fields
        .iter()
        .zip(0x100..)
        .map(|(&(register, ..), value)| match register {
            CS => (CS, 0x33),
            SS => (SS, 0x2b),
            register => (register, value),
        })
        .collect();
    for code in [LONG, SHORT] {
        let trace = trampoline(code, &values).walk(&[&SignalFrame]);
        let frame = trace.frames[1];
        assert_eq!((frame.link, frame.found_by), (Link::Signal, FoundBy::SignalFrame(SignalSign::Bytes)));
        assert!(frame.pc.is_exact());
        for &(register, value) in &values {
            assert_eq!(frame.regs.get(register), Some(value), "{register}");
        }
        assert_eq!(frame.regs.place(PC), Some(0x7000 + 168));
    }
}

#[test]
fn a_trampoline_interrupted_at_its_system_call_is_recognised_and_in_the_middle_is_not() {
    let at = |offset: u64| {
        trampoline(LONG, &[(PC, 0x40_2000), (CS, 0x33)]).pc(0x40_1000 + offset).walk(&[&SignalFrame]).pcs().len()
    };
    assert_eq!((at(0), at(7), at(3)), (2, 2, 1));
}

#[test]
fn aarch64_finds_its_context_above_the_siginfo() {
    let layout = &AARCH64.signal_frame;
    let x = |number| Register::general(number).unwrap();
    let stack = Stack::of(&AARCH64, 0x7000)
        .returning_to(0x40_1000)
        .bytes(0x40_1000, ARM)
        .jump(0x7000 + u64::from(layout.ucontext))
        .block(&layout.registers, &[(PC, 0x40_2000), (AARCH64.sp, 0x7800), (x(0), 1), (x(30), 30)]);
    let trace = stack.walk(&[&SignalFrame]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    assert_eq!([x(0), x(30), AARCH64.sp].map(|register| trace.last(register)), [Some(1), Some(30), Some(0x7800)]);
}

/// The handler runs on an alternate stack; what it interrupted on the main one is again a trampoline, whose handler was
/// interrupted, and so back to the program.
#[test]
fn nested_signals_are_walked_from_an_alternate_stack_and_back() {
    let stack = Stack::at(0x7000)
        .stack(0x2_0000..0x2_4000)
        .sp(0x2_1000)
        .returning_to(0x40_1000)
        .bytes(0x40_1000, LONG)
        .jump(0x2_1000)
        .block(CONTEXT, &[(PC, 0x40_1000), (SP, 0x7000), (CS, 0x33)]) // interrupted: the first handler's trampoline
        .jump(0x7000)
        .block(CONTEXT, &[(PC, 0x40_3000), (SP, 0x7400), (CS, 0x33)]);
    let trace = stack.walk(&[&SignalFrame]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_1000, 0x40_3000]);
    assert_eq!(trace.last(SP), Some(0x7400));
}

#[test]
fn selectors_that_no_user_code_has_are_a_forgery() {
    for values in [[(CS, 0x10), (SS, 0x2b)], [(CS, 0x33), (SS, 0x18)], [(CS, 0), (SS, 0)]] {
        let trace = trampoline(LONG, &values).walk(&[&SignalFrame]);
        assert_eq!(trace.end, End::Stopped(Error::ForgedSignalFrame { address: 0x7000 }), "{values:x?}");
    }
}

#[test]
fn a_context_that_is_not_in_memory_stops_the_walk() {
    let stack = Stack::at(0x7000).returning_to(0x40_1000).bytes(0x40_1000, LONG).words(&[0; 4]);
    assert!(matches!(stack.walk(&[&SignalFrame]).end, End::Stopped(Error::Unreadable { .. })));
}

#[test]
fn other_code_is_no_trampoline() {
    let stack = trampoline(&[0x48, 0xc7, 0xc0, 0x0e, 0, 0, 0, 0x0f, 0x05], &[(CS, 0x33)]);
    assert_eq!(stack.walk(&[&SignalFrame]).refusals, [(0, Why::NotTrampoline)]);
}

#[test]
fn a_trampoline_that_loops_to_itself_stops_the_walk() {
    let trace = trampoline(LONG, &[(PC, 0x40_1000), (SP, 0x7000), (CS, 0x33)]).walk(&[&SignalFrame]);
    assert!(trace.frames.len() <= 2);
    assert_eq!(trace.end, End::Stopped(Error::NoProgress { cfa: 0x7000 }));
}

#[test]
fn the_foot_of_a_makecontext_stack_is_a_root_only_when_it_is_returned_to() {
    let foot = [0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff];
    let stack = Stack::at(0x7000).bytes(0x40_1000, &foot);
    assert_eq!(stack.clone().returning_to(0x40_1000).walk(&[&SignalFrame]).end, End::Root(Root::ContextEntry));
    assert_eq!(stack.pc(0x40_1000).walk(&[&SignalFrame]).refusals, [(0, Why::NotTrampoline)]);
}

#[test]
fn a_failed_step_says_where_and_leaves_the_callee_alone() {
    let stack = trampoline(LONG, &[(CS, 0)]);
    let regs = stack.regs();
    let step = stack.with(|target| {
        let mut caller = surestack_walk::Regs::new();
        surestack_walk::Unwinder::step(&SignalFrame, target, &regs, &mut caller)
    });
    assert_eq!(step, Err(Error::ForgedSignalFrame { address: 0x7000 }));
    assert_ne!(step, Ok(Step::NotMine(Why::NotTrampoline)));
    assert_eq!(regs.pc(), Some(CodeAddress::Return(0x40_1000)));
}

/// `ucontext_t` with an alternate stack, fault address and error code, `siginfo_t` above it.
#[test]
fn the_signal_and_the_alternate_stack_are_read_from_the_frame() {
    let stack = Stack::at(0x7000)
        .block(CONTEXT, &[(CS, 0x33)])
        .words(&[11, 1, 0x18]) // si_signo 11, si_errno 0; si_code 1; si_addr
        .jump(0x7000 + 16)
        .words(&[0x2_0000, 0, 0x4000])
        .jump(0x7000 + 192)
        .words(&[6])
        .jump(0x7000 + 216)
        .words(&[0x18]);
    let context = SavedContext::at(&X86_64, 0x7000).unwrap();
    let signal = Signal { number: 11, code: 1, detail: 0x18, fault_address: 0x18, error_code: 6 };
    assert_eq!(context.signal(&X86_64, &stack), Ok(signal));
    let alternate = context.alternate_stack(&X86_64, &stack).unwrap().unwrap();
    assert_eq!((alternate.low, alternate.high), (0x2_0000, 0x2_4000));
    let disabled = stack.jump(0x7000 + 24).words(&[2]);
    assert_eq!(context.alternate_stack(&X86_64, &disabled), Ok(None));
}
