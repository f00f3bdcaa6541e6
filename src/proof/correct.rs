//! The row that would have been right, where unwind information claims something else.

use super::Source;
use super::claim::{Cfa, Claim, Saved};
use super::code::Step;
use super::compare::{Match, Moment, compare};
use crate::analysis::{Base, CALLEE_SAVED, FP, SP, State, Value};

const WORD: i64 = 8;

/// What a row at `step` has to say so that it is true in each of `states`, the first of which is what holds there and the
/// others what may hold as well. Registers that are not found in all of them are given up.
///
/// It is held against them by the very comparison that contradicted the other row.
pub fn correct<'s>(
    source: &Source<'_>,
    step: &Step,
    moment: Moment,
    mut states: impl Iterator<Item = &'s State>,
) -> Option<Claim> {
    let here = states.next()?;
    let mut claim = Claim {
        start: step.at,
        end: step.end(),
        cfa: frame(here, moment)?,
        return_address: Saved::At(-WORD),
        saved: CALLEE_SAVED.map(|number| saved(here, number)),
        arguments: 0,
    };
    for state in [here].into_iter().chain(states) {
        let found = compare(source, &claim, state, step.at, moment);
        if found.frame != Match::Agrees {
            return None;
        }
        for (saved, bit) in claim.saved.iter_mut().zip([1, 2, 4, 8, 16, 32]) {
            if (found.saved | found.kept) & bit == 0 {
                *saved = Saved::Undefined;
            }
        }
    }
    Some(claim)
}

/// The register from which the frame can be counted.
fn frame(state: &State, moment: Moment) -> Option<Cfa> {
    let usable = |number: &u8| moment == Moment::Before || *number == SP || CALLEE_SAVED.contains(number);
    [SP, FP].into_iter().chain(0..16).filter(usable).find_map(|number| match state.get(number) {
        Value::Sum(Base::Cfa, offset) => Some(Cfa::Register(number, offset.checked_neg()?)),
        _ => None,
    })
}

fn saved(state: &State, number: u8) -> Saved {
    let entry = Value::Sum(Base::Register(number), 0);
    if state.get(number) == entry {
        return Saved::Kept;
    }
    state.slot_of(Base::Cfa, entry).map_or(Saved::Undefined, Saved::At)
}
