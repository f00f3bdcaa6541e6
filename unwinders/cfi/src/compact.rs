//! One row as its entry writes it: linked addresses and DWARF numbers, in 168 bytes.

/// A row, decoded and not yet made the target's: how the caller's registers are found from one range of code.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    /// Linked address of the code for which the row holds.
    pub start: u64,
    /// One past the last of it.
    pub end: u64,
    /// How the canonical frame address is found.
    pub cfa: CompactCfa,
    /// One bit for each register that has a rule; the others' places in `rules` mean nothing.
    ruled: u32,
    rules: [CompactRule; Self::REGISTERS],
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

impl Compact {
    /// How many registers have a place: x86_64's general registers and its return address. Those of aarch64 have
    /// higher numbers.
    pub const REGISTERS: usize = 17;

    /// A row that says nothing about `start` to `end`.
    pub(crate) const fn of(start: u64, end: u64) -> Self {
        let rules = [CompactRule::Undefined; Self::REGISTERS];
        Self { start, end, cfa: CompactCfa::Register(0, 0), ruled: 0, rules }
    }

    /// The rule of the register with this DWARF number, if the row has one.
    pub fn rule(&self, register: u8) -> Option<CompactRule> {
        let ruled = 1_u32.checked_shl(u32::from(register)).is_some_and(|bit| self.ruled & bit != 0);
        self.rules.get(usize::from(register)).copied().filter(|_| ruled)
    }

    /// All rules, each with its register's DWARF number, in their order.
    #[inline]
    pub fn rules(&self) -> impl Iterator<Item = (u8, CompactRule)> + '_ {
        let mut left = self.ruled;
        core::iter::from_fn(move || {
            let place = left.trailing_zeros();
            let register = u8::try_from(place).ok()?;
            let rule = self.rules.get(usize::from(register))?;
            left &= left.wrapping_sub(1);
            Some((register, *rule))
        })
    }

    /// The rule, where there is one and no other.
    pub(crate) fn only_rule(&self) -> Option<(u8, CompactRule)> {
        if self.ruled.is_power_of_two() { self.rules().next() } else { None }
    }

    /// Sets or takes away the rule of a register. Returns whether it has a place.
    #[inline(always)]
    #[must_use]
    pub(crate) fn set(&mut self, register: u32, rule: Option<CompactRule>) -> bool {
        let Some(bit) = 1_u32.checked_shl(register) else { return false };
        let place = usize::try_from(register).ok().and_then(|register| self.rules.get_mut(register));
        let Some(place) = place else { return false };
        match rule {
            Some(rule) => {
                *place = rule;
                self.ruled |= bit;
            }
            None => self.ruled &= !bit,
        }
        true
    }
}
