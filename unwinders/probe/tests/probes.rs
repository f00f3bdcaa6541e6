//! Stops at each instruction of the kernel's probe pages.

use surestack_drawing::Stack;
use surestack_probe::Probes;
use surestack_walk::{End, Error, FoundBy, Link, ProbeKind, Register, Step, Unwinder, Why, X86_64};

const PAGE: u64 = 0x60_0000;
/// Behind the call that was a nop.
const BEHIND: u64 = 0x40_2005;
const CODE: [u8; 18] =
    [0x51, 0x41, 0x53, 0x50, 0x48, 0xc7, 0xc0, 0x50, 0x01, 0, 0, 0x0f, 0x05, 0x58, 0x41, 0x5b, 0x59, 0xc3];

fn register(number: u8) -> Register {
    Register::general(number).expect("a general register")
}

/// Stopped at `offset` in the page, `words` of which are pushed, the last first. The registers hold 3 each.
fn stopped(offset: u64, words: &[u64]) -> Stack {
    let call = (PAGE.wrapping_sub(BEHIND) as u32).to_le_bytes();
    let stack = Stack::at(0x7000).pc(PAGE + offset).words(words).probes(PAGE, ProbeKind::Nop);
    let stack = stack.bytes(BEHIND - 5, &[0xe8]).bytes(BEHIND - 4, &call).bytes(PAGE, &CODE);
    [0, 2, 3, 11].into_iter().fold(stack, |stack, number| stack.set(register(number), 3))
}

#[test]
fn at_every_instruction_the_probed_code_is_found_with_all_its_registers() {
    let cases: [(u64, &[u64]); 9] = [
        (0, &[BEHIND]),
        (1, &[2, BEHIND]),
        (3, &[11, 2, BEHIND]),
        (4, &[0, 11, 2, BEHIND]),
        (11, &[0, 11, 2, BEHIND]),
        (13, &[0, 11, 2, BEHIND]),
        (14, &[11, 2, BEHIND]),
        (16, &[2, BEHIND]),
        (17, &[BEHIND]),
    ];
    for (offset, words) in cases {
        let trace = stopped(offset, words).walk(&[&Probes]);
        let [_, probed] = trace.frames.as_slice() else { panic!("{offset}: {:?}", trace.frames) };
        assert_eq!((probed.pc.value(), probed.pc.is_exact()), (BEHIND, true), "{offset}");
        assert_eq!((probed.link, probed.found_by), (Link::Probe, FoundBy::Probe));
        let pushed = words.len() as u64 - 1;
        assert_eq!(probed.regs.get(X86_64.sp), Some(0x7000 + 8 * pushed + 8), "{offset}");
        let expected = |depth, value| Some(if depth <= pushed { value } else { 3 });
        assert_eq!(probed.regs.get(register(2)), expected(1, 2), "{offset}");
        assert_eq!(probed.regs.get(register(11)), expected(2, 11), "{offset}");
        assert_eq!(probed.regs.get(register(0)), expected(3, 0), "{offset}");
        assert_eq!(probed.regs.get(register(3)), Some(3), "{offset}");
    }
}

/// Why the first step was refused.
fn refused(stack: &Stack) -> Why {
    stack.with(|target| match Probes.step(target, &stack.regs(), &mut stack.regs()) {
        Ok(Step::NotMine(why)) => why,
        other => panic!("{other:?}"),
    })
}

#[test]
fn between_instructions_and_behind_them_there_is_nothing_to_know() {
    for offset in [2, 5, 12, 15, 18, 0x100] {
        assert_eq!(refused(&stopped(offset, &[0, 11, 2, BEHIND])), Why::NotTrampoline, "{offset}");
    }
}

#[test]
fn other_code_in_the_page_is_not_taken_for_what_it_was() {
    assert_eq!(refused(&stopped(0, &[BEHIND]).bytes(PAGE, &[0x50])), Why::NotTrampoline);
}

#[test]
fn a_page_that_cannot_be_read_is_known_by_the_call_at_the_site_alone() {
    let unread = |words: &[u64]| {
        let call = (PAGE.wrapping_sub(BEHIND) as u32).to_le_bytes();
        let stack = Stack::at(0x7000).pc(PAGE + 3).words(words).probes(PAGE, ProbeKind::Nop);
        stack.bytes(BEHIND - 5, &[0xe8]).bytes(BEHIND - 4, &call)
    };
    assert_eq!(unread(&[11, 2, BEHIND]).walk(&[&Probes]).frames.len(), 2);
    assert_eq!(refused(&unread(&[11, 2, BEHIND + 1])), Why::NotAfterCall);
    assert_eq!(refused(&unread(&[11, BEHIND, 2])), Why::NotAfterCall);
}

#[test]
fn there_is_no_step_out_of_a_probed_return() {
    let returned = |stack: Stack| stack.probes(PAGE, ProbeKind::Return).words(&[BEHIND]);
    for stack in [returned(Stack::at(0x7000)).returning_to(PAGE), returned(Stack::at(0x7000)).pc(PAGE + 3)] {
        assert_eq!(refused(&stack), Why::ReturnProbed);
        assert!(matches!(stack.walk(&[&Probes]).end, End::Stopped(Error::UnknownCode { .. })));
    }
}

#[test]
fn other_code_is_none_of_its_business() {
    assert_eq!(refused(&Stack::at(0x7000).words(&[BEHIND])), Why::NotProbed);
}
