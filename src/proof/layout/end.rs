//! How functions end: past the end of some, written by hand, control gets into the next.

use super::{Extent, read};
use crate::proof::Source;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// Most bytes that fill the space between two functions of which one leads into the other.
const SPACE: u64 = 16;
/// Bytes of the longest ending that is known by its bytes.
const LONGEST: u64 = 8;

/// Indices of the functions past whose end control gets into the next one, ascending.
pub(super) fn falling(source: &Source<'_>, functions: &[Extent]) -> Vec<u32> {
    let mut bytes = Vec::new();
    let pairs = functions.iter().zip(functions.iter().skip(1)).enumerate();
    let falls = pairs.filter(|(_, (function, next))| {
        let near = next.start.checked_sub(function.end).is_some_and(|space| space < SPACE);
        near && !is_closed(source, function, &mut bytes)
            && runs_on(source, function, &mut bytes)
            && is_space(source, function.end, next.start, &mut bytes)
    });
    falls.filter_map(|(index, _)| u32::try_from(index).ok()).collect()
}

/// Whether the last bytes of a function are those of a return, a jump or a call: what ends with a call ends with one that
/// does not come back. Saves decoding nearly every function.
fn is_closed(source: &Source<'_>, function: &Extent, bytes: &mut Vec<u8>) -> bool {
    let from = function.end.saturating_sub(LONGEST).max(function.start);
    if !read(source, from, function.end, bytes) {
        return false;
    }
    let filled = bytes.iter().rev().take_while(|byte| **byte == 0x90).count();
    let code = bytes.get(..bytes.len().saturating_sub(filled)).unwrap_or_default();
    let back = |count: usize| code.len().checked_sub(count).and_then(|at| code.get(at..));
    matches!(back(1), Some([0xc3 | 0xf4 | 0xcc]))
        || matches!(back(2), Some([0xeb, _] | [0x0f, 0x0b] | [0xff, 0xd0..=0xd7 | 0xe0..=0xe7]))
        || matches!(back(5), Some([0xe8 | 0xe9, ..]))
        || matches!(back(6), Some([0xff, 0x15 | 0x25, ..]))
}

/// Whether the last instruction of a function, what fills space aside, leads to the next.
fn runs_on(source: &Source<'_>, function: &Extent, bytes: &mut Vec<u8>) -> bool {
    if !read(source, function.start, function.end, bytes) {
        return false;
    }
    let mut decoder = Decoder::with_ip(64, bytes, function.start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut last = false;
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if !is_filler(&instruction) {
            last = leads_on(&instruction);
        }
    }
    last
}

fn leads_on(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::Next => instruction.mnemonic() != Mnemonic::Hlt && instruction.code() != Code::INVALID,
        FlowControl::ConditionalBranch | FlowControl::Interrupt | FlowControl::XbeginXabortXend => true,
        FlowControl::Call => instruction.mnemonic() != Mnemonic::Call,
        _ => false,
    }
}

fn is_filler(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
}

/// Whether nothing lies between two addresses but `nop`.
fn is_space(source: &Source<'_>, from: u64, to: u64, bytes: &mut Vec<u8>) -> bool {
    read(source, from, to, bytes)
        && Decoder::with_ip(64, bytes, from, DecoderOptions::NONE).iter().all(|found| found.mnemonic() == Mnemonic::Nop)
}
