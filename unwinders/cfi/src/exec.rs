//! The one function that follows a row.

use crate::{CfaRule, Entry, Expression, Origin, Row, Rule, expression};
use surestack_walk::{CfiFault, CodeAddress, Error, FoundBy, Link, Register, Regs, Root, SignalSign, Step, Target};

/// Fills `caller` by following `row` from `callee`.
///
/// A register that cannot be recovered becomes unknown; only the CFA and the return address are needed to go on.
///
/// # Errors
/// Whatever keeps the CFA or the return address from being known.
pub fn apply(row: &Row<'_>, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
    let return_rule = row.rules.get(row.return_register);
    if let Entry::Outermost(root) = row.entry {
        return Ok(Step::End(root));
    }
    if return_rule == Some(Rule::Undefined) {
        return Ok(Step::End(Root::UndefinedReturn));
    }
    let step = RowStep { row, target, callee };
    let cfa = step.cfa()?;

    caller.forget();
    for &register in target.arch.callee_saved {
        caller.inherit(register, callee);
    }
    caller.set(target.arch.sp, cfa);
    for (register, rule) in row.rules.iter() {
        if register != row.return_register
            && let Err(error) = step.recover(register, rule, cfa, caller)
        {
            // The slot of a saved register may be missing from a core: the register is unknown, the walk goes on.
            caller.forget_one(register);
            if !matches!(error, Error::Unreadable { .. } | Error::UnknownRegister { .. }) {
                return Err(error);
            }
        }
    }
    step.return_address(return_rule, cfa, caller)?;
    let return_slot = caller.place(row.return_register);

    let (link, found_by) = match (row.entry, row.origin) {
        (Entry::Signal, _) => (Link::Signal, FoundBy::SignalFrame(SignalSign::Cfi)),
        (_, Origin::Cfi(source)) => (Link::Call, FoundBy::Cfi(source)),
        (_, Origin::Analysed(grade)) => (Link::Call, FoundBy::Analysed(grade)),
    };
    Ok(Step::Caller { cfa, return_slot, link, found_by })
}

/// A row being followed.
struct RowStep<'s> {
    row: &'s Row<'s>,
    target: &'s Target<'s>,
    callee: &'s Regs,
}

impl RowStep<'_> {
    fn cfa(&self) -> Result<u64, Error> {
        match self.row.cfa {
            CfaRule::Register(register, offset) => Ok(self.callee.need(register)?.wrapping_add_signed(offset)),
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        }
    }

    /// Sets `register` in `caller` as `rule` says.
    fn recover(&self, register: Register, rule: Rule, cfa: u64, caller: &mut Regs) -> Result<(), Error> {
        let memory = self.target.memory;
        match rule {
            Rule::Undefined => caller.forget_one(register),
            Rule::SameValue => caller.inherit(register, self.callee),
            Rule::Offset(offset) => {
                let place = cfa.wrapping_add_signed(offset);
                caller.set_saved(register, memory.word(place)?, place);
            }
            Rule::ValOffset(offset) => caller.set(register, cfa.wrapping_add_signed(offset)),
            Rule::Register(other) => match (self.callee.need(other)?, self.callee.place(other)) {
                (value, Some(place)) => caller.set_saved(register, value, place),
                (value, None) => caller.set(register, value),
            },
            Rule::Expression(expression) => {
                let place = self.evaluate(expression, Some(cfa))?;
                caller.set_saved(register, memory.word(place)?, place);
            }
            Rule::ValExpression(expression) => caller.set(register, self.evaluate(expression, Some(cfa))?),
            Rule::Constant(value) => caller.set(register, value),
        }
        Ok(())
    }

    /// Recovers the return address and makes it the caller's pc.
    fn return_address(&self, rule: Option<Rule>, cfa: u64, caller: &mut Regs) -> Result<(), Error> {
        let register = self.row.return_register;
        // A link register that was not saved holds the return address only until the function's first call.
        let interrupted = self.callee.pc().is_some_and(CodeAddress::is_exact);
        match rule {
            Some(Rule::SameValue) | None if register == Register::PC || !interrupted => {
                return Err(Error::UnknownRegister { register });
            }
            Some(rule) => self.recover(register, rule, cfa, caller)?,
            None => caller.inherit(register, self.callee),
        }
        let value = self.target.arch.strip(caller.need(register)?, self.target.registry.signed_bits);
        match caller.place(register) {
            Some(place) => {
                caller.set_saved(Register::PC, value, place);
                caller.set_saved(register, value, place);
            }
            None => {
                caller.set(Register::PC, value);
                caller.set(register, value);
            }
        }
        caller.set_pc(match self.row.entry {
            Entry::Signal => CodeAddress::Exact(value),
            _ => CodeAddress::Return(value),
        });
        Ok(())
    }

    fn evaluate(&self, expression: Expression, first: Option<u64>) -> Result<u64, Error> {
        let pc = self.callee.pc().map_or(0, CodeAddress::lookup);
        let broken = Error::BadCfi { pc, fault: CfiFault::Expression };
        let bytes = expression.bytes(self.row.expressions).ok_or(broken)?;
        expression::evaluate(bytes, first, self.target, self.callee, broken)
    }
}
