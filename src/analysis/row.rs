//! A row from what is known at an instruction.

use super::flow::Flow;
use super::value::{Base, CALLEE_SAVED, SP, State, Value};
use surestack_cfi::{CfaRule, Entry, Origin, Row, Rule, Rules};
use surestack_walk::{CodeAddress, Grade, Proof, Register, Root, X86_64};

const WORD: i64 = 8;

/// The register with this hardware number.
fn register(number: u8) -> Option<Register> {
    /// DWARF numbers of rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi: figure 3.36 of the AMD64 supplement.
    const DWARF: [u16; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
    X86_64.register(DWARF.get(usize::from(number)).copied().unwrap_or(u16::from(number)))
}

/// A frame that nobody called.
pub fn outermost(pc: CodeAddress, root: Root) -> Row<'static> {
    Row {
        entry: Entry::Outermost(root),
        ..frame(pc, CfaRule::Register(X86_64.sp, 0), Rules::default(), Grade::FromEntry)
    }
}

fn frame(pc: CodeAddress, cfa: CfaRule, rules: Rules, grade: Grade) -> Row<'static> {
    let (start, end) = (pc.lookup(), pc.lookup().saturating_add(1));
    Row {
        start,
        end,
        function: (start, end),
        origin: Origin::Analysed(grade),
        entry: Entry::Called,
        cfa,
        return_register: Register::PC,
        rules,
        expressions: &[],
    }
}

/// The row of a state that began at the function's entry.
pub fn from_entry(state: &State, pc: CodeAddress) -> Option<Row<'static>> {
    if state.load(Base::Cfa, -WORD) != Value::Word(Base::Cfa, -WORD) {
        return None;
    }
    if is_past_return(state) {
        return None;
    }
    let cfa = holders(pc).find_map(|number| match state.get(number) {
        Value::Sum(Base::Cfa, offset) => Some(CfaRule::Register(register(number)?, offset.wrapping_neg())),
        _ => None,
    })?;
    let mut rules = Rules::default();
    let mut set = rules.set(Register::PC, Rule::Offset(-WORD));
    for number in CALLEE_SAVED {
        let wanted = Value::Sum(Base::Register(number), 0);
        let other = || holders(pc).find(|holder| state.get(*holder) == wanted).and_then(register).map(Rule::Register);
        let rule = if state.get(number) == wanted {
            continue;
        } else if let Some(offset) = state.slot_of(Base::Cfa, wanted) {
            Rule::Offset(offset)
        } else {
            other().unwrap_or(Rule::Undefined)
        };
        set &= rules.set(register(number)?, rule);
    }
    set.then(|| frame(pc, cfa, rules, Grade::FromEntry))
}

/// Whether the stack pointer has risen above the return address, which was thrown away: another one will be used.
pub fn is_past_return(state: &State) -> bool {
    matches!(state.get(SP), Value::Sum(Base::Cfa, above) if above > -WORD)
}

/// Whether a row of unwind information finds the CFA and the return address where `state` says they are.
pub fn agrees(row: &Row<'_>, state: &State) -> Proof {
    let CfaRule::Register(base, offset) = row.cfa else {
        return Proof::Unknown;
    };
    let return_address = state.load(Base::Cfa, -WORD) == Value::Word(Base::Cfa, -WORD);
    let number = (0..16).find(|number| register(*number) == Some(base));
    match (number.map_or(Value::Unknown, |number| state.get(number)), row.rules.get(Register::PC)) {
        (Value::Sum(Base::Cfa, found), Some(Rule::Offset(slot))) if return_address => {
            if found.checked_neg() == Some(offset) && slot == -WORD { Proof::Proven } else { Proof::Refuted }
        }
        _ => Proof::Unknown,
    }
}

/// Whether the register from which a row counts the CFA holds something that does not come from the frame at all.
pub fn loses_frame(row: &Row<'_>, state: &State) -> bool {
    let CfaRule::Register(base, _) = row.cfa else { return false };
    let number = (0..16).find(|number| register(*number) == Some(base));
    number.is_some_and(|number| !matches!(state.get(number), Value::Sum(Base::Cfa, _)))
}

/// The row on which all returns agree that the flow from `pc` reached.
pub fn to_return(flow: &Flow, pc: CodeAddress) -> Option<Row<'static>> {
    let mut returns = flow.returns.iter().filter_map(|at| flow.at(*at));
    let mut state = returns.next()?.state.clone();
    for other in returns {
        state.join(&other.state);
    }
    let Value::Sum(base @ Base::Register(number), offset) = state.get(SP) else {
        return None;
    };
    let usable = holders(pc).any(|holder| holder == number);
    // Below the stack pointer nothing can have been left to return to.
    if !usable || number == SP && offset < 0 || state.load(base, offset) != Value::Word(base, offset) {
        return None;
    }
    let from = register(number)?;
    let cfa = offset.checked_add(WORD)?;
    let mut rules = Rules::default();
    let mut set = rules.set(Register::PC, Rule::Offset(-WORD));
    for number in CALLEE_SAVED {
        let rule = match state.get(number) {
            Value::Sum(Base::Register(same), 0) if same == number => continue,
            Value::Sum(Base::Register(other), 0) if holders(pc).any(|holder| holder == other) => {
                Rule::Register(register(other)?)
            }
            Value::Word(from, at) if from == base => Rule::Offset(at.checked_sub(cfa)?),
            _ => Rule::Undefined,
        };
        set &= rules.set(register(number)?, rule);
    }
    let rule = CfaRule::Register(from, cfa);
    set.then(|| frame(pc, rule, rules, Grade::ToReturn))
}

/// Registers whose values are known at `pc`: all in an interrupted frame, the preserved ones in a caller.
fn holders(pc: CodeAddress) -> impl Iterator<Item = u8> {
    const PREFERRED: [u8; 2] = [SP, super::value::FP];
    let rest = (0..16).filter(|number| !PREFERRED.contains(number));
    PREFERRED
        .into_iter()
        .chain(rest)
        .filter(move |number| pc.is_exact() || *number == SP || CALLEE_SAVED.contains(number))
}
