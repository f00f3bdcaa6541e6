//! Every rule of call frame information, followed from drawn registers and memory.

use surestack_cfi::{Cfi, DwarfRows, drop_key_letters};
use surestack_drawing::cfi::{
    self, Fde, advance, def_cfa, def_cfa_expression, def_cfa_offset, def_cfa_register, eh_frame, expression, offset,
    register, restore, same_value, undefined, val_expression, val_offset,
};
use surestack_drawing::{Sections, Stack};
use surestack_walk::{
    AARCH64, CfiFault, CodeAddress, End, Error, FoundBy, Link, Register, Root, RowSource, SignalSign, Why, X86_64,
};

const RBX: u8 = 3;
const RBP: u8 = 6;
const RSP: u8 = 7;
const R12: u8 = 12;
const RA: u8 = 16;

fn r(number: u8) -> Register {
    Register::general(number).unwrap()
}

/// A thread in the function that `instructions` describe, eight words on its stack.
fn thread(instructions: &[&[u8]]) -> Stack {
    drawn(eh_frame(&[Fde::new(&[&[&def_cfa(RSP, 16)[..], &offset(RA, 1)].concat(), &instructions.concat()])]))
}

fn drawn(section: Vec<u8>) -> Stack {
    Stack::at(0x7000)
        .set(r(RBX), 0xb0)
        .set(r(R12), 0x7010)
        .words(&[0x7777, 0x40_2000, 0x40_3000, 0x40_4000, 4, 5, 6, 7])
        .eh_frame(section)
}

/// The registers of the caller.
fn caller(stack: &Stack) -> surestack_walk::Regs {
    let trace = stack.walk(&[&Cfi(DwarfRows)]);
    assert!(trace.frames.len() >= 2, "{:?}", trace.end);
    trace.frames[1].regs
}

fn fault(stack: &Stack) -> CfiFault {
    match stack.walk(&[&Cfi(DwarfRows)]).end {
        End::Stopped(Error::BadCfi { pc: 0x40_1000, fault }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_return_address_is_found_at_its_offset_from_the_cfa() {
    let trace = thread(&[]).walk(&[&Cfi(DwarfRows)]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    let frame = trace.frames[1];
    assert_eq!((frame.link, frame.found_by), (Link::Call, FoundBy::Cfi(RowSource::EhFrame)));
    assert_eq!((frame.callee_cfa, frame.return_slot), (Some(0x7010), Some(0x7008)));
    assert_eq!(frame.regs.get(X86_64.sp), Some(0x7010));
    assert_eq!(frame.pc, CodeAddress::Return(0x40_2000));
}

#[test]
fn registers_without_a_rule_are_known_only_if_the_abi_preserves_them() {
    let regs = caller(&thread(&[]).set(r(0), 1));
    assert_eq!((regs.get(r(RBX)), regs.get(r(0))), (Some(0xb0), None));
}

#[test]
fn the_cfa_follows_a_change_of_its_register_and_of_its_offset() {
    assert_eq!(caller(&thread(&[&def_cfa_register(R12)])).get(X86_64.sp), Some(0x7020));
    assert_eq!(caller(&thread(&[&def_cfa_offset(24)])).get(X86_64.sp), Some(0x7018));
}

#[test]
fn an_offset_rule_reads_the_word_and_keeps_its_place() {
    let regs = caller(&thread(&[&offset(RBP, 2)]));
    assert_eq!((regs.get(r(RBP)), regs.place(r(RBP))), (Some(0x7777), Some(0x7000)));
}

#[test]
fn a_val_offset_rule_gives_an_address() {
    let regs = caller(&thread(&[&val_offset(RBX, 2)]));
    assert_eq!((regs.get(r(RBX)), regs.place(r(RBX))), (Some(0x7000), None));
}

#[test]
fn a_register_rule_takes_another_register_and_the_return_address_may_lie_in_one() {
    assert_eq!(caller(&thread(&[&register(RBX, R12)])).get(r(RBX)), Some(0x7010));
    // vfork keeps its return address in rdi.
    let trace = thread(&[&register(RA, 5)]).set(r(5), 0x40_4000).walk(&[&Cfi(DwarfRows)]);
    assert_eq!((trace.frames[1].pc, trace.frames[1].return_slot), (CodeAddress::Return(0x40_4000), None));
}

#[test]
fn same_value_keeps_and_undefined_forgets() {
    assert_eq!(caller(&thread(&[&same_value(0)]).set(r(0), 1)).get(r(0)), Some(1));
    assert_eq!(caller(&thread(&[&undefined(RBX)])).get(r(RBX)), None);
}

#[test]
fn an_undefined_return_address_is_the_root() {
    assert_eq!(thread(&[&undefined(RA)]).walk(&[&Cfi(DwarfRows)]).end, End::Root(Root::UndefinedReturn));
}

const BREG_R12: u8 = 0x7c;
const DEREF: u8 = 0x06;

#[test]
fn an_expression_reads_registers_and_memory() {
    // CFA = r12 + 16, and CFA = *(r12 + 8) as in _dl_runtime_resolve's kin.
    let stack = thread(&[&def_cfa_expression(&[BREG_R12, 0x10])]);
    assert_eq!(caller(&stack).get(X86_64.sp), Some(0x7020));
    let stack = thread(&[&def_cfa_expression(&[BREG_R12, 8, DEREF])]).jump(0x7018).words(&[0x7028, 0x40_5000]);
    assert_eq!(caller(&stack).get(X86_64.sp), Some(0x7028));
    assert_eq!(caller(&stack).pc(), Some(CodeAddress::Return(0x40_5000)));
}

#[test]
fn a_register_expression_begins_with_the_cfa_and_gives_a_place_or_a_value() {
    let minus_16 = [0x40, 0x1c]; // lit16; minus
    let regs = caller(&thread(&[&expression(RBX, &minus_16)]));
    assert_eq!((regs.get(r(RBX)), regs.place(r(RBX))), (Some(0x7777), Some(0x7000)));
    let regs = caller(&thread(&[&val_expression(RBX, &minus_16)]));
    assert_eq!((regs.get(r(RBX)), regs.place(r(RBX))), (Some(0x7000), None));
}

#[test]
fn an_unreadable_slot_makes_its_register_unknown_and_the_walk_goes_on() {
    let regs = caller(&thread(&[&offset(RBX, 20)]));
    assert_eq!((regs.get(r(RBX)), regs.pc()), (None, Some(CodeAddress::Return(0x40_2000))));
}

#[test]
fn an_unreadable_return_address_stops_the_walk() {
    let end = thread(&[&offset(RA, 20)]).walk(&[&Cfi(DwarfRows)]).end;
    assert_eq!(end, End::Stopped(Error::Unreadable { address: 0x7010 - 160 }));
}

#[test]
fn a_register_that_the_cfa_needs_and_nobody_knows_stops_the_walk() {
    let end = thread(&[&def_cfa(0, 8)]).walk(&[&Cfi(DwarfRows)]).end;
    assert_eq!(end, End::Stopped(Error::UnknownRegister { register: r(0) }));
}

/// The rows of one entry, the pc `into` bytes inside it.
fn at(into: u64, instructions: &[&[u8]]) -> Option<u64> {
    caller(&thread(instructions).pc(0x40_1000 + into)).get(r(RBX))
}

#[test]
fn each_row_holds_from_its_own_address() {
    let rows: [&[u8]; 2] = [&advance(4), &val_offset(RBX, 1)];
    assert_eq!((at(3, &rows), at(4, &rows)), (Some(0xb0), Some(0x7008)));
}

#[test]
fn every_form_of_advance_moves_the_row() {
    let to_0x20: [&[u8]; 4] = [&advance(0x20), &[0x02, 0x20], &[0x03, 0x20, 0], &[0x04, 0x20, 0, 0, 0]];
    let set_loc = [&[0x01][..], &0x40_1020_u64.to_le_bytes()].concat();
    for form in to_0x20.into_iter().chain([&set_loc[..]]) {
        let rows: [&[u8]; 2] = [form, &val_offset(RBX, 1)];
        assert_eq!((at(0x1f, &rows), at(0x20, &rows)), (Some(0xb0), Some(0x7008)), "{form:x?}");
    }
}

#[test]
fn remembered_states_nest_and_are_restored() {
    let (one, two) = (val_offset(RBX, 1), val_offset(RBX, 2));
    let rows: [&[u8]; 9] = [
        &one,
        &cfi::REMEMBER,
        &two,
        &cfi::REMEMBER,
        &undefined(RBX),
        &advance(4),
        &cfi::RESTORE_STATE,
        &advance(4),
        &cfi::RESTORE_STATE,
    ];
    assert_eq!((at(0, &rows), at(4, &rows), at(8, &rows)), (None, Some(0x7000), Some(0x7008)));
}

#[test]
fn restore_goes_back_to_the_common_entrys_rule() {
    assert_eq!(at(4, &[&val_offset(RBX, 1), &advance(4), &restore(RBX)]), Some(0xb0));
}

#[test]
fn the_size_of_arguments_and_nops_change_nothing() {
    assert_eq!(at(0, &[&[0x2e, 0x20], &[0, 0]]), Some(0xb0));
}

#[test]
fn a_signal_augmentation_makes_the_callers_pc_exact() {
    let entry = Fde::new(&[&def_cfa(RSP, 16), &offset(RA, 1)]).augmented("S");
    let trace = drawn(eh_frame(&[entry])).walk(&[&Cfi(DwarfRows)]);
    assert_eq!(trace.frames[1].pc, CodeAddress::Exact(0x40_2000));
    let found = (trace.frames[1].link, trace.frames[1].found_by);
    assert_eq!(found, (Link::Signal, FoundBy::SignalFrame(SignalSign::Cfi)));
}

/// Two functions, one after the other; only the first saves rbx at CFA - 16.
fn neighbours() -> Vec<Fde> {
    let rules: [&[u8]; 2] = [&def_cfa(RSP, 16), &offset(RA, 1)];
    let first = Fde::new(&[&rules.concat(), &offset(RBX, 2)]);
    vec![first, Fde::new(&rules).of(0x40_1100..0x40_1200)]
}

#[test]
fn at_a_boundary_a_return_address_belongs_to_the_function_before_and_an_interrupted_pc_to_the_one_after() {
    let stack = drawn(eh_frame(&neighbours()));
    assert_eq!(caller(&stack.clone().returning_to(0x40_1100)).get(r(RBX)), Some(0x7777));
    assert_eq!(caller(&stack.pc(0x40_1100)).get(r(RBX)), Some(0xb0));
}

#[test]
fn the_search_table_and_the_plain_section_give_the_same_rows() {
    let bias = 0x10_0000;
    let linked: Vec<Fde> = neighbours()
        .into_iter()
        .map(|fde| {
            let code = fde.code.start - bias..fde.code.end - bias;
            fde.of(code)
        })
        .collect();
    let eh_frame = (0x38_0000, eh_frame(&linked));
    let hdr = (0x37_0000, cfi::eh_frame_hdr(0x37_0000, 0x38_0000, &linked));
    for eh_frame_hdr in [None, Some(hdr)] {
        let sections = Sections { bias, eh_frame: Some(eh_frame.clone()), eh_frame_hdr, debug_frame: None };
        let stack = drawn(Vec::new()).sections(sections);
        for (pc, rbx) in [(0x40_1000, 0x7777), (0x40_10ff, 0x7777), (0x40_1100, 0xb0), (0x40_11ff, 0xb0)] {
            assert_eq!(caller(&stack.clone().pc(pc)).get(r(RBX)), Some(rbx), "{pc:#x}");
        }
        for pc in [0x40_0fff, 0x40_1200] {
            assert_eq!(stack.clone().pc(pc).walk(&[&Cfi(DwarfRows)]).refusals, [(0, Why::NoRow)], "{pc:#x}");
        }
    }
}

#[test]
fn debug_frame_is_asked_where_eh_frame_has_nothing() {
    let debug_frame = Some(cfi::debug_frame(&[Fde::new(&[&def_cfa(RSP, 16), &offset(RA, 1)])]));
    let other = (0x48_0000, eh_frame(&neighbours()[1..]));
    for eh_frame in [None, Some(other)] {
        let sections = Sections { eh_frame, debug_frame: debug_frame.clone(), ..Sections::default() };
        let trace = drawn(Vec::new()).sections(sections).walk(&[&Cfi(DwarfRows)]);
        assert_eq!(trace.frames[1].found_by, FoundBy::Cfi(RowSource::DebugFrame));
    }
}

#[test]
fn code_outside_every_module_or_without_a_table_is_not_mine() {
    let refusal = |stack: Stack| stack.walk(&[&Cfi(DwarfRows)]).refusals;
    assert_eq!(refusal(thread(&[]).pc(0x1000)), [(0, Why::NoModule)]);
    assert_eq!(refusal(thread(&[]).sections(Sections::default())), [(0, Why::NoTable)]);
}

#[test]
fn broken_entries_are_refused_by_name() {
    let mut truncated = eh_frame(&[Fde::new(&[&def_cfa(RSP, 16)])]);
    truncated.truncate(truncated.len() - 12);
    assert_eq!(fault(&drawn(truncated)), CfiFault::Malformed);
    assert_eq!(fault(&thread(&[&[0x3f]])), CfiFault::Unsupported, "an unknown instruction");
    assert_eq!(fault(&thread(&[&[0x0c]])), CfiFault::Malformed, "an instruction cut short");
    assert_eq!(fault(&thread(&[&cfi::RESTORE_STATE])), CfiFault::Malformed, "nothing to restore");
    assert_eq!(fault(&thread(&[&[cfi::REMEMBER[0]; 40]])), CfiFault::TooLarge);
    assert_eq!(fault(&thread(&[&def_cfa(99, 8)])), CfiFault::Register);
}

#[test]
fn broken_expressions_are_refused_by_name() {
    let endless = [0x2f, 0xfd, 0xff]; // skip -3
    let deep: Vec<u8> = [0x12].repeat(40); // dup, until the stack is full
    for bytes in [&endless[..], &[], &[0x1c], &[0x06], &[0x30, 0x30, 0x1b], &[0x9f], &[0x2f, 0x10, 0], &[0x08]] {
        assert_eq!(fault(&thread(&[&def_cfa_expression(bytes)])), CfiFault::Expression, "{bytes:x?}");
    }
    let deep = [&[0x30][..], &deep].concat();
    assert_eq!(fault(&thread(&[&def_cfa_expression(&deep)])), CfiFault::Expression, "too deep");
}

/// An aarch64 function at 0x40_1000 whose return register is x30.
fn arm(instructions: &[&[u8]]) -> Stack {
    let entry = Fde::new(&[&def_cfa(31, 16), &instructions.concat()]).returning_by(30);
    Stack::of(&AARCH64, 0x7000)
        .words(&[0x7777, 0x004a_0000_0040_2000])
        .set(r(30), 0x0061_0000_0040_3000)
        .eh_frame(eh_frame(&[entry]))
}

#[test]
fn a_signed_return_address_loses_its_signature() {
    let stack = arm(&[&offset(30, 1), &cfi::NEGATE_RA_STATE]);
    assert_eq!(stack.walk(&[&Cfi(DwarfRows)]).pcs().get(1), Some(&0x40_2000));
}

#[test]
fn a_function_signed_with_the_b_key_has_rows_once_the_letter_is_dropped() {
    let entry = Fde::new(&[&def_cfa(31, 16), &offset(30, 1), &cfi::NEGATE_RA_STATE]).returning_by(30).augmented("B");
    let mut section = eh_frame(&[entry]);
    let stack = |section: &[u8]| arm(&[]).eh_frame(section.to_vec());
    assert_eq!(fault(&stack(&section)), CfiFault::Unsupported);
    assert_eq!(drop_key_letters(&mut section), 1);
    assert_eq!(stack(&section).walk(&[&Cfi(DwarfRows)]).pcs().get(1), Some(&0x40_2000));
}

#[test]
fn a_link_register_that_was_not_saved_holds_the_return_address_only_in_an_interrupted_leaf() {
    let leaf = arm(&[]);
    assert_eq!(leaf.walk(&[&Cfi(DwarfRows)]).pcs().get(1), Some(&0x40_3000));
    let called = leaf.returning_to(0x40_1004).walk(&[&Cfi(DwarfRows)]);
    assert_eq!(called.end, End::Stopped(Error::UnknownRegister { register: r(30) }));
}
