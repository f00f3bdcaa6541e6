//! One row against what holds at one instruction.

use super::Source;
use super::claim::{Cfa, Claim, Saved, expression};
use super::expression::evaluate;
use crate::analysis::{Base, CALLEE_SAVED, SP, State, Value};

const WORD: i64 = 8;
/// What lies so far below the stack pointer is not overwritten by signals.
const RED_ZONE: i64 = 128;

/// How a claim stands to what holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// It is so.
    Agrees,
    /// It is not so.
    Differs,
    /// The row says that nobody returns from here.
    Outermost,
    /// What holds is not known well enough.
    Unknown,
}

/// A row compared with what holds. Registers are bits, in the order of [`CALLEE_SAVED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The canonical frame address and the return address.
    pub frame: Match,
    /// Registers that lie where the row says.
    pub saved: u8,
    /// Registers that were not changed, as the row says.
    pub kept: u8,
    /// Registers that are not what the row says.
    pub wrong: u8,
    /// Registers of which the row says nothing that could be wrong.
    pub given_up: u8,
    /// By how much the row's frame address is too large, where that is known.
    pub off: i64,
}

impl Finding {
    /// Whether everything the row says is so.
    pub fn is_whole(&self) -> bool {
        const ALL: u8 = 0x3f;
        matches!(self.frame, Match::Agrees | Match::Outermost) && self.saved | self.kept | self.given_up == ALL
    }
}

impl Finding {
    /// Whether something that the row says is not so.
    pub fn is_wrong(self) -> bool {
        self.frame == Match::Differs || self.frame == Match::Agrees && self.wrong != 0
    }
}

/// When the row is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At an instruction that is about to run.
    Before,
    /// While a call is under way: what is below the stack pointer and in other registers is gone.
    During,
}

/// Compares `claim` with `state` at the instruction at `pc`.
pub fn compare(source: &Source<'_>, claim: &Claim, state: &State, pc: u64, moment: Moment) -> Finding {
    let view = View { source, state, pc, moment, cfa: Value::Unknown };
    let cfa = match claim.cfa {
        Cfa::Register(number, offset) => match view.register(number) {
            Value::Sum(base, at) => Value::Sum(base, at.wrapping_add(offset)),
            other => other,
        },
        Cfa::Expression(at) => expression(source, at)
            .and_then(|expression| evaluate(expression, None, state, pc))
            .unwrap_or(Value::Unknown),
        Cfa::Strange => Value::Unknown,
    };
    let view = View { cfa, ..view };
    let off = if let Value::Sum(Base::Cfa, off) = cfa { off } else { 0 };
    let mut finding = Finding { frame: view.frame(claim), saved: 0, kept: 0, wrong: 0, given_up: 0, off };
    for ((number, rule), bit) in CALLEE_SAVED.iter().zip(&claim.saved).zip([1, 2, 4, 8, 16, 32]) {
        let entry = Value::Sum(Base::Register(*number), 0);
        if *rule == Saved::Undefined {
            finding.given_up |= bit;
            continue;
        }
        let value = match rule {
            Saved::Kept => state.get(*number),
            rule => view.value(*rule, *number),
        };
        match (value == entry, rule) {
            (true, Saved::Kept) => finding.kept |= bit,
            (true, _) => finding.saved |= bit,
            (false, _) if is_certain(value) => finding.wrong |= bit,
            (false, _) => {}
        }
    }
    finding
}

/// Whether a value is known not to be another.
fn is_certain(value: Value) -> bool {
    !matches!(value, Value::Unknown | Value::Sum(Base::Made(_), _) | Value::Word(Base::Made(_), _))
}

struct View<'v, 'm> {
    source: &'v Source<'m>,
    state: &'v State,
    pc: u64,
    moment: Moment,
    cfa: Value,
}

impl View<'_, '_> {
    /// What a register holds when the row is used.
    fn register(&self, number: u8) -> Value {
        let survives = self.moment == Moment::Before || number == SP || CALLEE_SAVED.contains(&number);
        if survives { self.state.get(number) } else { Value::Unknown }
    }

    fn frame(&self, claim: &Claim) -> Match {
        let returns = match claim.return_address {
            Saved::Undefined => return Match::Outermost,
            // Nothing but a rule says where it is.
            Saved::Kept => Value::Unknown,
            rule => self.value(rule, SP),
        };
        match (self.cfa, returns) {
            (Value::Sum(Base::Cfa, 0), Value::Word(Base::Cfa, offset)) if offset == -WORD => Match::Agrees,
            (Value::Sum(Base::Cfa, 0), value) if is_certain(value) => Match::Differs,
            (Value::Sum(Base::Cfa, 0), _) => Match::Unknown,
            (Value::Sum(base @ Base::Made(_), at), _) if self.state.never_meet((base, at), (Base::Cfa, 0)) => {
                Match::Differs
            }
            (cfa, _) if is_certain(cfa) => Match::Differs,
            _ => Match::Unknown,
        }
    }

    /// What the caller's register becomes by `rule`.
    #[inline]
    fn value(&self, rule: Saved, number: u8) -> Value {
        match rule {
            Saved::Kept => self.register(number),
            Saved::In(other) => self.register(other),
            Saved::At(offset) => self.word(self.sum(offset)),
            Saved::Sum(offset) => self.sum(offset),
            Saved::AtExpression(at) => self.word(self.expression(at)),
            Saved::Expression(at) => self.expression(at),
            Saved::Undefined | Saved::Strange => Value::Unknown,
        }
    }

    fn sum(&self, by: i64) -> Value {
        match self.cfa {
            Value::Sum(base, offset) => Value::Sum(base, offset.wrapping_add(by)),
            _ => Value::Unknown,
        }
    }

    fn expression(&self, at: super::claim::Bytes) -> Value {
        expression(self.source, at)
            .and_then(|expression| evaluate(expression, Some(self.cfa), self.state, self.pc))
            .unwrap_or(Value::Unknown)
    }

    /// The word at an address, if it stays there.
    #[inline]
    fn word(&self, address: Value) -> Value {
        let Value::Sum(base, offset) = address else { return Value::Unknown };
        let below = match self.moment {
            Moment::Before => RED_ZONE,
            Moment::During => 0,
        };
        let is_lost = match self.state.get(SP) {
            Value::Sum(sp, lowest) if sp == base => offset < lowest.saturating_sub(below),
            _ => self.state.is_below_sp(base, offset, below),
        };
        if is_lost { Value::Unknown } else { self.state.load(base, offset) }
    }
}
