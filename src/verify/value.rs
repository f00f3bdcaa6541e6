//! What registers and stack slots hold, as far as it says where calls lead.

use crate::analysis::jump_table::Table;
use std::collections::BTreeMap;

/// Most numbers that one register is followed with, where several ways come together.
const MOST: usize = 6;
/// Most numbers that one argument is followed with: one function may be behind all system calls.
const ARGUMENT: usize = 64;

/// What a register or a stack slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything.
    Any,
    /// Anything, and it came from a variable of the whole program, or through a pointer in one.
    Loaded,
    /// One of these numbers or addresses, ascending.
    Known(Vec<u64>),
    /// So far from the stack pointer as it was when the instruction at `base` had made a new one; 0 is the function's
    /// entry.
    Stack {
        /// What it is counted from.
        base: u64,
        /// How far.
        offset: i64,
    },
    /// Where the function returns to.
    Return,
    /// Four bytes of the jump table at this address, not yet widened.
    Half(u64),
    /// A word of the jump table at this address.
    Element(u64),
    /// Where an entry of this table leads.
    Target(Table),
    /// The word so far behind where a pointer leads of which nothing is known.
    Member(i64),
    /// The same, and the pointer is known: one of these functions.
    Method(i64, Vec<u64>),
}

impl Value {
    /// One number.
    pub fn number(number: u64) -> Self {
        Self::Known(vec![number])
    }

    /// What holds where either of two may.
    pub fn join(&self, other: &Self) -> Self {
        self.joined(other, MOST)
    }

    /// What an argument is that is either.
    pub fn passed(&self, other: &Self) -> Self {
        self.joined(other, ARGUMENT)
    }

    fn joined(&self, other: &Self, most: usize) -> Self {
        match (self, other) {
            (one, other) if one == other => one.clone(),
            (Self::Loaded, _) | (_, Self::Loaded) => Self::Loaded,
            (Self::Known(one), Self::Known(other)) => union(one, other, most).map_or(Self::Any, Self::Known),
            (Self::Method(at, one), Self::Method(behind, other)) if at == behind => {
                union(one, other, most).map_or(Self::Member(*at), |all| Self::Method(*at, all))
            }
            (Self::Method(at, _), Self::Member(behind)) | (Self::Member(behind), Self::Method(at, _))
                if at == behind =>
            {
                Self::Member(*at)
            }
            _ => Self::Any,
        }
    }

    /// A number added.
    pub fn plus(&self, by: i64) -> Self {
        match self {
            Self::Known(numbers) => {
                let mut all: Vec<u64> = numbers.iter().map(|number| number.wrapping_add_signed(by)).collect();
                all.sort_unstable();
                Self::Known(all)
            }
            Self::Stack { base, offset } => Self::Stack { base: *base, offset: offset.wrapping_add(by) },
            Self::Loaded => Self::Loaded,
            _ => Self::Any,
        }
    }

    /// What is left of it when somebody may have changed it behind our back. A function out of a vtable, kept on the stack
    /// over calls, is believed to be one out of a vtable still.
    fn doubted(&self) -> Self {
        match self {
            Self::Known(_) | Self::Half(_) | Self::Element(_) | Self::Target(_) => Self::Any,
            Self::Method(at, _) => Self::Member(*at),
            other => other.clone(),
        }
    }
}

/// Both, ascending, if they are not too many: one may hold the other.
fn union(one: &[u64], other: &[u64], most: usize) -> Option<Vec<u64>> {
    let mut all: Vec<u64> = one.iter().chain(other).copied().collect();
    all.sort_unstable();
    all.dedup();
    (all.len() <= most.max(one.len()).max(other.len())).then_some(all)
}

/// Hardware numbers of the registers that arguments are passed in.
pub(super) const ARGUMENTS: [u8; 6] = [7, 6, 2, 1, 8, 9];
/// Hardware numbers of those in which results are handed back.
const RESULTS: [u8; 2] = [0, 2];
/// What a callee may change, a bit for each.
const CALLER_SAVED: u16 = 0b0000_1111_1100_0111;

/// Registers and stack slots before one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; 16],
    slots: BTreeMap<(u64, i64), Value>,
    /// The lowest place that somebody else may know, by what it is counted from. Nobody is believed to write below.
    shared: BTreeMap<u64, i64>,
}

impl State {
    /// A function has just been called with these arguments.
    pub fn at_entry(arguments: &[Value; 6]) -> Self {
        let mut registers = [const { Value::Any }; 16];
        for (number, value) in ARGUMENTS.iter().zip(arguments) {
            if let Some(register) = registers.get_mut(usize::from(*number)) {
                *register = value.clone();
            }
        }
        let mut state = Self { registers, slots: BTreeMap::from([((0, 0), Value::Return)]), shared: BTreeMap::new() };
        state.set(crate::analysis::SP, Value::Stack { base: 0, offset: 0 });
        state
    }

    /// What a register holds.
    pub fn get(&self, register: u8) -> Value {
        self.registers.get(usize::from(register)).cloned().unwrap_or(Value::Any)
    }

    /// A register gets a value.
    pub fn set(&mut self, register: u8, value: Value) {
        if let Some(place) = self.registers.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// What is passed to a callee.
    pub fn arguments(&self) -> [Value; 6] {
        ARGUMENTS.map(|number| match self.get(number) {
            value @ (Value::Known(_) | Value::Loaded) => value,
            _ => Value::Any,
        })
    }

    /// What is handed back to a caller, in rax and rdx.
    pub fn handed_back(&self) -> [Value; 2] {
        RESULTS.map(|number| match self.get(number) {
            value @ (Value::Known(_) | Value::Loaded) => value,
            _ => Value::Any,
        })
    }

    /// A callee came back with these.
    pub fn results(&mut self, results: &[Value; 2]) {
        for (number, value) in RESULTS.into_iter().zip(results) {
            self.set(number, value.clone());
        }
    }

    /// What holds where either state may; whether that is more than `self` was.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (one, other) in self.registers.iter_mut().zip(&other.registers) {
            let joined = one.join(other);
            changed |= joined != *one;
            *one = joined;
        }
        let before = self.slots.len();
        self.slots.retain(|place, _| other.slots.contains_key(place));
        changed |= self.slots.len() != before;
        for (place, value) in &mut self.slots {
            let joined = other.slots.get(place).map_or(Value::Any, |other| value.join(other));
            changed |= joined != *value;
            *value = joined;
        }
        for (base, offset) in &other.shared {
            let lowest = self.shared.entry(*base).or_insert(i64::MAX);
            changed |= offset < lowest;
            *lowest = (*lowest).min(*offset);
        }
        changed
    }

    /// The word at a place on the stack.
    pub fn load(&self, at: &Value) -> Value {
        match at {
            Value::Stack { base, offset } => self.slots.get(&(*base, *offset)).cloned().unwrap_or(Value::Any),
            _ => Value::Any,
        }
    }

    /// Something of `size` bytes is written.
    pub fn store(&mut self, at: &Value, size: u32, value: Value) {
        self.share(&value);
        let Value::Stack { base, offset } = *at else {
            // It may be one of ours, if somebody knows where they are.
            self.touch();
            return;
        };
        // Of a size that nobody tells; or above a stack pointer that was made here, where anything of the frame may be.
        if size == 0 || base != 0 && offset >= 0 {
            self.scribble();
        }
        let end = offset.saturating_add(i64::from(size.max(1)));
        self.slots.retain(|(other, at), _| *other != base || *at >= end || at.saturating_add(8) <= offset);
        if size == 8 {
            self.slots.insert((base, offset), value);
        }
    }

    /// Somebody learns of a place on the stack, if `value` is one.
    pub fn share(&mut self, value: &Value) {
        if let Value::Stack { base, offset } = value {
            let lowest = self.shared.entry(*base).or_insert(i64::MAX);
            *lowest = (*lowest).min(*offset);
            self.touch();
        }
    }

    /// Somebody wrote somewhere.
    fn touch(&mut self) {
        for ((base, offset), value) in &mut self.slots {
            if self.shared.get(base).is_some_and(|lowest| offset.saturating_add(8) > *lowest) {
                *value = value.doubted();
            }
        }
    }

    /// Bytes were written that nobody counted.
    pub fn scribble(&mut self) {
        for value in self.slots.values_mut() {
            *value = value.doubted();
        }
    }

    /// A callee came back.
    pub fn called(&mut self) {
        for number in 0..16u8 {
            if CALLER_SAVED >> number & 1 != 0 {
                self.set(number, Value::Any);
            }
        }
        self.touch();
    }

    /// Forgets what was counted from the stack pointer that `base` made, which makes another one.
    pub fn remake(&mut self, base: u64) {
        self.slots.retain(|(other, _), _| *other != base);
        for value in self.registers.iter_mut().chain(self.slots.values_mut()) {
            if matches!(value, Value::Stack { base: other, .. } if *other == base) {
                *value = Value::Any;
            }
        }
    }
}
