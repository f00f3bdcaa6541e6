//! Tables of unwind information that no linker writes: each says of each address what the full evaluator says.

use surestack::this_process::{NoTable, compile};
use surestack_cfi::{DwarfRows, Lookup, Rows};
use surestack_drawing::Stack;
use surestack_drawing::cfi::{
    Fde, advance, def_cfa, def_cfa_expression, def_cfa_offset, eh_frame, eh_frame_hdr, expression, offset, same_value,
    undefined, val_offset,
};
use surestack_drawing::{Sections, cfi};
use surestack_fast::{Packed, Ruled};
use surestack_oracle::random::Random;
use surestack_walk::{CodeAddress, Section, UnwindSections, X86_64};

const SECTION: u64 = 0x48_0000;
const HEADER: u64 = 0x49_0000;
const CODE: u64 = 0x40_1000;
/// Bytes of code that entries are drawn in.
const LENGTH: u64 = 0x400;

const RA: [u8; 2] = offset(16, 1);

/// Instructions that are each right, and some that our own reader leaves to gimli, or that are broken.
fn instructions(random: &mut Random) -> Vec<u8> {
    let mut made = [&def_cfa(7, 8)[..], &RA].concat();
    for _ in 0..random.below(6) {
        let by = u8::try_from(random.below(40)).unwrap();
        made.extend(advance(by));
        let words = u8::try_from(1 + random.below(14)).unwrap();
        match random.below(16) {
            0..5 => made.extend(def_cfa_offset(8 * words)),
            5 => made.extend(def_cfa(6, 8 * words)),
            6 => made.extend(offset(6, words)),
            7 => made.extend(offset(3, words)),
            8 => made.extend(same_value(6)),
            9 => made.extend(val_offset(7, random.below(2).try_into().unwrap())),
            10 => made.extend(def_cfa_expression(&[0x76, 0x78, 0x06])),
            11 => made.extend(expression(6, &[0x76, 0])),
            12 => made.extend(undefined(16)),
            // Remembered twice: gimli's. Restored without: broken.
            13 => made.extend([cfi::REMEMBER, cfi::REMEMBER].concat()),
            14 => made.extend(cfi::RESTORE_STATE),
            // DW_CFA_set_loc, and what is no instruction.
            _ => made.push(random.one(&[0x01, 0x3f, 0x2d]).copied().unwrap()),
        }
    }
    made
}

/// Entries that overlap, begin at the same address, are empty, or reach beyond each other.
fn entries(random: &mut Random) -> Vec<Fde> {
    let mut drawn = || {
        let start = CODE + 8 * (random.number() % (LENGTH / 8));
        let length = [0, 1, 16, 64, 64, 64, 200].get(random.below(7)).copied().unwrap();
        let entry = Fde::new(&[&instructions(random)]).of(start..start + length);
        match random.below(12) {
            0 => entry.augmented("S"),
            1 => entry.returning_by(3),
            _ => entry,
        }
    };
    (0..12).map(|_| drawn()).collect()
}

/// A search table that says the right places, or others.
fn header(entries: &[Fde], random: &mut Random) -> Vec<u8> {
    let mut bytes = eh_frame_hdr(HEADER, SECTION, entries);
    let pairs = (bytes.len() - 12) / 8;
    match random.below(4) {
        // An entry is said to begin elsewhere, or to lie elsewhere.
        0 => {
            let at = 12 + 8 * random.below(pairs) + 4 * random.below(2);
            bytes[at] ^= 1 << random.below(8);
        }
        // Two are in the wrong order.
        1 if random.below(3) == 0 => {
            let at = 12 + 8 * random.below(pairs - 1);
            let (one, other) = bytes[at..at + 16].split_at_mut(8);
            one.swap_with_slice(other);
        }
        _ => {}
    }
    bytes
}

#[test]
fn tables_say_of_each_address_what_the_full_evaluator_says() {
    let mut random = Random::of("tables");
    let (mut compiled, mut unsorted, mut rules, mut asks) = (0, 0, 0, 0);
    for round in 0..3000 {
        let entries = entries(&mut random);
        let (section, header) = (eh_frame(&entries), header(&entries, &mut random));
        let unwind = UnwindSections {
            eh_frame: Some(Section { address: SECTION, bytes: &section }),
            eh_frame_hdr: Some(Section { address: HEADER, bytes: &header }),
            ..UnwindSections::default()
        };
        let table = match compile(&unwind, |_, _| false) {
            Ok(table) => table,
            Err(why) => {
                assert!(matches!(why, NoTable::Unsorted | NoTable::TooLarge | NoTable::Nothing), "{why:?}");
                unsorted += 1;
                continue;
            }
        };
        compiled += 1;
        let stack = Stack::at(0x7000).sections(Sections {
            eh_frame: Some((SECTION, section.clone())),
            eh_frame_hdr: Some((HEADER, header.clone())),
            ..Sections::default()
        });
        stack.with(|target| {
            for linked in CODE - 0x100..CODE + LENGTH + 0x200 {
                let pc = CodeAddress::Exact(linked);
                let full = match DwarfRows.row(target, pc, |row| Packed::of(row, &X86_64)) {
                    Ok(Lookup::Row(rule)) => Some(rule),
                    Ok(Lookup::Missing(_)) | Err(_) => None,
                };
                match table.look_up(linked) {
                    Ruled::Ask => asks += 1,
                    Ruled::Nothing => assert_eq!(full, None, "round {round}, {linked:#x}"),
                    Ruled::Rule(rule) => {
                        rules += 1;
                        assert_eq!(full, Some(rule), "round {round}, {linked:#x}: {entries:x?}");
                    }
                }
            }
        });
    }
    assert!(
        compiled > 2500 && unsorted > 50 && rules > 500_000 && asks > 500_000,
        "{compiled} {unsorted} {rules} {asks}"
    );
}
