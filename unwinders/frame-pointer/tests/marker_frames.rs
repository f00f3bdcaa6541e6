//! Marker frames: each layout gives the interrupted registers exactly, and what only looks like one is refused.

use surestack_drawing::{Stack, Trace, tag};
use surestack_frame_pointer::{FramePointer, Markers};
use surestack_walk::{
    AARCH64, CodeAddress, End, Error, FoundBy, Layout, Link, Marker, Register, Root, Sign, Why, X86_64,
};

const PC: Register = Register::PC;
const CS: Register = Register::CS;
const SP: Register = X86_64.sp;
const FP: Register = X86_64.fp;

const FUNCTION: Marker<'static> =
    Marker { id: 1, sign: Sign::Function { start: 0x40_8000 }, layout: &X86_64.entry_registers };
const LOW_BIT: Marker<'static> = Marker { id: 2, sign: Sign::LowBitSet, layout: &X86_64.entry_registers };
const RECORD: Marker<'static> =
    Marker { id: 3, sign: Sign::Record { registers: 2, outermost: 1, offset: 0x60 }, layout: &AARCH64.entry_registers };

fn rbx() -> Register {
    Register::general(3).unwrap()
}

/// The handler's frame record, the three words of the marker, the registers above.
///
/// ```text
///   0x7030  entry registers: pc 0x40_2000, fp 0x7100
///   0x7028  0x7030
///   0x7020  marker function + `offset`
///   0x7018  0x7100
///   0x7008  return into entry code   ◄ fp + 8
///   0x7000  0x7018                   ◄ fp
/// ```
fn three_words(offset: u64, saved_fp: u64) -> Stack {
    Stack::at(0x7000)
        .word("marker")
        .word(0x40_10e0)
        .word(0x1234)
        .label("marker")
        .word(saved_fp)
        .word(0x40_8000 + offset)
        .word("registers")
        .label("registers")
        .block(&X86_64.entry_registers, &[(PC, 0x40_2000), (SP, 0x7200), (FP, 0x7100), (CS, 0x33), (rbx(), 77)])
        .marker(FUNCTION)
}

fn walk(stack: &Stack) -> Trace {
    stack.walk(&[&Markers, &FramePointer])
}

#[test]
fn a_three_word_marker_yields_the_interrupted_registers() {
    let trace = walk(&three_words(1, 0x7100));
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_10e0, 0x40_2000]);
    let frame = trace.frames[2];
    assert_eq!(frame.pc, CodeAddress::Exact(0x40_2000), "interrupted, not returned to");
    assert_eq!((frame.link, frame.found_by), (Link::Marker, FoundBy::Marker(1)));
    let known = [SP, FP, CS, rbx(), Register::general(12).unwrap()].map(|register| frame.regs.get(register));
    assert_eq!(known, [Some(0x7200), Some(0x7100), Some(0x33), Some(77), Some(0)]);
    assert_eq!(frame.regs.place(rbx()), Some(0x7030 + 40));
}

#[test]
fn both_bytes_of_the_marker_function_mark_and_the_byte_after_does_not() {
    assert_eq!(walk(&three_words(0, 0x7100)).pcs().len(), 3);
    let after = walk(&three_words(2, 0x7100));
    assert_eq!(after.frames.last().unwrap().found_by, FoundBy::FramePointer);
}

#[test]
fn a_three_word_marker_whose_registers_hold_another_frame_pointer_is_refused() {
    assert_eq!(walk(&three_words(1, 0x7108)).end, End::Stopped(Error::BadMarker { address: 0x7030 }));
}

#[test]
fn a_marker_that_is_not_registered_is_an_ordinary_frame_record() {
    let trace = Stack::at(0x7000).words(&[0x7010, 0x40_10e0, 0x7100, 0x40_8001]).walk(&[&Markers, &FramePointer]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_10e0, 0x40_8001]);
}

/// ```text
///   0x7010  entry registers
///   0x7008  return into entry code
///   0x7000  0x7010 | 1               ◄ fp
/// ```
fn tagged(values: &[(Register, u64)]) -> Stack {
    Stack::at(0x7000)
        .word(tag("registers"))
        .word(0x40_10e0)
        .label("registers")
        .block(&X86_64.entry_registers, values)
        .marker(LOW_BIT)
}

#[test]
fn a_tagged_frame_pointer_yields_the_interrupted_registers() {
    let trace = walk(&tagged(&[(PC, 0x40_2000), (SP, 0x7300), (FP, 0), (CS, 0x33), (rbx(), 5)]));
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_10e0, 0x40_2000]);
    let regs = trace.frames[2].regs;
    assert_eq!([SP, FP, rbx()].map(|register| regs.get(register)), [Some(0x7300), Some(0), Some(5)]);
}

#[test]
fn a_code_selector_of_no_ring_is_refused() {
    let trace = walk(&tagged(&[(PC, 0x40_2000), (SP, 0x7300), (CS, 0x31)]));
    assert_eq!(trace.end, End::Stopped(Error::BadMarker { address: 0x7010 }));
}

#[test]
fn marked_registers_that_are_not_wholly_on_the_stack_are_refused() {
    let trace = walk(&Stack::at(0x7000).words(&[0x7f61, 0x40_10e0]).marker(LOW_BIT));
    assert_eq!(trace.end, End::Stopped(Error::BadMarker { address: 0x7f60 }));
}

#[test]
fn a_stale_marker_that_is_on_no_chain_is_ignored() {
    let stack = Stack::at(0x7000)
        .word(0x7100)
        .word(0x40_10e0)
        .word(tag("stale")) // 0x7010: nobody's frame pointer any more
        .word(0x40_10e0)
        .label("stale")
        .block(&X86_64.entry_registers, &[(PC, 0x40_6666), (CS, 0x33)])
        .jump(0x7100)
        .words(&[0, 0x40_3000])
        .marker(LOW_BIT);
    assert_eq!(walk(&stack).pcs(), [0x40_1000, 0x40_10e0, 0x40_3000]);
}

/// 32-bit entry registers: seventeen words of four bytes; 5 is ebp, 12 eip, 13 cs, 15 esp.
static SMALL: Layout = Layout { size: 68, fields: &[(FP, 20, 4), (PC, 48, 4), (CS, 52, 2), (SP, 60, 4)] };

#[test]
fn a_frame_pointer_with_its_high_bit_clear_yields_32_bit_registers() {
    let stack = Stack::at(0xc000_7000)
        .stack(0xc000_6000..0xc000_8000)
        .fp(0x4000_7010) // 0xc000_7010 without bit 31
        .jump(0xc000_7010)
        .block(&SMALL, &[(PC, 0x40_2000), (FP, 0xc000_7100), (CS, 0x60), (SP, 0xc000_7080)])
        .marker(Marker { id: 4, sign: Sign::HighBitClear, layout: &SMALL });
    let trace = stack.walk(&[&Markers]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    assert_eq!((trace.last(FP), trace.last(SP)), (Some(0xc000_7100), Some(0xc000_7080)));
}

#[test]
fn a_zero_frame_pointer_is_no_32_bit_marker_because_its_registers_are_on_no_stack() {
    let stack = Stack::at(0xc000_7000).stack(0xc000_6000..0xc000_8000).fp(0).marker(Marker {
        id: 4,
        sign: Sign::HighBitClear,
        layout: &SMALL,
    });
    assert_eq!(stack.walk(&[&Markers]).end, End::Stopped(Error::BadMarker { address: 0x8000_0000 }));
}

/// arm64: a record of zeros at 0x60 in the saved block, its type above it.
///
/// ```text
///   0x7080  type
///   0x7078  0
///   0x7070  0                        ◄ fp
///   0x7010  entry registers begin
/// ```
fn record(kind: u64) -> Stack {
    let x = |number| Register::general(number).unwrap();
    Stack::of(&AARCH64, 0x7000)
        .fp(0x7070)
        .jump(0x7010)
        .block(&AARCH64.entry_registers, &[(PC, 0x40_2000), (AARCH64.sp, 0x7400), (x(29), 0x7500), (x(3), 33)])
        .jump(0x7070)
        .words(&[0, 0, kind])
        .marker(RECORD)
}

#[test]
fn a_record_of_zeros_with_the_type_of_registers_yields_them() {
    let trace = record(2).walk(&[&Markers]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    assert_eq!(trace.last(AARCH64.sp), Some(0x7400));
    assert_eq!(trace.last(Register::general(3).unwrap()), Some(33));
    assert_eq!(trace.frames[1].found_by, FoundBy::Marker(3));
}

#[test]
fn a_record_of_zeros_with_the_outermost_type_is_the_root() {
    assert_eq!(record(1).walk(&[&Markers]).end, End::Root(Root::Marker(3)));
}

#[test]
fn a_record_of_zeros_with_an_unknown_type_is_refused() {
    assert_eq!(record(7).walk(&[&Markers]).end, End::Stopped(Error::BadMarker { address: 0x7070 }));
}

#[test]
fn without_any_marker_registered_a_record_of_zeros_is_no_root() {
    let trace = Stack::of(&AARCH64, 0x7000).words(&[0, 0, 1]).walk(&[&Markers, &FramePointer]);
    assert_eq!(trace.end, End::Stopped(Error::UnknownCode { pc: 0x40_1000 }));
    assert_eq!(trace.refusals, [(0, Why::NoFramePointer), (1, Why::NotAfterCall)]);
}
