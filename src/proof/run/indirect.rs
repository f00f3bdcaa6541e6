//! Jumps to where a register or memory says, and addresses of code that are loaded.

use super::{Ground, Known, Run, is_undone};
use crate::analysis::jump_table::{self, Table};
use crate::analysis::{Op, Value, number};
use crate::proof::Source;
use crate::proof::code::{Step, Way};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register as Name};
use std::collections::BTreeSet;
use surestack_walk::Memory;

/// Instructions before a jump among which its table is looked for.
const BEFORE: usize = 32;

/// A jump that was looked at.
pub(super) struct Jump {
    /// What is known of where it leads.
    place: Value,
    targets: Option<Vec<u64>>,
    /// The comparison that bounds its table, or the jump itself.
    since: usize,
}

impl Run<'_, '_> {
    /// A jump to where a register or memory says.
    pub(super) fn indirect(&mut self, index: usize, known: &Known) {
        if let Some(targets) = self.targets(index, known) {
            for target in targets {
                self.join_at(target, known);
            }
            self.lost.remove(&index);
        } else if is_undone(&known.state) && !self.adds_offset(index) {
            // A call in tail position.
        } else if self.is_return(index) {
            self.leaving.insert(index);
        } else {
            self.lost.insert(index, known.clone());
        }
    }

    /// `pop %rcx; jmp *%rcx`, which is `ret` without the shadow stack's consent: libgcc goes to landing pads by it.
    fn is_return(&self, index: usize) -> bool {
        let decoded = |index: usize| decode(self.source, self.code.steps.get(index)?);
        let (Some(jump), Some(pop)) = (decoded(index), index.checked_sub(1).and_then(decoded)) else { return false };
        pop.mnemonic() == Mnemonic::Pop && pop.next_ip() == jump.ip() && pop.op0_register() == jump.op0_register()
    }

    /// Whether the jump at `index` goes where an offset says that was just read from a table: that is no call of a function.
    fn adds_offset(&self, index: usize) -> bool {
        let from = index.saturating_sub(BEFORE);
        let steps = self.code.steps.get(from..=index).unwrap_or_default();
        let decoded: Vec<Instruction> = steps.iter().filter_map(|step| decode(self.source, step)).collect();
        decoded.split_last().is_some_and(|(jump, before)| jump_table::adds_offset(before, jump))
    }

    fn targets(&mut self, index: usize, known: &Known) -> Option<Vec<u64>> {
        let step = self.code.steps.get(index)?;
        let jump = decode(self.source, step)?;
        let place = place(&jump, known);
        if let Some(found) = self.tables.get(&index).filter(|found| found.place == place) {
            return found.targets.clone();
        }
        let mut found = Jump { place, targets: None, since: index };
        match place {
            Value::Address(label) if self.code.find(label).is_some() => found.targets = Some(vec![label]),
            Value::Target(table) => (found.targets, found.since) = self.read_table(index, &jump, table),
            _ => {}
        }
        let targets = found.targets.clone();
        self.tables.insert(index, found);
        targets
    }

    /// Where a table leads, and from which instruction on control has to come straight to the jump for that.
    fn read_table(&self, index: usize, jump: &Instruction, table: Table) -> (Option<Vec<u64>>, usize) {
        let from = index.saturating_sub(BEFORE);
        let steps = self.code.steps.get(from..index).unwrap_or_default();
        let before: Vec<Instruction> = steps.iter().map_while(|step| decode(self.source, step)).collect();
        // What cannot happen leads behind the function's last instruction.
        let is_end = |address: u64| self.code.members.iter().any(|member| member.extent.end == address);
        let inside = |address: u64| {
            let address = address.wrapping_sub(self.bias(table));
            self.code.find(address).is_some() || is_end(address)
        };
        let bound = jump_table::bound(&before, jump).filter(|_| before.len() == steps.len());
        let bound = bound.map(|bound| (from.saturating_add(bound.checked), bound.count));
        // A comparison may belong to something else, or may not be what led here: then the table says where it ends.
        let counted = bound
            .filter(|(since, _)| self.is_straight(*since, index))
            .and_then(|(since, count)| Some((jump_table::targets(self.source, table, Some(count), &inside)?, since)));
        let all = || Some((jump_table::targets(self.source, table, None, &inside)?, index));
        let Some((found, since)) = counted.or_else(all) else { return (None, index) };
        // The label itself may be joined with what is counted from it.
        let origin = table.origin().filter(|origin| inside(*origin));
        (Some(found.into_iter().chain(origin).map(|address| address.wrapping_sub(self.bias(table))).collect()), since)
    }

    /// Whether control comes to the instruction at `to` only from the one at `from`, one after the other.
    fn is_straight(&self, from: usize, to: usize) -> bool {
        let entered = |index: usize| self.known_at(index).is_some();
        let between = self.code.steps.get(from..to).unwrap_or_default();
        between.iter().all(|step| matches!(step.way, Way::On | Way::Branch(_)))
            && (from..to)
                .map(|index| index.saturating_add(1))
                .all(|index| !entered(index) && self.code.steps.get(index).is_some_and(|step| !step.target))
    }

    /// Looks again at tables where something leads in between the comparison and the jump, which was not known before.
    pub(super) fn straighten(&mut self) {
        loop {
            let is_bent =
                |(index, jump): &(&usize, &Jump)| jump.since != **index && !self.is_straight(jump.since, **index);
            let bent: Vec<usize> = self.tables.iter().filter(is_bent).map(|(index, _)| *index).collect();
            if bent.is_empty() {
                return;
            }
            for index in bent {
                self.tables.remove(&index);
                let owner = self.owner.get(index).and_then(|owner| usize::try_from(*owner).ok());
                self.queue.extend(owner);
            }
            self.drain();
        }
    }

    /// What has to be subtracted from entries: absolute ones of a module that is loaded are the target's addresses.
    fn bias(&self, table: Table) -> u64 {
        match table.form {
            jump_table::Form::Relative { .. } => 0,
            jump_table::Form::Absolute => self.source.bias,
        }
    }

    /// Addresses of code that are loaded, and for what nobody knows.
    pub(super) fn labels(&self) -> Vec<u64> {
        let loads = self.code.labels.iter().filter_map(|index| match self.code.steps.get(*index)?.op {
            Op::Address { to, address } if !self.is_entry(address) && !self.is_origin(*index, to, address) => {
                Some(address)
            }
            _ => None,
        });
        loads.collect()
    }

    /// Whether a function that can be called begins at `address`: whoever calls it through a pointer keeps to the ABI.
    fn is_entry(&self, address: u64) -> bool {
        let starts = self.code.member(address).is_some_and(|member| member.extent.start == address);
        let known = self.code.find(address).and_then(|index| self.known_at(index));
        starts && known.is_some_and(|known| known.ground == Ground::Entry)
    }

    /// Whether the label that the instruction at `index` loads into a register is what the entries of a table are counted
    /// from, or where a jump leads right away, and nothing else. This is how compilers write a `goto` to one of many labels.
    fn is_origin(&self, index: usize, register: u8, label: u64) -> bool {
        let mut work = vec![index.saturating_add(1)];
        let mut seen = BTreeSet::new();
        while let Some(at) = work.pop() {
            let Some(step) = self.code.steps.get(at).filter(|_| seen.len() < BEFORE) else { return false };
            if !seen.insert(at) {
                continue;
            }
            let next = at.saturating_add(1);
            match (step.way, step.op) {
                (Way::Indirect, _) => {
                    let targets = self.tables.get(&at).and_then(|jump| jump.targets.as_ref());
                    if !targets.is_some_and(|targets| targets.contains(&label)) {
                        return false;
                    }
                }
                (Way::Jump(to), _) => match self.code.find(to) {
                    Some(to) => work.push(to),
                    None => return false,
                },
                (Way::Branch(to), _) => match self.code.find(to) {
                    Some(to) => work.extend([to, next]),
                    None => return false,
                },
                (Way::On, Op::Add { one, other, .. }) if one == register || other == register => work.push(next),
                (Way::On, Op::Store { value: Some(from), .. } | Op::Push(from) | Op::Move { from, .. })
                    if from == register =>
                {
                    return false;
                }
                (Way::On, Op::Exchange(..)) => return false,
                (Way::On, op) if op.changes() & (1 << register) == 0 => work.push(next),
                // It holds something else from here on.
                (Way::On, Op::Move { .. } | Op::Address { .. } | Op::Load { .. } | Op::Compute(_)) => {}
                _ => return false,
            }
        }
        true
    }

    /// Code whose address is taken is entered by somebody, with what its rows say for all that is known.
    pub(super) fn enter_labels(&mut self, labels: &[u64]) {
        for label in labels {
            let Some(index) = self.code.find(*label) else { continue };
            if let Some(known) = self.claimed(index) {
                self.join(index, &known);
            }
        }
        self.drain();
    }
}

/// What is known of where `jump` leads.
fn place(jump: &Instruction, known: &Known) -> Value {
    let held = |name: Name| number(name).map_or(Value::Unknown, |register| known.state.get(register));
    if jump.op0_kind() == OpKind::Register {
        return held(jump.op0_register());
    }
    // Any other word in memory is a pointer that somebody may change.
    if jump.memory_index() == Name::None || jump.memory_index_scale() != 8 || jump.segment_prefix() != Name::None {
        return Value::Unknown;
    }
    let table = |address| Value::Target(Table { address, form: jump_table::Form::Absolute });
    match jump.memory_base() {
        Name::None => table(jump.memory_displacement64()),
        base => match held(base) {
            Value::Address(address) => table(address.wrapping_add(jump.memory_displacement64())),
            _ => Value::Unknown,
        },
    }
}

fn decode(source: &Source<'_>, step: &Step) -> Option<Instruction> {
    let mut bytes = [0; 16];
    let bytes = bytes.get_mut(..usize::from(step.length))?;
    source.read(step.at, bytes).ok()?;
    Some(Decoder::with_ip(64, bytes, step.at, DecoderOptions::NONE).decode())
}
