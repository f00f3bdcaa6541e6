//! What a row claims, believed.

use super::Source;
use super::claim::{Cfa, Claim, Saved, expression, hardware};
use crate::analysis::{Base, CALLEE_SAVED, State, Value};
use gimli::{Encoding, Format, Operation};

const WORD: i64 = 8;

/// The state of which every word of `claim` is true.
pub fn claimed(source: &Source<'_>, claim: &Claim) -> Option<State> {
    let mut state = State::at_entry();
    for number in (0..16).filter(|number| !CALLEE_SAVED.contains(number)) {
        state.set(number, Value::Unknown);
    }
    match claim.cfa {
        Cfa::Register(number, offset) => state.set(number, Value::Sum(Base::Cfa, offset.checked_neg()?)),
        Cfa::Expression(at) => {
            let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };
            let mut rest = expression(source, at)?;
            let first = Operation::parse(&mut rest, encoding).ok()?;
            let second = Operation::parse(&mut rest, encoding).ok()?;
            let (Operation::RegisterOffset { register, offset, .. }, Operation::Deref { .. }) = (first, second) else {
                return None;
            };
            // A stack pointer that was saved is counted from the frame.
            let above = match Operation::parse(&mut rest, encoding) {
                Ok(Operation::PlusConstant { value }) if rest.is_empty() => i64::try_from(value).ok()?,
                Err(_) if rest.is_empty() => 0,
                _ => return None,
            };
            let (number, base) = (hardware(register)?, Base::Made(claim.start));
            state.set(number, Value::Sum(base, 0));
            state.store(base, offset, 8, Value::Sum(Base::Cfa, above.checked_neg()?));
        }
        Cfa::Strange => return None,
    }
    let framed: Vec<u8> =
        (0..16).filter(|number| matches!(state.get(*number), Value::Sum(Base::Cfa | Base::Made(_), _))).collect();
    for (number, saved) in CALLEE_SAVED.into_iter().zip(claim.saved) {
        let entry = Value::Sum(Base::Register(number), 0);
        let place = match saved {
            Saved::Kept => continue,
            Saved::At(offset) => Some((Base::Cfa, offset)),
            Saved::AtExpression(at) => {
                let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };
                match Operation::parse(&mut expression(source, at)?, encoding).ok()? {
                    Operation::RegisterOffset { register, offset, .. } => match state.get(hardware(register)?) {
                        Value::Sum(base, from) => Some((base, from.wrapping_add(offset))),
                        _ => None,
                    },
                    _ => None,
                }
            }
            Saved::In(other) => {
                state.set(other, entry);
                None
            }
            _ => None,
        };
        if !framed.contains(&number) {
            state.set(number, Value::Unknown);
        }
        if let Some((base, offset)) = place {
            state.store(base, offset, 8, entry);
        }
    }
    if let Saved::In(other) = claim.return_address {
        state.set(other, Value::Word(Base::Cfa, -WORD));
    }
    Some(state)
}
