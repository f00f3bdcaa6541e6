//! What is known of registers and stack slots at one instruction.

mod made;

use super::jump_table::Table;
use iced_x86::Register as Name;
use made::Made;

/// What an address is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The canonical frame address of the function under analysis.
    Cfa,
    /// The value that a register, by its hardware number, had where the analysis began.
    Register(u8),
    /// An address that the instruction at this address made from another one: alignment, alloca.
    Made(u64),
}

/// What a register or a stack slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Anything.
    Unknown,
    /// Something computed here: none of the values below, nor what any register held where the analysis began.
    Other,
    /// The number of a place in the module, as `lea x(%rip)` makes it.
    Address(u64),
    /// A word of the jump table at this address, counted from there.
    Entry(u64),
    /// Where an entry of this jump table leads.
    Target(Table),
    /// A base plus this.
    Sum(Base, i64),
    /// The word that lay at a base plus this where the analysis began.
    Word(Base, i64),
}

/// Hardware number of the stack pointer.
pub const SP: u8 = 4;
/// Hardware number of the frame pointer.
pub const FP: u8 = 5;
/// Hardware numbers of rbx, rbp and r12 to r15: what a function hands back unchanged.
pub const CALLEE_SAVED: [u8; 6] = [3, 5, 12, 13, 14, 15];
const WORD: i64 = 8;

/// The hardware number of a general register of any width.
pub fn number(name: Name) -> Option<u8> {
    let full = name.full_register();
    if full.is_gpr64() { u8::try_from(full.number()).ok() } else { None }
}

/// Registers and stack slots before one instruction.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    registers: [Value; 16],
    slots: Vec<Slot>,
    /// Where the addresses lie that are counted from others.
    made: Vec<Made>,
    /// The canonical frame address as a number, where it is known: alignment can then be computed.
    cfa: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    base: Base,
    offset: i64,
    value: Value,
}

/// Slots that are likely to be written next.
const MORE: usize = 8;

impl Clone for State {
    fn clone(&self) -> Self {
        let mut slots = Vec::with_capacity(self.slots.len().saturating_add(MORE));
        slots.extend_from_slice(&self.slots);
        Self { registers: self.registers, slots, made: self.made.clone(), cfa: self.cfa }
    }
}

impl State {
    /// A function has just been called.
    pub fn at_entry() -> Self {
        let mut state = Self::anywhere();
        for register in (0..16).filter(|register| !CALLEE_SAVED.contains(register)) {
            state.set(register, Value::Unknown);
        }
        state.set(SP, Value::Sum(Base::Cfa, -WORD));
        state
    }

    /// As [`State::at_entry`], with the stack pointer's value.
    pub fn at_entry_with(sp: u64) -> Self {
        Self { cfa: Some(sp.wrapping_add_signed(WORD)), ..Self::at_entry() }
    }

    /// Nothing is known but what the registers are called.
    pub fn anywhere() -> Self {
        let mut registers = [Value::Unknown; 16];
        for (number, register) in (0..).zip(&mut registers) {
            *register = Value::Sum(Base::Register(number), 0);
        }
        Self { registers, slots: Vec::new(), made: Vec::new(), cfa: None }
    }

    /// What a register holds.
    pub fn get(&self, register: u8) -> Value {
        self.registers.get(usize::from(register)).copied().unwrap_or(Value::Unknown)
    }

    /// Sets what a register holds.
    pub fn set(&mut self, register: u8, value: Value) {
        if let Some(slot) = self.registers.get_mut(usize::from(register)) {
            *slot = value;
        }
    }

    /// The word at `base + offset`.
    pub fn load(&self, base: Base, offset: i64) -> Value {
        match self.slots.iter().find(|slot| slot.offset == offset && slot.base == base) {
            Some(slot) => slot.value,
            None => initial(base, offset),
        }
    }

    /// Writes `size` bytes at `base + offset`; `value` is kept when they are one word.
    pub fn store(&mut self, base: Base, offset: i64, size: usize, value: Value) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let end = offset.saturating_add(size);
        if !self.made.is_empty() {
            self.spoil(base, offset, size);
        }
        for slot in &mut self.slots {
            if slot.base == base && slot.offset < end && offset < slot.offset.saturating_add(WORD) {
                slot.value = Value::Unknown;
            }
        }
        // What overlaps a word that was never written spoils that word too.
        let first = offset.div_euclid(WORD).saturating_mul(WORD);
        let words =
            if size == WORD { offset..offset.saturating_add(1) } else { first..end.min(first.saturating_add(64)) };
        let kept = if size == WORD { value } else { Value::Unknown };
        let mut at = words.start;
        while at < words.end {
            self.put(base, at, kept);
            at = at.saturating_add(WORD);
        }
    }

    fn put(&mut self, base: Base, offset: i64, value: Value) {
        // Where nothing was known before, nothing is worth remembering of what was computed.
        let value = if value == Value::Other { Value::Unknown } else { value };
        let found = self.slots.iter().position(|slot| slot.offset == offset && slot.base == base);
        match found {
            Some(index) if value == initial(base, offset) => {
                self.slots.swap_remove(index);
            }
            Some(index) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.value = value;
                }
            }
            None if value != initial(base, offset) => self.slots.push(Slot { base, offset, value }),
            None => {}
        }
    }

    /// Moves the stack pointer and forgets nothing: what lies below is dead only when something else may write there.
    pub fn move_sp(&mut self, by: i64) {
        if let Value::Sum(base, offset) = self.get(SP) {
            self.set(SP, Value::Sum(base, offset.wrapping_add(by)));
        }
    }

    /// Pushes one word.
    pub fn push(&mut self, value: Value) {
        self.move_sp(-WORD);
        if let Value::Sum(base, offset) = self.get(SP) {
            self.store(base, offset, 8, value);
        }
    }

    /// Pops one word.
    pub fn pop(&mut self) -> Value {
        let Value::Sum(base, offset) = self.get(SP) else {
            return Value::Unknown;
        };
        self.move_sp(WORD);
        self.load(base, offset)
    }

    /// A call came back: it kept the registers it must keep, and wrote below the stack pointer.
    pub fn called(&mut self) {
        for register in (0..16).filter(|register| *register != SP && !CALLEE_SAVED.contains(register)) {
            self.set(register, Value::Unknown);
        }
        for index in 0..self.slots.len() {
            let Some(Slot { base, offset, .. }) = self.slots.get(index).copied() else { break };
            if self.is_below_sp(base, offset, 0)
                && let Some(slot) = self.slots.get_mut(index)
            {
                slot.value = Value::Unknown;
            }
        }
    }

    /// Keeps what holds in both states. Returns whether anything was lost.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut lost = false;
        let differ = self.registers.iter_mut().zip(&other.registers).filter(|(mine, theirs)| mine != theirs);
        for (mine, theirs) in differ {
            let both = both(*mine, *theirs);
            lost |= *mine != both;
            *mine = both;
        }
        // Most states that meet have the same slots in the same order.
        let same = self.slots.iter().zip(&other.slots).take_while(|(mine, theirs)| mine == theirs).count();
        for slot in self.slots.iter_mut().skip(same) {
            if slot.value != Value::Unknown && other.load(slot.base, slot.offset) != slot.value {
                slot.value = Value::Unknown;
                lost = true;
            }
        }
        for slot in other.slots.iter().skip(same) {
            let mine = self.load(slot.base, slot.offset);
            if mine != Value::Unknown && mine != slot.value {
                self.put(slot.base, slot.offset, Value::Unknown);
                lost = true;
            }
        }
        self.join_made(other) || lost
    }

    /// The number that a register holds, where the canonical frame address is known.
    pub fn number(&self, register: u8) -> Option<u64> {
        match (self.get(register), self.cfa) {
            (Value::Sum(Base::Cfa, offset), Some(cfa)) => Some(cfa.wrapping_add_signed(offset)),
            _ => None,
        }
    }

    /// Where the word `value` lies, counted from `base`.
    pub fn slot_of(&self, base: Base, value: Value) -> Option<i64> {
        self.slots.iter().find(|slot| slot.base == base && slot.value == value).map(|slot| slot.offset)
    }
}

/// What is one or the other.
fn both(one: Value, other: Value) -> Value {
    match (one, other) {
        _ if one == other => one,
        // Whoever follows a table follows the label from which it is counted as well.
        (Value::Address(label), Value::Target(table)) | (Value::Target(table), Value::Address(label))
            if table.origin() == Some(label) =>
        {
            Value::Target(table)
        }
        _ => Value::Unknown,
    }
}

/// What a slot holds that was not written. A function's own frame holds nothing yet when it is called.
fn initial(base: Base, offset: i64) -> Value {
    match base {
        Base::Cfa if offset < -WORD => Value::Unknown,
        Base::Made(_) => Value::Unknown,
        Base::Cfa | Base::Register(_) => Value::Word(base, offset),
    }
}
