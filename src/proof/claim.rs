//! What the rows of one function claim, in the terms of the analysis.

use super::Source;
use super::layout::{Extent, bases};
use crate::analysis::{CALLEE_SAVED, SP};
use gimli::{EndianSlice, LittleEndian, RegisterRule, UnwindSection};
use surestack_walk::{RowSource, Section};

/// Most rows of one function.
const MOST: usize = 1 << 16;
/// The return address column on x86_64.
const RETURN: gimli::Register = gimli::X86_64::RA;

/// Bytes of a DWARF expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The section they are in.
    pub section: RowSource,
    /// Offset of the first.
    pub offset: usize,
    /// How many.
    pub length: usize,
}

/// How a row finds the canonical frame address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cfa {
    /// A register, by its hardware number, plus a constant.
    Register(u8, i64),
    /// An expression.
    Expression(Bytes),
    /// In a way that is not understood here.
    Strange,
}

/// How a row finds a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It was not changed.
    Kept,
    /// Not at all.
    Undefined,
    /// At the canonical frame address plus this.
    At(i64),
    /// It is the canonical frame address plus this.
    Sum(i64),
    /// In another register.
    In(u8),
    /// Where an expression says.
    AtExpression(Bytes),
    /// What an expression says.
    Expression(Bytes),
    /// In a way that is not understood here.
    Strange,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// First address for which it holds.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The canonical frame address.
    pub cfa: Cfa,
    /// The return address.
    pub return_address: Saved,
    /// The registers of [`CALLEE_SAVED`], in that order.
    pub saved: [Saved; 6],
    /// The registers that it reads, by hardware number, a bit for each.
    pub reads: u16,
    /// Bytes of arguments that were pushed and that whoever catches an exception pops.
    pub arguments: u64,
}

impl Claim {
    /// Whether it is what the ABI says at the entry of a function.
    pub fn is_entry(&self) -> bool {
        self.cfa == Cfa::Register(SP, 8)
            && self.return_address == Saved::At(-8)
            && self.saved.iter().all(|saved| *saved == Saved::Kept)
    }

    /// Whether anything that it reads may lie in the `size` bytes from `offset` above the canonical frame address.
    pub fn may_lie_in(&self, offset: i64, size: u32) -> bool {
        let end = offset.saturating_add(i64::from(size));
        let rules = self.saved.iter().chain([&self.return_address]).any(|rule| match rule {
            Saved::At(at) => *at < end && offset < at.saturating_add(8),
            Saved::AtExpression(_) | Saved::Expression(_) | Saved::Strange => true,
            Saved::Kept | Saved::Undefined | Saved::Sum(_) | Saved::In(_) => false,
        });
        rules || !matches!(self.cfa, Cfa::Register(..))
    }

    /// The registers that it reads: an expression may read any.
    pub fn registers(&self) -> u16 {
        let one = |number: u8| 1u16.checked_shl(u32::from(number)).unwrap_or(0);
        let frame = match self.cfa {
            Cfa::Register(number, _) => one(number),
            Cfa::Expression(_) | Cfa::Strange => u16::MAX,
        };
        let rules = self.saved.iter().chain([&self.return_address]).map(|rule| match rule {
            Saved::In(number) => one(*number),
            Saved::AtExpression(_) | Saved::Expression(_) | Saved::Strange => u16::MAX,
            Saved::Kept | Saved::Undefined | Saved::At(_) | Saved::Sum(_) => 0,
        });
        // What is said to be unchanged, and what lies so far from the stack pointer that nobody writes there.
        let always = CALLEE_SAVED.iter().chain([&SP]).map(|number| one(*number));
        rules.chain(always).fold(frame, |all, registers| all | registers)
    }
}

/// The rows of one function.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Ascending.
    pub rows: Vec<Claim>,
    /// Whether it is entered by a signal.
    pub signal: bool,
}

/// The hardware number of a DWARF register.
pub fn hardware(register: gimli::Register) -> Option<u8> {
    /// Hardware numbers of rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp.
    const HARDWARE: [u8; 8] = [0, 2, 1, 3, 6, 7, 5, 4];
    let number = usize::from(register.0);
    match HARDWARE.get(number) {
        Some(found) => Some(*found),
        None => u8::try_from(number).ok().filter(|number| *number < 16),
    }
}

/// The DWARF register with a hardware number.
pub fn dwarf(number: u8) -> gimli::Register {
    const DWARF: [u16; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
    gimli::Register(DWARF.get(usize::from(number)).copied().unwrap_or(u16::from(number)))
}

/// Reads the rows of functions, one after the other.
pub struct Reader<'s, 'm> {
    source: &'s Source<'m>,
    context: gimli::UnwindContext<usize>,
}

impl<'s, 'm> Reader<'s, 'm> {
    /// Reads from `source`.
    pub fn new(source: &'s Source<'m>) -> Self {
        Self { source, context: gimli::UnwindContext::new() }
    }

    /// The rows of `function`; `None` where they cannot be read.
    pub fn rows(&mut self, function: &Extent) -> Option<Claims> {
        let bytes = section(self.source, function.section)?;
        if function.section == RowSource::DebugFrame {
            let table = debug_frame(bytes);
            return self.read(&table, bytes.address, gimli::DebugFrameOffset(function.fde), function.section);
        }
        self.read(&eh_frame(bytes), bytes.address, gimli::EhFrameOffset(function.fde), function.section)
    }

    fn read<S>(&mut self, table: &S, address: u64, offset: S::Offset, section: RowSource) -> Option<Claims>
    where
        S: UnwindSection<EndianSlice<'m, LittleEndian>>,
        S::Offset: gimli::UnwindOffset<usize>,
    {
        let bases = bases(self.source, address);
        let fde = table.fde_from_offset(&bases, offset, S::cie_from_offset).ok()?;
        if fde.cie().return_address_register() != RETURN {
            return None;
        }
        let mut rows = fde.rows(table, &bases, &mut self.context).ok()?;
        let mut claims = Claims { rows: Vec::new(), signal: fde.is_signal_trampoline() };
        while let Some(row) = rows.next_row().ok()? {
            if claims.rows.len() == MOST {
                return None;
            }
            claims.rows.push(claim(row, section));
        }
        Some(claims)
    }
}

/// A section with unwind information.
pub fn section<'m>(source: &Source<'m>, which: RowSource) -> Option<Section<'m>> {
    match which {
        RowSource::EhFrame => source.unwind.eh_frame,
        RowSource::DebugFrame => source.unwind.debug_frame,
        RowSource::Table => None,
    }
}

/// `.eh_frame` as gimli reads it.
pub fn eh_frame(section: Section<'_>) -> gimli::EhFrame<EndianSlice<'_, LittleEndian>> {
    let mut eh_frame = gimli::EhFrame::new(section.bytes, LittleEndian);
    eh_frame.set_address_size(8);
    eh_frame
}

/// `.debug_frame` as gimli reads it.
pub fn debug_frame(section: Section<'_>) -> gimli::DebugFrame<EndianSlice<'_, LittleEndian>> {
    let mut debug_frame = gimli::DebugFrame::new(section.bytes, LittleEndian);
    debug_frame.set_address_size(8);
    debug_frame
}

fn claim(row: &gimli::UnwindTableRow<usize>, section: RowSource) -> Claim {
    let cfa = match row.cfa() {
        gimli::CfaRule::RegisterAndOffset { register, offset } => {
            hardware(*register).map_or(Cfa::Strange, |number| Cfa::Register(number, *offset))
        }
        gimli::CfaRule::Expression(expression) => Cfa::Expression(bytes(expression, section)),
    };
    let mut claim = Claim {
        start: row.start_address(),
        end: row.end_address(),
        cfa,
        return_address: Saved::Kept,
        saved: [Saved::Kept; 6],
        reads: 0,
        arguments: row.saved_args_size(),
    };
    for (register, rule) in row.registers() {
        if *register == RETURN {
            claim.return_address = saved(rule, section);
        } else if let Some(number) = hardware(*register)
            && let Some(index) = CALLEE_SAVED.iter().position(|known| *known == number)
            && let Some(place) = claim.saved.get_mut(index)
        {
            *place = saved(rule, section);
        }
    }
    claim.reads = claim.registers();
    claim
}

fn saved<R: gimli::ReaderOffset>(rule: &RegisterRule<R>, section: RowSource) -> Saved {
    match rule {
        RegisterRule::Undefined => Saved::Undefined,
        RegisterRule::SameValue => Saved::Kept,
        RegisterRule::Offset(offset) => Saved::At(*offset),
        RegisterRule::ValOffset(offset) => Saved::Sum(*offset),
        RegisterRule::Register(other) => hardware(*other).map_or(Saved::Strange, Saved::In),
        RegisterRule::Expression(expression) => Saved::AtExpression(bytes(expression, section)),
        RegisterRule::ValExpression(expression) => Saved::Expression(bytes(expression, section)),
        _ => Saved::Strange,
    }
}

fn bytes<R: gimli::ReaderOffset>(expression: &gimli::UnwindExpression<R>, section: RowSource) -> Bytes {
    Bytes {
        section,
        offset: expression.offset.into_u64().try_into().unwrap_or(usize::MAX),
        length: expression.length.into_u64().try_into().unwrap_or(0),
    }
}

/// The bytes of an expression.
pub fn expression<'m>(source: &Source<'m>, at: Bytes) -> Option<EndianSlice<'m, LittleEndian>> {
    let bytes = section(source, at.section)?.bytes.get(at.offset..at.offset.checked_add(at.length)?)?;
    Some(EndianSlice::new(bytes, LittleEndian))
}

/// The registers, by hardware number, that an expression reads.
pub fn registers_of(mut expression: EndianSlice<'_, LittleEndian>) -> Vec<u8> {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 5 };
    let mut found = Vec::new();
    while let Ok(operation) = gimli::Operation::parse(&mut expression, encoding) {
        if let gimli::Operation::RegisterOffset { register, .. } = operation {
            found.extend(hardware(register));
        }
    }
    found
}
