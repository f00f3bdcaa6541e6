//! Our own evaluator of call frame instructions: DWARF 5 section 6.4.2.

use crate::cursor::Cursor;
use crate::{Compact, CompactCfa, CompactExpression, CompactRule, Function, Unusual};
use core::ops::ControlFlow;

impl Function<'_> {
    /// Lends every row to `see`, in their order, until it breaks off. They cover the function without a gap, and none
    /// is empty.
    ///
    /// # Errors
    /// The rows from there on are for gimli to find.
    pub fn rows(&self, see: &mut impl FnMut(&Compact) -> ControlFlow<()>) -> Result<(), Unusual> {
        let mut run = Run::new(self);
        run.begin()?;
        let ended = run.follow(self.program, |row, next| {
            row.end = next;
            let seen = if row.start < row.end { see(row) } else { ControlFlow::Continue(()) };
            row.start = next;
            Ok(seen)
        })?;
        run.row.end = self.end;
        if ended.is_continue() && run.row.start < self.end {
            let _last = see(&run.row);
        }
        Ok(())
    }

    /// The row in force at a linked address; `None` where the function has no code.
    ///
    /// # Errors
    /// It is for gimli to find.
    pub fn row_at(&self, linked: u64) -> Result<Option<Compact>, Unusual> {
        if !self.contains(linked) {
            return Ok(None);
        }
        let mut run = Run::new(self);
        run.begin()?;
        let _ended = run.follow(self.program, |row, next| {
            if next > linked {
                row.end = next;
                return Ok(ControlFlow::Break(()));
            }
            row.start = next;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Some(run.row))
    }
}

/// Instructions being followed.
struct Run<'f> {
    function: &'f Function<'f>,
    /// The row as far as it is known.
    row: Compact,
    /// The rule that the CIE's instructions gave the return address; not to be asked for while they run.
    initial: Result<Option<CompactRule>, Unusual>,
    /// What `DW_CFA_remember_state` kept. Compilers do not nest it; gimli follows those who do.
    remembered: Option<Compact>,
}

impl<'f> Run<'f> {
    #[inline(always)]
    fn new(function: &'f Function<'f>) -> Self {
        let row = Compact::of(function.start, function.end, function.base);
        Self { function, row, initial: Err(Unusual), remembered: None }
    }

    /// Follows the CIE's instructions.
    #[inline(always)]
    fn begin(&mut self) -> Result<(), Unusual> {
        // Rows within a CIE mean nothing, and no CIE for x86_64 says more than where the return address is.
        let _ended = self.follow(self.function.initial, |_, _| Err(Unusual))?;
        let initial = self.row.rule(self.function.return_register);
        if self.row.has_other_rules(self.function.return_register) || self.remembered.is_some() {
            return Err(Unusual);
        }
        self.initial = Ok(initial);
        Ok(())
    }

    /// Follows instructions to the end, or until `next_row` breaks off: it is called with the row and where the next
    /// one begins, whenever one is complete.
    #[inline(always)]
    fn follow(
        &mut self,
        mut rest: Cursor<'f>,
        mut next_row: impl FnMut(&mut Compact, u64) -> Result<ControlFlow<()>, Unusual>,
    ) -> Result<ControlFlow<()>, Unusual> {
        while let Some(instruction) = rest.next() {
            let low = u32::from(instruction & 0x3f);
            let distance = match instruction {
                0x40..0x80 => low,
                0x80..0xc0 => {
                    let offset = self.factored(rest.unsigned()?)?;
                    self.set(low, CompactRule::Offset(offset))?;
                    continue;
                }
                0xc0.. => {
                    self.restore(low)?;
                    continue;
                }
                NOP => continue,
                ADVANCE_LOC1 => u32::from(rest.byte()?),
                ADVANCE_LOC2 => u32::from(u16::from_le_bytes(rest.bytes()?)),
                ADVANCE_LOC4 => u32::from_le_bytes(rest.bytes()?),
                DEF_CFA => {
                    self.row.cfa = CompactCfa::Register(register(&mut rest)?, rest.unsigned()?.cast_signed());
                    continue;
                }
                DEF_CFA_OFFSET => {
                    self.cfa_offset(rest.unsigned()?.cast_signed())?;
                    continue;
                }
                _ => {
                    rest = self.other(instruction, rest)?;
                    continue;
                }
            };
            let next = self.advanced(distance)?;
            if next_row(&mut self.row, next)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Where the row after this one begins. A row that reaches beyond its function is none that a compiler writes.
    #[inline(always)]
    fn advanced(&self, distance: u32) -> Result<u64, Unusual> {
        let bytes = u64::from(distance) * u64::from(self.function.code_factor);
        self.row.start.checked_add(bytes).filter(|next| *next <= self.function.end).ok_or(Unusual)
    }

    /// Follows one of the other instructions, and returns what is behind it.
    fn other(&mut self, instruction: u8, mut rest: Cursor<'f>) -> Result<Cursor<'f>, Unusual> {
        match instruction {
            REMEMBER_STATE => {
                if self.remembered.replace(self.row).is_some() {
                    return Err(Unusual);
                }
            }
            RESTORE_STATE => {
                let start = self.row.start;
                self.row = self.remembered.take().ok_or(Unusual)?;
                self.row.start = start;
            }
            RESTORE_EXTENDED => self.restore(rest.unsigned()?)?,
            DEF_CFA_SF => {
                self.row.cfa = CompactCfa::Register(register(&mut rest)?, self.factored_signed(rest.signed()?)?);
            }
            DEF_CFA_REGISTER => {
                let CompactCfa::Register(_, offset) = self.row.cfa else { return Err(Unusual) };
                self.row.cfa = CompactCfa::Register(register(&mut rest)?, offset);
            }
            DEF_CFA_OFFSET_SF => self.cfa_offset(self.factored_signed(rest.signed()?)?)?,
            DEF_CFA_EXPRESSION => self.row.cfa = CompactCfa::Expression(expression(&mut rest)?),
            GNU_ARGS_SIZE => {
                rest.unsigned()?;
            }
            _ => {
                let ruled = rest.unsigned()?;
                self.set(
                    ruled,
                    match instruction {
                        OFFSET_EXTENDED => CompactRule::Offset(self.factored(rest.unsigned()?)?),
                        OFFSET_EXTENDED_SF => CompactRule::Offset(self.factored_signed(rest.signed()?)?),
                        VAL_OFFSET => CompactRule::ValOffset(self.factored(rest.unsigned()?)?),
                        VAL_OFFSET_SF => CompactRule::ValOffset(self.factored_signed(rest.signed()?)?),
                        UNDEFINED => CompactRule::Undefined,
                        SAME_VALUE => CompactRule::SameValue,
                        REGISTER => CompactRule::Register(register(&mut rest)?),
                        EXPRESSION => CompactRule::Expression(expression(&mut rest)?),
                        VAL_EXPRESSION => CompactRule::ValExpression(expression(&mut rest)?),
                        _ => return Err(Unusual),
                    },
                )?;
            }
        }
        Ok(rest)
    }

    #[inline(always)]
    fn set(&mut self, register: u32, rule: CompactRule) -> Result<(), Unusual> {
        self.row.set(register, rule).ok_or(Unusual)
    }

    /// Gives a register the rule that the CIE has for it.
    fn restore(&mut self, register: u32) -> Result<(), Unusual> {
        match self.initial? {
            Some(rule) if register == u32::from(self.function.return_register) => self.row.set(register, rule),
            _ => self.row.clear(register),
        }
        .ok_or(Unusual)
    }

    #[inline(always)]
    fn cfa_offset(&mut self, to: i32) -> Result<(), Unusual> {
        let CompactCfa::Register(_, offset) = &mut self.row.cfa else { return Err(Unusual) };
        *offset = to;
        Ok(())
    }

    #[inline(always)]
    fn factored(&self, number: u32) -> Result<i32, Unusual> {
        self.factored_signed(number.cast_signed())
    }

    #[inline(always)]
    fn factored_signed(&self, number: i32) -> Result<i32, Unusual> {
        number.checked_mul(self.function.data_factor).ok_or(Unusual)
    }
}

/// A register that has a place in a row.
#[inline(always)]
fn register(rest: &mut Cursor<'_>) -> Result<u8, Unusual> {
    let number = u8::try_from(rest.unsigned()?).map_err(|_| Unusual)?;
    if usize::from(number) < Compact::REGISTERS { Ok(number) } else { Err(Unusual) }
}

fn expression(rest: &mut Cursor<'_>) -> Result<CompactExpression, Unusual> {
    let length = rest.unsigned()?;
    let bytes = rest.split(length)?;
    let offset = u32::try_from(bytes.offset()).map_err(|_| Unusual)?;
    Ok(CompactExpression { offset, length: u16::try_from(length).map_err(|_| Unusual)? })
}

// DW_CFA_*, DWARF 5 section 7.24. Above them, in the first two bits: 1 advance_loc, 2 offset, 3 restore.
const NOP: u8 = 0x00;
const ADVANCE_LOC1: u8 = 0x02;
const ADVANCE_LOC2: u8 = 0x03;
const ADVANCE_LOC4: u8 = 0x04;
const OFFSET_EXTENDED: u8 = 0x05;
const RESTORE_EXTENDED: u8 = 0x06;
const UNDEFINED: u8 = 0x07;
const SAME_VALUE: u8 = 0x08;
const REGISTER: u8 = 0x09;
const REMEMBER_STATE: u8 = 0x0a;
const RESTORE_STATE: u8 = 0x0b;
const DEF_CFA: u8 = 0x0c;
const DEF_CFA_REGISTER: u8 = 0x0d;
const DEF_CFA_OFFSET: u8 = 0x0e;
const DEF_CFA_EXPRESSION: u8 = 0x0f;
const EXPRESSION: u8 = 0x10;
const OFFSET_EXTENDED_SF: u8 = 0x11;
const DEF_CFA_SF: u8 = 0x12;
const DEF_CFA_OFFSET_SF: u8 = 0x13;
const VAL_OFFSET: u8 = 0x14;
const VAL_OFFSET_SF: u8 = 0x15;
const VAL_EXPRESSION: u8 = 0x16;
/// Of GNU: what the caller pushed, which no row depends on.
const GNU_ARGS_SIZE: u8 = 0x2e;
