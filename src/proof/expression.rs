//! DWARF expressions of rows, evaluated on what the analysis knows.

use super::claim::hardware;
use crate::analysis::{State, Value};
use gimli::{Encoding, EndianSlice, Format, LittleEndian, Operation};

/// Operations of one expression: the longest in the wild, that of a PLT, has ten.
const MOST: usize = 64;

/// What is on the stack.
#[derive(Clone, Copy)]
enum Item {
    Number(u64),
    Value(Value),
}

/// What `expression` leaves, evaluated in `state` at the instruction at `pc`, on a stack that begins with `first`.
///
/// Understood are registers, the pc, memory, sums and comparisons of numbers: what compilers and linkers write.
pub fn evaluate(
    expression: EndianSlice<'_, LittleEndian>,
    first: Option<Value>,
    state: &State,
    pc: u64,
) -> Option<Value> {
    const PC: u16 = 16;
    let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };
    let mut rest = expression;
    let mut stack: Vec<Item> = first.into_iter().map(Item::Value).collect();
    for _ in 0..MOST {
        if rest.is_empty() {
            return match stack.pop()? {
                Item::Value(value) => Some(value),
                Item::Number(_) => None,
            };
        }
        match Operation::parse(&mut rest, encoding).ok()? {
            Operation::RegisterOffset { register, offset, .. } if register.0 == PC => {
                stack.push(Item::Number(pc.wrapping_add_signed(offset)));
            }
            Operation::RegisterOffset { register, offset, .. } => {
                let value = Item::Value(state.get(hardware(register)?));
                stack.push(plus(value, offset.cast_unsigned())?);
            }
            Operation::Deref { size: 8, space: false, .. } => match stack.pop()? {
                Item::Value(Value::Sum(base, offset)) => stack.push(Item::Value(state.load(base, offset))),
                _ => return None,
            },
            Operation::UnsignedConstant { value } => stack.push(Item::Number(value)),
            Operation::SignedConstant { value } => stack.push(Item::Number(value.cast_unsigned())),
            Operation::PlusConstant { value } => {
                let top = stack.pop()?;
                stack.push(plus(top, value)?);
            }
            Operation::Plus => match (stack.pop()?, stack.pop()?) {
                (Item::Number(by), other) | (other, Item::Number(by)) => stack.push(plus(other, by)?),
                _ => return None,
            },
            Operation::And => numbers(&mut stack, |one, other| one & other)?,
            Operation::Ge => numbers(&mut stack, |one, other| u64::from(one.cast_signed() >= other.cast_signed()))?,
            Operation::Shl => {
                numbers(&mut stack, |one, by| u32::try_from(by).ok().and_then(|by| one.checked_shl(by)).unwrap_or(0))?;
            }
            _ => return None,
        }
    }
    None
}

fn plus(item: Item, by: u64) -> Option<Item> {
    Some(match item {
        Item::Number(number) => Item::Number(number.wrapping_add(by)),
        Item::Value(Value::Sum(base, offset)) => Item::Value(Value::Sum(base, offset.wrapping_add(by.cast_signed()))),
        Item::Value(value) if by == 0 => Item::Value(value),
        Item::Value(_) => return None,
    })
}

fn numbers(stack: &mut Vec<Item>, operation: impl FnOnce(u64, u64) -> u64) -> Option<()> {
    match (stack.pop()?, stack.pop()?) {
        (Item::Number(top), Item::Number(second)) => {
            stack.push(Item::Number(operation(second, top)));
            Some(())
        }
        _ => None,
    }
}
