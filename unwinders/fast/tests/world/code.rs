//! The module: functions of 64 bytes, one for each kind of row, and what comes after them.

use std::ops::Range;
use surestack_drawing::cfi::{
    Fde, advance, def_cfa, def_cfa_expression, eh_frame, eh_frame_hdr, expression, offset, register, undefined,
    val_expression, val_offset,
};

/// Everything that is mapped as code.
pub const CODE: Range<u64> = 0x40_0000..0x41_0000;
/// What is mapped, and no code.
pub const DATA: Range<u64> = 0x42_0000..0x43_0000;
/// Bytes of a function.
pub const SIZE: u64 = 64;
/// A trampoline without unwind information.
pub const TRAMPOLINE: u64 = 0x40_f000;
/// Code that belongs to no module, right behind the one that there is.
pub const GENERATED: Range<u64> = 0x41_0000..0x41_1000;
const EH_FRAME: u64 = 0x44_0000;
const HEADER: u64 = 0x45_0000;

/// What a function does with its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So many words, and where the frame pointer was saved.
    Sp(u8, Option<u8>),
    /// So many words above the frame pointer, which was saved there.
    Fp(u8, u8),
    /// Realigned: the canonical frame address was saved so many words below the frame pointer.
    Aligned(u8),
    /// An entry of the procedure linkage table, which pushes from this byte on.
    Linkage(u8),
    /// So many words, said in a way that only the full evaluator understands.
    Odd(u8),
    /// So many words; the caller's stack pointer is one word below.
    Below(u8),
    /// So many words, and another register that is kept in one that is not there.
    Lost(u8),
    /// So many words, and another register, by an expression that may not be read.
    Broken(u8),
    /// So many words, and the return address one word lower than anywhere.
    Elsewhere(u8),
    /// So many words, more than are written in a byte.
    Large(u16),
    /// The canonical frame address lies at the stack pointer.
    Hop,
    /// The canonical frame address is rbx.
    Rbx,
    /// Nobody called.
    Outermost,
    /// A row for the first half of it, another for the rest.
    Two(u8, u8),
    /// Nothing is said.
    Silent,
}

/// Code, and what is said of it.
pub struct Code {
    /// What each function does.
    pub kinds: Vec<Kind>,
    /// Where a trampoline was generated.
    pub generated: Option<u64>,
    /// `.eh_frame`.
    pub eh_frame: Option<(u64, Vec<u8>)>,
    /// `.eh_frame_hdr`.
    pub eh_frame_hdr: Option<(u64, Vec<u8>)>,
}

const RA: [u8; 2] = offset(16, 1);

impl Kind {
    /// Its instructions; none where nothing is said.
    fn instructions(self) -> Option<Vec<u8>> {
        let by_sp = |words: u8| [&def_cfa(7, words * 8)[..], &RA].concat();
        Some(match self {
            Self::Sp(words, None) => by_sp(words),
            Self::Sp(words, Some(saved)) => [&by_sp(words)[..], &offset(6, saved)].concat(),
            Self::Fp(words, saved) => [&def_cfa(6, words * 8)[..], &RA, &offset(6, saved)].concat(),
            Self::Aligned(below) => {
                [&def_cfa_expression(&[0x76, 0x80 - below * 8, 0x06])[..], &RA, &expression(6, &[0x76, 0])].concat()
            }
            Self::Linkage(from) => {
                let bytes = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x30 + from, 0x2a, 0x33, 0x24, 0x22];
                [&def_cfa_expression(&bytes)[..], &RA].concat()
            }
            Self::Odd(words) => [&def_cfa_expression(&[0x77, words * 8])[..], &RA].concat(),
            Self::Below(words) => [&by_sp(words)[..], &val_offset(7, 1)].concat(),
            Self::Lost(words) => [&by_sp(words)[..], &register(3, 11)].concat(),
            Self::Broken(words) => [&by_sp(words)[..], &val_expression(12, &[0x70 + 20, 0])].concat(),
            Self::Elsewhere(words) => [&def_cfa(7, words * 8)[..], &offset(16, 2)].concat(),
            Self::Large(words) => {
                let [low, high] = [words * 8 % 128, words * 8 / 128].map(|part| part.to_le_bytes());
                // DW_CFA_def_cfa_offset, in three bytes of which each but the last says that another comes.
                let wide = u16::from_le_bytes(high);
                let [middle, last] = [wide % 128, wide / 128].map(|part| u8::try_from(part).unwrap());
                [&by_sp(1)[..], &[0x0e, low[0] | 0x80, middle | 0x80, last]].concat()
            }
            Self::Hop => [&def_cfa_expression(&[0x77, 0, 0x06])[..], &RA].concat(),
            Self::Rbx => [&def_cfa(3, 0)[..], &RA].concat(),
            Self::Outermost => [&def_cfa(7, 8)[..], &undefined(16)].concat(),
            Self::Two(before, behind) => [&by_sp(before)[..], &advance(32), &def_cfa(7, behind * 8)].concat(),
            Self::Silent => return None,
        })
    }
}

impl Code {
    /// Functions of these kinds, with a search table.
    pub fn of(kinds: &[Kind]) -> Self {
        let entries = Self::entries(kinds);
        let section = eh_frame(&entries);
        let header = eh_frame_hdr(HEADER, EH_FRAME, &entries);
        Self {
            kinds: kinds.to_vec(),
            generated: None,
            eh_frame: Some((EH_FRAME, section)),
            eh_frame_hdr: Some((HEADER, header)),
        }
    }

    /// What is said of functions of these kinds.
    pub fn entries(kinds: &[Kind]) -> Vec<Fde> {
        let entry = |(index, kind): (u64, &Kind)| {
            let start = function(index);
            Some(Fde::new(&[&kind.instructions()?]).of(start..start + SIZE))
        };
        (0..).zip(kinds).filter_map(entry).collect()
    }

    /// The byte of code at an address.
    pub fn byte(&self, address: u64) -> Option<u8> {
        const RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
        let begins = if GENERATED.contains(&address) { self.generated } else { Some(TRAMPOLINE) };
        let at = begins.and_then(|begins| usize::try_from(address.checked_sub(begins)?).ok());
        let known = at.and_then(|at| RETURN.get(at).copied());
        (CODE.contains(&address) || GENERATED.contains(&address)).then_some(known.unwrap_or(0x90))
    }
}

/// Where a function begins.
pub const fn function(index: u64) -> u64 {
    CODE.start + 0x1000 + index * SIZE
}
