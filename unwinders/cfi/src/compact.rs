//! One row as its entry writes it: linked addresses and DWARF numbers, in 112 bytes.

use core::fmt;

/// A row, decoded and not yet made the target's: how the caller's registers are found from one range of code.
#[derive(Clone, Copy)]
pub struct Compact {
    /// Linked address of the code for which the row holds.
    pub start: u64,
    /// One past the last of it.
    pub end: u64,
    /// How the canonical frame address is found.
    pub cfa: CompactCfa,
    /// Offset in the section of the entry's instructions; expressions are counted from there.
    base: u32,
    /// Three bits for each register: the kind of its rule, 0 for none.
    kinds: u64,
    /// What the rules say. Where there is none it means nothing.
    values: [u32; Self::REGISTERS],
}

/// How the canonical frame address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactCfa {
    /// The value of the register with this DWARF number, plus an offset.
    Register(u8, i32),
    /// What an expression leaves on its stack.
    Expression(CompactExpression),
}

/// How one register of the caller is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactRule {
    /// It cannot be found.
    Undefined,
    /// It was not changed.
    SameValue,
    /// It was saved at the CFA plus this.
    Offset(i32),
    /// It is the CFA plus this.
    ValOffset(i32),
    /// It is in the register with this DWARF number.
    Register(u8),
    /// It was saved at the address an expression gives.
    Expression(CompactExpression),
    /// It is what an expression gives.
    ValExpression(CompactExpression),
}

/// Bytes of a DWARF expression within the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactExpression {
    /// Offset of the first byte.
    pub offset: u32,
    /// Number of bytes.
    pub length: u16,
}

/// Bits of a kind.
const BITS: u32 = 3;
const KIND: u64 = 7;

impl Compact {
    /// How many registers have a place: x86_64's general registers and its return address. Those of aarch64 have
    /// higher numbers.
    pub const REGISTERS: usize = 17;

    /// A row that says nothing about `start` to `end`.
    #[inline(always)]
    pub(crate) const fn of(start: u64, end: u64, base: u32) -> Self {
        Self { start, end, cfa: CompactCfa::Register(0, 0), base, kinds: 0, values: [0; Self::REGISTERS] }
    }

    /// The rule of the register with this DWARF number, if the row has one.
    pub fn rule(&self, register: u8) -> Option<CompactRule> {
        let value = *self.values.get(usize::from(register))?;
        let kind = self.kinds.wrapping_shr(u32::from(register).wrapping_mul(BITS)) & KIND;
        let expression = || CompactExpression {
            offset: self.base.wrapping_add(value >> 16),
            length: u16::try_from(value & 0xffff).unwrap_or_default(),
        };
        Some(match kind {
            0 => return None,
            1 => CompactRule::Offset(value.cast_signed()),
            2 => CompactRule::ValOffset(value.cast_signed()),
            3 => CompactRule::Register(u8::try_from(value).unwrap_or_default()),
            4 => CompactRule::Undefined,
            5 => CompactRule::SameValue,
            6 => CompactRule::Expression(expression()),
            _ => CompactRule::ValExpression(expression()),
        })
    }

    /// All rules, each with its register's DWARF number, in their order.
    #[inline]
    pub fn rules(&self) -> impl Iterator<Item = (u8, CompactRule)> + '_ {
        let mut left = self.kinds;
        core::iter::from_fn(move || {
            let register = u8::try_from(left.trailing_zeros() / BITS).ok()?;
            left &= !KIND.wrapping_shl(u32::from(register).wrapping_mul(BITS));
            Some((register, self.rule(register)?))
        })
    }

    /// Whether a register other than this one has a rule.
    #[inline(always)]
    pub(crate) fn has_other_rules(&self, register: u8) -> bool {
        self.kinds & !KIND.wrapping_shl(u32::from(register).wrapping_mul(BITS)) != 0
    }

    /// Sets the rule of a register; `None` when it, or the rule, is one that has no place.
    #[inline(always)]
    #[must_use]
    pub(crate) fn set(&mut self, register: u32, rule: CompactRule) -> Option<()> {
        let expression = |bytes: CompactExpression| {
            let offset = u16::try_from(bytes.offset.checked_sub(self.base)?).ok()?;
            Some(u32::from(offset) << 16 | u32::from(bytes.length))
        };
        let (kind, value) = match rule {
            CompactRule::Offset(offset) => (1, offset.cast_unsigned()),
            CompactRule::ValOffset(offset) => (2, offset.cast_unsigned()),
            CompactRule::Register(other) => (3, u32::from(other)),
            CompactRule::Undefined => (4, 0),
            CompactRule::SameValue => (5, 0),
            CompactRule::Expression(bytes) => (6, expression(bytes)?),
            CompactRule::ValExpression(bytes) => (7, expression(bytes)?),
        };
        *self.values.get_mut(usize::try_from(register).ok()?)? = value;
        let shift = register.wrapping_mul(BITS);
        self.kinds = self.kinds & !KIND.wrapping_shl(shift) | u64::wrapping_shl(kind, shift);
        Some(())
    }

    /// Takes away the rule of a register; `None` when it has no place.
    #[must_use]
    pub(crate) fn clear(&mut self, register: u32) -> Option<()> {
        self.values.get(usize::try_from(register).ok()?)?;
        self.kinds &= !KIND.wrapping_shl(register.wrapping_mul(BITS));
        Some(())
    }
}

impl fmt::Debug for Compact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#x}..{:#x} {:?} ", self.start, self.end, self.cfa)?;
        out.debug_map().entries(self.rules()).finish()
    }
}
