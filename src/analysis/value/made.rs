//! Addresses that lie somewhere near others: an aligned stack pointer, one from which an unknown amount was taken.
//!
//! ```text
//!   CFA ─► ┌──────────────────┐
//!          │ saved registers  │
//!   sp  ─► ├──────────────────┤ ◄─┐
//!          │ lost to rounding │   │  sub $0x120,%rsp; and $-256,%rsp
//!          ├──────────────────┤   │  made: 0x120 to 0x120 + 255 below sp
//!          │ locals           │   │
//!   made ► └──────────────────┘ ◄─┘
//! ```
//!
//! What is written through one of them spoils every word that it may hit, and none that it cannot.

use super::{Base, SP, Slot, State, Value, WORD};

/// Words above the frame that are looked after one by one: arguments.
const ABOVE: i64 = 64;

/// Where an address lies that an instruction made: between `low` and `high`, counted from `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// Where the instruction is.
    at: u64,
    from: Base,
    low: i64,
    high: i64,
}

impl State {
    /// Makes a register an address between `low` and `high` above `from`: the instruction at `address` does. The least and
    /// the greatest number stand for no bound.
    pub fn make(&mut self, register: u8, address: u64, from: Value, (low, high): (i64, i64)) {
        let Value::Sum(base, offset) = from else {
            return self.set(register, Value::Unknown);
        };
        let mut made = Made { at: address, from: base, low: shift(offset, low), high: shift(offset, high) };
        // The same instruction may have made another one before, from which this one or others are counted.
        let old = Base::Made(address);
        if let Some(index) = self.made.iter().position(|other| other.at == address) {
            let gone = self.made.swap_remove(index);
            for other in self.made.iter_mut().chain([&mut made]).filter(|other| other.from == old) {
                other.from = gone.from;
                other.low = shift(gone.low, other.low);
                other.high = shift(gone.high, other.high);
            }
            self.forget(old);
        }
        self.made.push(made);
        self.set(register, Value::Sum(old, 0));
    }

    /// Forgets what is counted from `old`, and what lies there.
    fn forget(&mut self, old: Base) {
        self.slots.retain(|slot| slot.base != old);
        let forget = |value: &mut Value| {
            if matches!(*value, Value::Sum(base, _) | Value::Word(base, _) if base == old) {
                *value = Value::Unknown;
            }
        };
        self.registers.iter_mut().for_each(forget);
        self.slots.iter_mut().map(|slot| &mut slot.value).for_each(forget);
    }

    /// Clears bits of a register.
    pub fn align(&mut self, register: u8, address: u64, mask: u64) {
        if let (Some(cfa), Value::Sum(Base::Cfa, offset)) = (self.cfa, self.get(register)) {
            let aligned = cfa.wrapping_add_signed(offset) & mask;
            return self.set(register, Value::Sum(Base::Cfa, aligned.wrapping_sub(cfa).cast_signed()));
        }
        let is_frame =
            matches!(self.get(register), Value::Sum(base, _) if !matches!(base, Base::Register(other) if other != SP));
        if !is_frame {
            return self.set(register, self.computed(register));
        }
        let low = i64::try_from(!mask).map_or(i64::MIN, i64::wrapping_neg);
        self.make(register, address, self.get(register), (low, 0));
    }

    /// Whether the word at `base + offset` may lie more than `by` below the stack pointer.
    pub fn is_below_sp(&self, base: Base, offset: i64, by: i64) -> bool {
        let Value::Sum(sp, lowest) = self.get(SP) else { return false };
        self.apart((base, offset), (sp, lowest.saturating_sub(by))).is_some_and(|(low, _)| low < 0)
    }

    /// Forgets what may lie in the `size` bytes at `base + offset`, but for words that are counted from `base` as well.
    pub(super) fn spoil(&mut self, base: Base, offset: i64, size: i64) {
        let hit = |state: &Self, other: Base, at: i64| {
            let apart = state.apart((other, at), (base, offset));
            apart.is_some_and(|(low, high)| low < size && high > -WORD)
        };
        for index in 0..self.slots.len() {
            let Some(Slot { base: other, offset: at, .. }) = self.slots.get(index).copied() else { break };
            if other != base
                && hit(self, other, at)
                && let Some(slot) = self.slots.get_mut(index)
            {
                slot.value = Value::Unknown;
            }
        }
        // Words of the caller's that were not written are known too.
        let Some((root, first)) = self.root(base).filter(|(root, _)| *root != base) else { return };
        let Some((low, high)) = self.apart((root, first), (base, offset)) else { return };
        for by in (0..ABOVE).map(|index| index.saturating_mul(WORD)).take_while(|by| shift(low, *by) < size) {
            if shift(high, by) > -WORD {
                self.put(root, first.saturating_add(by), Value::Unknown);
            }
        }
        if shift(low, ABOVE.saturating_mul(WORD)) < size {
            let is_root = |value: &Value| matches!(*value, Value::Sum(base, _) if base == root);
            self.registers.iter_mut().filter(|value| is_root(value)).for_each(|value| *value = Value::Unknown);
        }
    }

    /// Keeps of what was made what holds in both states. Returns whether anything was lost.
    pub(super) fn join_made(&mut self, other: &Self) -> bool {
        let mut lost = false;
        let mut strange = Vec::new();
        for mine in &mut self.made {
            let Some(theirs) = other.made.iter().find(|theirs| theirs.at == mine.at) else { continue };
            if theirs.from != mine.from {
                strange.push(mine.at);
                continue;
            }
            lost |= theirs.low < mine.low || theirs.high > mine.high;
            mine.low = mine.low.min(theirs.low);
            mine.high = mine.high.max(theirs.high);
        }
        for at in strange {
            let (old, registers) = (Base::Made(at), self.registers);
            lost |= self.slots.iter().any(|slot| slot.base == old && slot.value != Value::Unknown);
            self.forget(old);
            lost |= registers != self.registers;
        }
        lost
    }

    /// Whether every address is counted from where the analysis began.
    pub fn is_plain(&self) -> bool {
        self.made.is_empty()
    }

    /// Whether two addresses are never the same.
    pub fn never_meet(&self, one: (Base, i64), other: (Base, i64)) -> bool {
        self.apart(one, other).is_some_and(|(low, high)| low > 0 || high < 0)
    }

    /// The bounds of the first address minus the second; `None` where they have nothing to do with each other.
    #[inline]
    fn apart(&self, one: (Base, i64), other: (Base, i64)) -> Option<(i64, i64)> {
        if one.0 == other.0 {
            let apart = one.1.saturating_sub(other.1);
            return Some((apart, apart));
        }
        if self.made.is_empty() {
            return None;
        }
        self.apart_from_far(one, other)
    }

    /// [`State::apart`], where both are counted from something else.
    fn apart_from_far(&self, one: (Base, i64), other: (Base, i64)) -> Option<(i64, i64)> {
        self.chain(one).find_map(|(base, low, high)| {
            let (_, lowest, highest) = self.chain(other).find(|(other, ..)| *other == base)?;
            Some((less(low, highest), less(high, lowest)))
        })
    }

    /// What an address may be counted from, and its bounds counted from there: the nearest first.
    fn chain(&self, (base, offset): (Base, i64)) -> impl Iterator<Item = (Base, i64, i64)> {
        let mut next = Some((base, offset, offset));
        // No longer than there are addresses.
        (0..=self.made.len()).map_while(move |_| {
            let (base, low, high) = next?;
            let made = self.made.iter().find(|made| Base::Made(made.at) == base);
            next = made.map(|made| (made.from, shift(low, made.low), shift(high, made.high)));
            Some((base, low, high))
        })
    }

    /// What an address is counted from in the end, and the lowest word there that the function has from its caller.
    fn root(&self, base: Base) -> Option<(Base, i64)> {
        match self.chain((base, 0)).last()?.0 {
            Base::Cfa => Some((Base::Cfa, -WORD)),
            root @ Base::Register(_) => Some((root, 0)),
            Base::Made(_) => None,
        }
    }
}

/// A bound, moved.
fn shift(bound: i64, by: i64) -> i64 {
    match (bound, by) {
        (i64::MIN, _) | (_, i64::MIN) => i64::MIN,
        (i64::MAX, _) | (_, i64::MAX) => i64::MAX,
        _ => bound.saturating_add(by),
    }
}

/// A bound minus another one.
fn less(bound: i64, other: i64) -> i64 {
    match (bound, other) {
        (i64::MIN, _) | (_, i64::MAX) => i64::MIN,
        (i64::MAX, _) | (_, i64::MIN) => i64::MAX,
        _ => bound.saturating_sub(other),
    }
}
