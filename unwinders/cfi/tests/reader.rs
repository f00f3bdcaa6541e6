//! Our own reader of `.eh_frame`: what drawn entries say, and what it leaves to gimli.

use std::ops::ControlFlow;
use surestack_cfi::{Compact, CompactCfa, CompactExpression, CompactRule, Function, Unusual};
use surestack_drawing::cfi::{
    Fde, REMEMBER, RESTORE_STATE, advance, def_cfa, def_cfa_expression, def_cfa_offset, def_cfa_register, eh_frame,
    expression, offset, register, restore, same_value, undefined, val_expression, val_offset,
};
use surestack_walk::Section;

/// Where the sections lie, and a function in them.
const ADDRESS: u64 = 0x48_0000;
const START: u64 = 0x40_1000;
const END: u64 = 0x40_1100;
const RBX: u8 = 3;
const RBP: u8 = 6;
const RSP: u8 = 7;
const RA: u8 = 16;

/// The first FDE of a section that begins with its CIE.
fn at(section: &[u8]) -> Result<Function<'_>, Unusual> {
    let common = u64::from(u32::from_le_bytes(*section.first_chunk().unwrap()));
    Function::at(Section { address: ADDRESS, bytes: section }, ADDRESS + 4 + common)
}

fn drawn(instructions: &[&[u8]]) -> Vec<u8> {
    eh_frame(&[Fde::new(instructions)])
}

/// A row: where it holds, its CFA and its rules.
type Row = ((u64, u64), CompactCfa, Vec<(u8, CompactRule)>);

fn row(compact: &Compact) -> Row {
    ((compact.start, compact.end), compact.cfa, compact.rules().collect())
}

/// Every row, and the same asked for one by one.
fn rows(section: &[u8]) -> Result<Vec<Row>, Unusual> {
    let function = at(section)?;
    let mut rows = Vec::new();
    function.rows(&mut |compact| {
        rows.push(row(compact));
        ControlFlow::Continue(())
    })?;
    for one in &rows {
        for linked in [one.0.0, one.0.1 - 1] {
            assert_eq!(function.row_at(linked)?.as_ref().map(row).as_ref(), Some(one));
        }
    }
    Ok(rows)
}

/// The only row of a function.
fn only(instructions: &[&[u8]]) -> (CompactCfa, Vec<(u8, CompactRule)>) {
    let (code, cfa, rules) = rows(&drawn(instructions)).unwrap().pop().unwrap();
    assert_eq!(code, (START, END));
    (cfa, rules)
}

#[test]
fn rows_follow_one_another_and_cover_the_function() {
    let section = drawn(&[
        &def_cfa(RSP, 8),
        &offset(RA, 1),
        &advance(1),
        &def_cfa_offset(16),
        &offset(RBP, 2),
        &advance(3),
        &def_cfa_register(RBP),
        &[0x02, 0x40], // advance_loc1
        &def_cfa(RSP, 8),
    ]);
    let (ra, rbp) = ((RA, CompactRule::Offset(-8)), (RBP, CompactRule::Offset(-16)));
    let expected = vec![
        ((START, START + 1), CompactCfa::Register(RSP, 8), vec![ra]),
        ((START + 1, START + 4), CompactCfa::Register(RSP, 16), vec![rbp, ra]),
        ((START + 4, START + 0x44), CompactCfa::Register(RBP, 16), vec![rbp, ra]),
        ((START + 0x44, END), CompactCfa::Register(RSP, 8), vec![rbp, ra]),
    ];
    assert_eq!(rows(&section), Ok(expected));
}

#[test]
fn outside_the_function_there_is_no_row() {
    let section = drawn(&[&def_cfa(RSP, 8)]);
    let function = at(&section).unwrap();
    assert_eq!((function.start, function.end), (START, END));
    for linked in [0, START - 1, END, u64::MAX] {
        assert!(function.row_at(linked).unwrap().is_none(), "{linked:#x}");
    }
}

#[test]
fn whoever_breaks_off_sees_no_more_rows() {
    let section = drawn(&[&def_cfa(RSP, 8), &advance(1), &advance(1), &[0x3f]]);
    let mut seen = 0;
    let ended = at(&section).unwrap().rows(&mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((ended, seen), (Ok(()), 2), "the unknown instruction is behind the second row");
    assert!(at(&section).unwrap().row_at(START + 1).is_ok());
    assert_eq!(at(&section).unwrap().row_at(START + 2).err(), Some(Unusual));
}

#[test]
fn an_empty_row_is_none() {
    let section = drawn(&[&def_cfa(RSP, 8), &advance(0), &def_cfa(RSP, 16), &[0x03, 0, 1], &def_cfa(RSP, 24)]);
    assert_eq!(rows(&section), Ok(vec![((START, END), CompactCfa::Register(RSP, 16), vec![])]));
}

#[test]
fn every_rule_is_read() {
    let rules = |instructions: &[&[u8]]| only(instructions).1;
    assert_eq!(
        rules(&[&undefined(RA), &same_value(RBX)]),
        [(RBX, CompactRule::SameValue), (RA, CompactRule::Undefined)]
    );
    assert_eq!(rules(&[&val_offset(RBX, 2)]), [(RBX, CompactRule::ValOffset(-16))]);
    assert_eq!(rules(&[&register(RBX, 12)]), [(RBX, CompactRule::Register(12))]);
    assert_eq!(rules(&[&[0x05, RBX, 0x82, 0x01]]), [(RBX, CompactRule::Offset(-130 * 8))], "offset_extended");
    assert_eq!(rules(&[&[0x11, RBX, 0x7e]]), [(RBX, CompactRule::Offset(16))], "offset_extended_sf");
    assert_eq!(rules(&[&[0x15, RBX, 0x80, 0x7f]]), [(RBX, CompactRule::ValOffset(1024))], "val_offset_sf");
    assert_eq!(rules(&[&offset(RBX, 1), &offset(RBX, 3)]), [(RBX, CompactRule::Offset(-24))], "the last counts");
}

#[test]
fn every_form_of_the_cfa_is_read() {
    let cfa = |instructions: &[&[u8]]| only(instructions).0;
    assert_eq!(cfa(&[]), CompactCfa::Register(0, 0));
    assert_eq!(cfa(&[&[0x0c, RSP, 0x90, 0x80, 0x80, 0x01]]), CompactCfa::Register(RSP, 0x20_0010));
    assert_eq!(cfa(&[&[0x12, RSP, 0x7e]]), CompactCfa::Register(RSP, 16), "def_cfa_sf");
    assert_eq!(cfa(&[&def_cfa(RSP, 8), &[0x13, 0x7d]]), CompactCfa::Register(RSP, 24), "def_cfa_offset_sf");
    assert_eq!(cfa(&[&def_cfa(RSP, 8), &[0x2e, 0x20], &[0]]), CompactCfa::Register(RSP, 8), "args_size, nop");
}

#[test]
fn expressions_are_where_they_are_written() {
    let section =
        drawn(&[&def_cfa_expression(&[0x77, 8]), &expression(RBX, &[0x71, 2]), &val_expression(RBP, &[0x73])]);
    let (_, cfa, rules) = rows(&section).unwrap().remove(0);
    let bytes = |CompactExpression { offset, length }| {
        let start = usize::try_from(offset).unwrap();
        section[start..start + usize::from(length)].to_vec()
    };
    let CompactCfa::Expression(found) = cfa else { panic!("{cfa:?}") };
    assert_eq!(bytes(found), [0x77, 8]);
    let [(RBX, CompactRule::Expression(place)), (RBP, CompactRule::ValExpression(value))] = rules[..] else {
        panic!("{rules:?}")
    };
    assert_eq!((bytes(place), bytes(value)), (vec![0x71, 2], vec![0x73]));
}

#[test]
fn what_was_remembered_comes_back_with_its_cfa() {
    let section = drawn(&[
        &def_cfa(RSP, 32),
        &offset(RBX, 2),
        &REMEMBER,
        &def_cfa(RSP, 8),
        &restore(RBX),
        &[0x06, RBP], // restore_extended, of a register without a rule
        &advance(1),
        &RESTORE_STATE,
    ]);
    let expected = vec![
        ((START, START + 1), CompactCfa::Register(RSP, 8), vec![]),
        ((START + 1, END), CompactCfa::Register(RSP, 32), vec![(RBX, CompactRule::Offset(-16))]),
    ];
    assert_eq!(rows(&section), Ok(expected));
}

/// Length and bytes of an entry.
fn framed(entry: &[u8]) -> Vec<u8> {
    [&u32::try_from(entry.len()).unwrap().to_le_bytes()[..], entry].concat()
}

/// A CIE as gcc writes it, and an FDE of 0x20 bytes of code, 0x100 before the section.
fn written(common: &[u8], augmentation: &[u8], instructions: &[u8]) -> Vec<u8> {
    let mut section = framed(&[&[0, 0, 0, 0][..], common].concat());
    let back = u32::try_from(section.len() + 4).unwrap().to_le_bytes();
    let code = (-0x100 - i32::try_from(section.len() + 8).unwrap()).to_le_bytes();
    section.extend(framed(&[&back[..], &code, &[0x20, 0, 0, 0], augmentation, instructions].concat()));
    section
}

const GCC_RULES: [u8; 7] = [0x0c, 7, 8, 0x90, 1, 0, 0];

#[test]
fn the_entries_that_compilers_write_are_read() {
    let plain = [&b"\x01zR\0\x01\x78\x10\x01\x1b"[..], &GCC_RULES].concat();
    let handlers = [&b"\x01zPLR\0\x01\x78\x10\x07\x9b\x11\x22\x33\x44\x1b\x1b"[..], &GCC_RULES].concat();
    let signal = [&b"\x01zRS\0\x01\x78\x10\x01\x1b"[..], &GCC_RULES].concat();
    for (common, augmentation, is_signal_frame) in
        [(&plain, &[0][..], false), (&handlers, &[4, 1, 2, 3, 4], false), (&signal, &[0], true)]
    {
        let section = written(common, augmentation, &[0x44, 0x0e, 16, 0x83, 2, 0x44, 0xd0, 0xc3]);
        let function = at(&section).unwrap();
        assert_eq!((function.start, function.end), (ADDRESS - 0x100, ADDRESS - 0xe0));
        assert_eq!((function.is_signal_frame, function.return_register), (is_signal_frame, RA));
        let ra = (RA, CompactRule::Offset(-8));
        let (first, second, third) = (ADDRESS - 0x100, ADDRESS - 0xfc, ADDRESS - 0xf8);
        let expected = vec![
            ((first, second), CompactCfa::Register(RSP, 8), vec![ra]),
            ((second, third), CompactCfa::Register(RSP, 16), vec![(RBX, CompactRule::Offset(-16)), ra]),
            ((third, ADDRESS - 0xe0), CompactCfa::Register(RSP, 16), vec![ra]),
        ];
        assert_eq!(rows(&section), Ok(expected));
    }
}

#[test]
fn a_common_entry_of_another_kind_is_unusual() {
    let good = [&b"\x01zR\0\x01\x78\x10\x01\x1b"[..], &GCC_RULES].concat();
    assert!(rows(&written(&good, &[0], &[])).is_ok());
    let kinds: [(&str, &[u8]); 16] = [
        ("version 3", b"\x03zR\0\x01\x78\x10\x01\x1b"),
        ("an unknown letter", b"\x01zRX\0\x01\x78\x10\x01\x1b"),
        ("the B key", b"\x01zRB\0\x01\x78\x10\x01\x1b"),
        ("not z first", b"\x01Rz\0\x01\x78\x10\x01\x1b"),
        ("eh", b"\x01eh\0\0\0\0\0\0\0\0\0\x01\x78\x10"),
        ("z twice", b"\x01zzR\0\x01\x78\x10\x01\x1b"),
        ("a string without an end", b"\x01zR"),
        ("a return register without a place", b"\x01zR\0\x01\x78\x11\x01\x1b"),
        ("indirect data relative addresses", b"\x01zR\0\x01\x78\x10\x01\xbb"),
        ("text relative addresses", b"\x01zR\0\x01\x78\x10\x01\x2b"),
        ("no addresses", b"\x01zR\0\x01\x78\x10\x01\xff"),
        ("addresses as LEB128", b"\x01zR\0\x01\x78\x10\x01\x11"),
        ("augmentation data that ends early", b"\x01zPR\0\x01\x78\x10\x03\x9b\x11\x22\x33\x44\x1b"),
        ("augmentation data longer than the entry", b"\x01zR\0\x01\x78\x10\x7f\x1b"),
        ("an aligned pointer to the personality", b"\x01zPR\0\x01\x78\x10\x06\x50\x11\x22\x33\x44\x1b"),
        ("a factor of five bytes", b"\x01zR\0\x81\x80\x80\x80\x00\x78\x10\x01\x1b"),
    ];
    for (kind, common) in kinds {
        assert_eq!(rows(&written(common, &[0], &[])), Err(Unusual), "{kind}");
    }
    let initial: [(&str, &[u8]); 6] = [
        ("a row", &[0x41]),
        ("restore", &[0xd0]),
        ("remember_state", &[0x0a]),
        ("restore_state", &[0x0b]),
        ("a rule beside that of the return address", &[0x83, 2]),
        ("an unknown instruction", &[0x3f]),
    ];
    for (kind, instructions) in initial {
        let common = [&good, instructions].concat();
        assert_eq!(rows(&written(&common, &[0], &[])), Err(Unusual), "{kind}");
    }
}

#[test]
fn an_entry_of_another_kind_is_unusual() {
    let good = written(&[&b"\x01zR\0\x01\x78\x10\x01\x1b"[..], &GCC_RULES].concat(), &[0], &[]);
    let common = 4 + usize::from(good[0]);
    let fde = ADDRESS + u64::try_from(common).unwrap();
    let read = |bytes: &[u8], fde| Function::at(Section { address: ADDRESS, bytes }, fde).map(|_| ());
    assert_eq!(read(&good, fde), Ok(()));
    for (kind, address) in [("a CIE", ADDRESS), ("before the section", ADDRESS - 1), ("behind it", fde + 0x100)] {
        assert_eq!(read(&good, address), Err(Unusual), "{kind}");
    }
    let changed = |at: usize, to: &[u8]| {
        let mut section = good.clone();
        section[common + at..common + at + to.len()].copy_from_slice(to);
        read(&section, fde)
    };
    assert_eq!(changed(0, &[0; 4]), Err(Unusual), "the terminator");
    assert_eq!(changed(0, &[0xff; 4]), Err(Unusual), "the 64-bit form");
    assert_eq!(changed(0, &[0xf0, 0xff, 0xff, 0xff]), Err(Unusual), "a reserved length");
    assert_eq!(changed(0, &[good[common] + 1]), Err(Unusual), "longer than the section");
    assert_eq!(changed(0, &[11]), Err(Unusual), "too short for its addresses");
    assert_eq!(changed(4, &[0xff]), Err(Unusual), "its CIE lies before the section");
    assert_eq!(changed(4, &[4]), Err(Unusual), "its CIE is itself");
    assert_eq!(changed(12, &[0xff; 4]), Err(Unusual), "code of -1 bytes");
    assert_eq!(changed(16, &[1]), Err(Unusual), "augmentation data longer than the entry");
    let lsda = written(&[&b"\x01zLR\0\x01\x78\x10\x02\x1b\x1b"[..], &GCC_RULES].concat(), &[3, 0, 0, 0], &[]);
    assert_eq!(rows(&lsda), Err(Unusual), "less augmentation data than its pointer needs");
}

#[test]
fn an_instruction_of_another_kind_is_unusual() {
    let long = [0x81, 0x80, 0x80, 0x80, 0x00];
    let kinds: [(&str, &[u8]); 23] = [
        ("unknown", &[0x3f]),
        ("set_loc", &[0x01, 0, 0x10, 0x40, 0, 0, 0, 0, 0]),
        ("negate_ra_state", &[0x2d]),
        ("GNU_negative_offset_extended", &[0x2f, 3, 1]),
        ("nothing to restore", &RESTORE_STATE),
        ("remembered twice", &[0x0a, 0x0a]),
        ("a register without a place", &[0x05, 17, 1]),
        ("offset of such", &[0x80 | 17, 1]),
        ("restore of such", &[0xc0 | 17]),
        ("same_value of such", &[0x08, 49]),
        ("a CFA by such", &[0x0c, 17, 8]),
        ("a rule by such", &[0x09, 3, 17]),
        ("a register of two bytes", &[0x07, 0x90, 0x01]),
        ("a number of five bytes", &[&[0x0e][..], &long].concat()),
        ("a signed number of five bytes", &[&[0x13][..], &long].concat()),
        ("args_size of five bytes", &[&[0x2e][..], &long].concat()),
        ("an offset of an expression", &[0x0f, 0, 0x0e, 8]),
        ("a register of an expression", &[0x0f, 0, 0x0d, 7]),
        ("an expression longer than the entry", &[0x0f, 0x7f, 0x77]),
        ("advance beyond the function", &[0x03, 1, 1]),
        ("advance far beyond", &[0x04, 0xff, 0xff, 0xff, 0xff]),
        ("cut short", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0c, 7]),
        ("advance cut short", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x03]),
    ];
    for (kind, instructions) in kinds {
        // There is no padding behind them, which would complete what is cut short.
        let common = [&b"\x01zR\0\x01\x78\x10\x01\x1b"[..], &GCC_RULES].concat();
        assert_eq!(rows(&written(&common, &[0], instructions)), Err(Unusual), "{kind}");
    }
}

#[test]
fn an_offset_that_does_not_fit_is_unusual() {
    let section = |low| {
        let common = [&b"\x01zR\0\x01\x70\x10\x01\x1b"[..], &GCC_RULES].concat();
        written(&common, &[0], &[0x83, low, 0x80, 0x80, 0x40, 0, 0])
    };
    let least = vec![(RBX, CompactRule::Offset(i32::MIN)), (RA, CompactRule::Offset(-16))];
    assert_eq!(rows(&section(0x80)).unwrap().remove(0).2, least);
    assert_eq!(rows(&section(0x81)), Err(Unusual));
}

#[test]
fn a_row_is_small() {
    assert!(size_of::<Compact>() <= 112, "{} bytes", size_of::<Compact>());
}
