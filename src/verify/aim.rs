//! Where an indirect call, jump or return leads.

use super::binary::Binary;
use super::execute::{load, place};
use super::value::{State, Value};
use crate::analysis::jump_table::{self, Form, Table};
use crate::analysis::{SP, number};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register as Name};
use std::collections::BTreeSet;
use std::ops::Range;

/// Where one leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// To one of these.
    To(Vec<u64>),
    /// To one of those that the table at this address names.
    Table(u64, Vec<u64>),
    /// Back to the caller.
    Back,
    /// To the word so far behind what a pointer leads to: a slot, if that is a vtable.
    Slot(i64),
    /// Nobody knows.
    Unknown(Reason),
}

/// Why nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Through a variable that can be written to, at this address.
    Variable(u64),
    /// Through a pointer that was read from a variable.
    Loaded,
    /// Through a register or a word on the stack about which nothing is known.
    Pointer,
    /// Through a table that is not understood, at this address.
    Table(u64),
    /// Through a slot that none of the vtables has to which reached code refers.
    Slot(i64),
    /// A return, and what it returns to was not put there by a call.
    Return,
}

/// Where the indirect `call` or jump leads. `before` it, these instructions are executed one after the other.
pub(super) fn aim(binary: &Binary, state: &State, before: &[Instruction], call: &Instruction) -> Aim {
    match anywhere(binary, state, before, call) {
        // A null pointer leads to a fault, and nowhere else.
        Aim::To(targets) => Aim::To(targets.into_iter().filter(|target| *target != 0).collect()),
        other => other,
    }
}

fn anywhere(binary: &Binary, state: &State, before: &[Instruction], call: &Instruction) -> Aim {
    if call.op0_kind() == OpKind::Register {
        let value = number(call.op0_register()).map_or(Value::Any, |register| state.get(register));
        return of(binary, &value, before, call);
    }
    if call.memory_index() != Name::None {
        return element(binary, state, before, call);
    }
    let at = place(state, call);
    if let Value::Known(places) = &at {
        let words = places.iter().map(|place| {
            let word = binary.constant(*place).ok_or(Reason::Variable(*place))?;
            binary.pointer(word).ok_or(Reason::Table(*place))
        });
        return words.collect::<Result<Vec<u64>, Reason>>().map_or_else(Aim::Unknown, Aim::To);
    }
    of(binary, &load(binary, state, call), before, call)
}

/// Where a return leads.
pub(super) fn back(state: &State) -> Aim {
    match state.load(&state.get(SP)) {
        Value::Return => Aim::Back,
        Value::Known(targets) | Value::Method(_, targets) => Aim::To(targets),
        _ => Aim::Unknown(Reason::Return),
    }
}

fn of(binary: &Binary, value: &Value, before: &[Instruction], call: &Instruction) -> Aim {
    match value {
        Value::Known(targets) | Value::Method(_, targets) => Aim::To(targets.clone()),
        Value::Target(table) => read(binary, *table, before, call),
        Value::Return => Aim::Back,
        Value::Member(offset) => Aim::Slot(*offset),
        Value::Loaded => Aim::Unknown(Reason::Loaded),
        Value::Any | Value::Stack { .. } | Value::Half(_) | Value::Element(_) => Aim::Unknown(Reason::Pointer),
    }
}

/// `call *table(,%rdi,8)` and `call *(%rax,%rdi,8)`; and `call *(%rax,%rdi)`, the index multiplied before.
fn element(binary: &Binary, state: &State, before: &[Instruction], call: &Instruction) -> Aim {
    let one = |name: Name| match number(name).map(|register| state.get(register)) {
        Some(Value::Known(places)) if places.len() == 1 => places.first().copied(),
        _ => None,
    };
    let base = if call.memory_base() == Name::None { Some(0) } else { one(call.memory_base()) };
    let scaled = call.memory_index_scale() == 8;
    let start = base.or_else(|| one(call.memory_index()).filter(|_| call.memory_index_scale() == 1));
    let address = start.map(|start| start.wrapping_add(call.memory_displacement64()));
    // Only of an object that has a name is it known where it ends.
    let known = address.filter(|address| base.is_some() && scaled || binary.symbols.object(*address).is_some());
    match known.filter(|_| !matches!(call.segment_prefix(), Name::FS | Name::GS)) {
        Some(address) => read(binary, Table { address, form: Form::Absolute }, before, call),
        None => Aim::Unknown(Reason::Pointer),
    }
}

/// Where the entries of a table lead.
fn read(binary: &Binary, table: Table, before: &[Instruction], call: &Instruction) -> Aim {
    let refused = Aim::Unknown(Reason::Table(table.address));
    if binary.constant(table.address).is_none() {
        return Aim::Unknown(Reason::Variable(table.address));
    }
    if table.form == Form::Absolute
        && let Some(object) = binary.symbols.object(table.address)
    {
        let all = binary.pointers(object.extent.start, object.extent.end);
        let leads = |address: &u64| binary.symbols.is_code(*address) || binary.import(*address).is_some();
        let targets: Vec<u64> = all.into_iter().map(|(_, target)| target).filter(leads).collect();
        return if targets.is_empty() { refused } else { Aim::Table(table.address, targets) };
    }
    let parts = parts(binary, call.ip());
    let starts: BTreeSet<u64> = parts.iter().flat_map(|part| instructions(binary, part)).collect();
    let inside = |address: u64| starts.contains(&address) || parts.iter().any(|part| part.end == address);
    let enters = |address: u64| inside(address) || binary.import(address).is_some() || is_start(binary, address);
    let bound = jump_table::bound(before, call);
    let counted = bound.and_then(|bound| jump_table::targets(binary, table, Some(bound.count), &enters));
    // Bits that are cut off say how long a table may be, a comparison how long it is. Of one without a bound what follows it
    // is read too, up to what leads elsewhere or between two instructions.
    let compared = bound.and_then(|bound| before.get(bound.checked)).is_some_and(|by| by.mnemonic() == Mnemonic::Cmp);
    let all = || jump_table::targets(binary, table, None, &inside).filter(|_| !compared);
    let found = counted.or_else(all);
    let Some(mut targets) = found else { return refused };
    // A case that cannot happen leads behind the function's last instruction.
    let is_nowhere =
        |target: &u64| parts.iter().any(|part| part.end == *target) && parts.iter().all(|part| part.start != *target);
    targets.retain(|target| !is_nowhere(target));
    Aim::Table(table.address, targets)
}

fn is_start(binary: &Binary, address: u64) -> bool {
    binary.symbols.names_at(address).next().is_some()
}

/// Where the instructions of a piece of code begin.
fn instructions(binary: &Binary, part: &Range<u64>) -> Vec<u64> {
    let length = usize::try_from(part.end.saturating_sub(part.start)).unwrap_or(0);
    let bytes = binary.image.at(part.start, length).unwrap_or_default();
    Decoder::with_ip(64, bytes, part.start, DecoderOptions::NONE).iter().map(|found| found.ip()).collect()
}

/// The function that holds `address`, and what was split off from it.
fn parts(binary: &Binary, address: u64) -> Vec<Range<u64>> {
    const COLD: &str = ".cold";
    let Some(here) = binary.symbols.function(address) else { return Vec::new() };
    let whole = here.symbol.split(COLD).next().unwrap_or(&here.symbol);
    let is_part =
        |symbol: &str| symbol.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(COLD));
    let parts = binary.symbols.functions().iter().filter(|function| is_part(&function.symbol));
    parts.map(|part| part.start..part.end).collect()
}
