//! Calls to where there is no code, and returns to smashed addresses, which look the same but for the call before them.

use surestack::evidence::FileEvidence;
use surestack_drawing::Stack;
use surestack_walk::{Evidence, Register, Witness, X86_64};

const RETURN: u64 = 0x40_2010;

/// The thread has arrived at `pc`; `call` lies before the return address at the top of its stack.
fn arrived(pc: u64, call: &[u8], rax: u64) -> Witness {
    let length = u64::try_from(call.len()).expect("an instruction is short");
    let rax_register = Register::general(0).expect("rax has the lowest number");
    let stack = Stack::at(0x7000)
        .pc(pc)
        .words(&[RETURN, 0, 0x77_0000])
        .bytes(RETURN - 16, &[0x90; 32])
        .bytes(RETURN - length, call)
        .bytes(0x40_3000, &0x6600_0000_u64.to_le_bytes())
        .set(rax_register, rax);
    stack.with(|target| {
        FileEvidence::of(&X86_64, target.memory, target.modules, target.stacks).call_to_nowhere(&stack.regs())
    })
}

#[test]
fn a_call_through_a_register_that_still_holds_the_bad_address_is_confirmed() {
    assert_eq!(arrived(0, &[0xff, 0xd0], 0), Witness::Confirmed);
}

#[test]
fn a_return_to_a_bad_address_has_no_such_call_behind_it() {
    assert_eq!(arrived(0x55_0000_0000, &[0xff, 0xd0], 0), Witness::Unknown);
    assert_eq!(arrived(0, &[0x90, 0x90], 0), Witness::NotACall);
}

#[test]
fn a_call_through_memory_is_confirmed_by_what_the_memory_holds() {
    // call *0x8(%rsp): the stack pointer was eight bytes higher then.
    assert_eq!(arrived(0x77_0000, &[0xff, 0x54, 0x24, 0x08], 0), Witness::Confirmed);
    assert_eq!(arrived(0, &[0xff, 0x54, 0x24, 0x08], 0), Witness::Unknown);
    // call *(%rax), call *slot(%rip)
    assert_eq!(arrived(0x6600_0000, &[0xff, 0x10], 0x40_3000), Witness::Confirmed);
    assert_eq!(arrived(0x6600_0000, &[0xff, 0x15, 0xf0, 0x0f, 0, 0], 0), Witness::Confirmed);
}

#[test]
fn a_direct_call_to_a_bad_address_is_confirmed_and_one_to_a_function_says_nothing() {
    assert_eq!(arrived(RETURN + 0x0f00_0000, &[0xe8, 0, 0, 0, 0x0f], 0), Witness::Confirmed);
    assert_eq!(arrived(0, &[0xe8, 0, 1, 0, 0], 0), Witness::Unknown);
}
