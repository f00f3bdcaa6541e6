//! A row: how the caller's registers are found from one range of code.

use core::ops::Range;
use surestack_walk::{Grade, Register, Root, RowSource};

/// How the caller's registers are found while the pc is in `range`. Addresses are the target's, bias included.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Code addresses for which the row holds.
    pub start: u64,
    /// One past the last of them.
    pub end: u64,
    /// The range of code that the row's table entry (FDE) describes.
    pub function: (u64, u64),
    /// Where the row came from.
    pub origin: Origin,
    /// What this code is to its caller.
    pub entry: Entry,
    /// How the canonical frame address is found.
    pub cfa: CfaRule,
    /// The register that holds the return address in the caller's row: the pc on x86_64, x30 on aarch64.
    pub return_register: Register,
    /// Rules of single registers.
    pub rules: Rules,
    /// The bytes that [`Expression`]s point into.
    pub expressions: &'a [u8],
}

/// What made a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Unwind information.
    Cfi(RowSource),
    /// The instructions of code without unwind information.
    Analysed(Grade),
}

/// What the code of a row is to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Called: the caller's pc is a return address.
    Called,
    /// Entered by a signal (augmentation `S`): the caller's pc is the interrupted instruction.
    Signal,
    /// Entered by nobody: the frame is outermost.
    Outermost(Root),
}

/// How the canonical frame address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfaRule {
    /// A register's value plus an offset.
    Register(Register, i64),
    /// What an expression leaves on its stack.
    Expression(Expression),
}

/// How one register of the caller is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It cannot be found.
    Undefined,
    /// It was not changed.
    SameValue,
    /// It was saved at the CFA plus this.
    Offset(i64),
    /// It is the CFA plus this.
    ValOffset(i64),
    /// It is in another register.
    Register(Register),
    /// It was saved at the address an expression gives.
    Expression(Expression),
    /// It is what an expression gives.
    ValExpression(Expression),
    /// It is this value (pseudo registers).
    Constant(u64),
}

/// Bytes of a DWARF expression within the row's `expressions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Offset of the first byte.
    pub offset: u32,
    /// Number of bytes.
    pub length: u32,
}

impl Expression {
    /// The expression's bytes in `section`.
    pub fn bytes<'a>(&self, section: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        let range: Range<usize> = start..start.checked_add(usize::try_from(self.length).ok()?)?;
        section.get(range)
    }
}

/// The rules of a row's registers, at most one for each.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    rules: [(Register, Rule); Self::MOST],
    count: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { rules: [(Register::PC, Rule::Undefined); Self::MOST], count: 0 }
    }
}

impl Rules {
    /// Every general register, the pc, and aarch64's signing state.
    pub const MOST: usize = 34;

    /// Sets the rule of `register`. Returns whether there was room.
    #[must_use]
    pub fn set(&mut self, register: Register, rule: Rule) -> bool {
        let set = self.rules.get_mut(..self.count).unwrap_or_default();
        if let Some(found) = set.iter_mut().find(|(taken, _)| *taken == register) {
            found.1 = rule;
            return true;
        }
        let Some(free) = self.rules.get_mut(self.count) else {
            return false;
        };
        *free = (register, rule);
        self.count += 1;
        true
    }

    /// The rule of `register`, if the row has one.
    pub fn get(&self, register: Register) -> Option<Rule> {
        self.iter().find(|(ruled, _)| *ruled == register).map(|(_, rule)| rule)
    }

    /// All rules.
    pub fn iter(&self) -> impl Iterator<Item = (Register, Rule)> + '_ {
        self.rules.iter().take(self.count).copied()
    }
}
