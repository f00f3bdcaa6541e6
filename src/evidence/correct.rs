//! Rows put right where the instructions contradict them.

use super::row;
use crate::analysis::CALLEE_SAVED;
use crate::proof::claim::{Cfa, Claim, Saved, dwarf};
use crate::proof::{Proven, Source};
use surestack_cfi::{CfaRule, Entry, Origin, Row, Rule, Rules};
use surestack_walk::{CodeAddress, Grade, Register, RegisterSet, RowEvidence, X86_64};

/// What is proven where `claim` is used in place of a contradicted row: all of it.
pub(super) fn evidence(source: &Source<'_>, proven: Proven, claim: &Claim) -> RowEvidence {
    let (mut saved, mut kept) = (RegisterSet::EMPTY, RegisterSet::EMPTY);
    for (number, rule) in CALLEE_SAVED.into_iter().zip(claim.saved) {
        match (rule, register(number)) {
            (Saved::At(_), Some(register)) => saved = saved.with(register),
            (Saved::Kept, Some(register)) => kept = kept.with(register),
            _ => {}
        }
    }
    RowEvidence { saved, kept, wrong: RegisterSet::EMPTY, ..row::evidence(source, proven, Some(claim)) }
}

/// `claim` as a row that can be followed.
pub(super) fn row(claim: &Claim, pc: CodeAddress) -> Option<Row<'static>> {
    let Cfa::Register(base, offset) = claim.cfa else { return None };
    let mut rules = Rules::default();
    let mut set = rules.set(Register::PC, rule(claim.return_address)?);
    for (number, saved) in CALLEE_SAVED.into_iter().zip(claim.saved) {
        set &= rules.set(register(number)?, rule(saved)?);
    }
    let (start, end) = (pc.lookup(), pc.lookup().saturating_add(1));
    set.then_some(Row {
        start,
        end,
        function: (start, end),
        origin: Origin::Analysed(Grade::FromEntry),
        entry: Entry::Called,
        cfa: CfaRule::Register(register(base)?, offset),
        return_register: Register::PC,
        rules,
        expressions: &[],
    })
}

fn rule(saved: Saved) -> Option<Rule> {
    match saved {
        Saved::Kept => Some(Rule::SameValue),
        Saved::Undefined => Some(Rule::Undefined),
        Saved::At(offset) => Some(Rule::Offset(offset)),
        _ => None,
    }
}

fn register(number: u8) -> Option<Register> {
    X86_64.register(dwarf(number).0)
}
