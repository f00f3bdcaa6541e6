//! A row: how the caller's registers are found from one range of code.

use core::fmt;
use core::ops::Range;
use surestack_walk::{Grade, Register, Root, RowSource};

/// How the caller's registers are found while the pc is in `range`. Addresses are the target's, bias included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Row<'_> {
    /// To be written over.
    pub(crate) const EMPTY: Self = Self {
        start: 0,
        end: 0,
        function: (0, 0),
        origin: Origin::Cfi(RowSource::EhFrame),
        entry: Entry::Called,
        cfa: CfaRule::Register(Register::PC, 0),
        return_register: Register::PC,
        rules: Rules::NONE,
        expressions: &[],
    };
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

    fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.offset) | u64::from(self.length) << 32).to_le_bytes()
    }

    fn from_bytes([o0, o1, o2, o3, l0, l1, l2, l3]: [u8; 8]) -> Self {
        Self { offset: u32::from_le_bytes([o0, o1, o2, o3]), length: u32::from_le_bytes([l0, l1, l2, l3]) }
    }
}

/// The rules of a row's registers, at most one for each.
#[derive(Clone, Copy)]
pub struct Rules {
    rules: [Ruled; Self::MOST],
    count: u8,
}

/// A register and its rule, in 10 bytes: a [`Rule`] with a register beside it takes 24, and rows are written often.
#[derive(Clone, Copy)]
struct Ruled {
    register: Register,
    kind: Kind,
    value: [u8; 8],
}

#[derive(Clone, Copy)]
enum Kind {
    Undefined,
    SameValue,
    Offset,
    ValOffset,
    Register,
    Expression,
    ValExpression,
    Constant,
}

impl Ruled {
    /// All of its bytes are 0.
    const NOTHING: Self = match Register::general(0) {
        Some(register) => Self { register, kind: Kind::Undefined, value: [0; 8] },
        None => panic!("there is a register 0"),
    };

    fn new(register: Register, rule: Rule) -> Self {
        let (kind, value) = match rule {
            Rule::Undefined => (Kind::Undefined, [0; 8]),
            Rule::SameValue => (Kind::SameValue, [0; 8]),
            Rule::Offset(offset) => (Kind::Offset, offset.to_le_bytes()),
            Rule::ValOffset(offset) => (Kind::ValOffset, offset.to_le_bytes()),
            Rule::Register(other) => (Kind::Register, [other.number(), 0, 0, 0, 0, 0, 0, 0]),
            Rule::Expression(expression) => (Kind::Expression, expression.to_bytes()),
            Rule::ValExpression(expression) => (Kind::ValExpression, expression.to_bytes()),
            Rule::Constant(value) => (Kind::Constant, value.to_le_bytes()),
        };
        Self { register, kind, value }
    }

    fn rule(&self) -> Rule {
        let value = self.value;
        match self.kind {
            Kind::Undefined => Rule::Undefined,
            Kind::SameValue => Rule::SameValue,
            Kind::Offset => Rule::Offset(i64::from_le_bytes(value)),
            Kind::ValOffset => Rule::ValOffset(i64::from_le_bytes(value)),
            Kind::Register => Register::numbered(value[0]).map_or(Rule::Undefined, Rule::Register),
            Kind::Expression => Rule::Expression(Expression::from_bytes(value)),
            Kind::ValExpression => Rule::ValExpression(Expression::from_bytes(value)),
            Kind::Constant => Rule::Constant(u64::from_le_bytes(value)),
        }
    }
}

/// The same rules, in whatever order they were set.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().all(|(register, rule)| other.get(register) == Some(rule))
    }
}

impl Eq for Rules {}

impl fmt::Debug for Rules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::NONE
    }
}

impl Rules {
    /// Every general register, the pc, and aarch64's signing state.
    pub const MOST: usize = 34;
    const NONE: Self = Self { rules: [Ruled::NOTHING; Self::MOST], count: 0 };

    /// Sets the rule of `register`. Returns whether there was room.
    #[must_use]
    pub fn set(&mut self, register: Register, rule: Rule) -> bool {
        let set = self.rules.get_mut(..usize::from(self.count)).unwrap_or_default();
        match set.iter_mut().find(|ruled| ruled.register == register) {
            Some(found) => {
                *found = Ruled::new(register, rule);
                true
            }
            None => self.add(register, rule),
        }
    }

    /// Adds the rule of a register that has none yet. Returns whether there was room.
    #[must_use]
    pub(crate) fn add(&mut self, register: Register, rule: Rule) -> bool {
        let Some(free) = self.rules.get_mut(usize::from(self.count)) else {
            return false;
        };
        *free = Ruled::new(register, rule);
        self.count += 1;
        true
    }

    /// The rule of `register`, if the row has one.
    pub fn get(&self, register: Register) -> Option<Rule> {
        self.ruled().find(|ruled| ruled.register == register).map(Ruled::rule)
    }

    /// All rules.
    pub fn iter(&self) -> impl Iterator<Item = (Register, Rule)> + '_ {
        self.ruled().map(|ruled| (ruled.register, ruled.rule()))
    }

    fn ruled(&self) -> impl Iterator<Item = &Ruled> {
        self.rules.iter().take(usize::from(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_comes_out_as_it_was_set_and_a_row_is_small() {
        let registers = (0..).map_while(Register::general);
        let bytes = Expression { offset: u32::MAX - 1, length: u32::MAX };
        let all = [
            Rule::Undefined,
            Rule::SameValue,
            Rule::Offset(i64::MIN + 1),
            Rule::ValOffset(i64::MAX - 1),
            Rule::Register(Register::RA_SIGN_STATE),
            Rule::Expression(bytes),
            Rule::ValExpression(bytes),
            Rule::Constant(u64::MAX - 1),
        ];
        let mut rules = Rules::default();
        for (register, rule) in registers.clone().zip(all) {
            assert!(rules.set(register, Rule::Constant(1)) && rules.set(register, rule));
            assert_eq!(rules.get(register), Some(rule));
        }
        assert!(rules.iter().eq(registers.zip(all)));
        assert!(size_of::<Row<'_>>() <= 424, "{} bytes", size_of::<Row<'_>>());
    }

    #[test]
    fn there_is_room_for_a_rule_of_each_register_and_for_no_more() {
        let mut rules = Rules::default();
        let mut registers = (0..).map_while(Register::numbered);
        for register in registers.by_ref().take(Rules::MOST) {
            assert!(rules.set(register, Rule::SameValue));
        }
        assert!(!rules.set(registers.next().unwrap(), Rule::SameValue));
    }
}
