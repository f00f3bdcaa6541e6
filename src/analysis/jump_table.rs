//! Jump tables: where a `switch` leads.
//!
//! ```text
//!   relative, gcc and clang -fPIC         absolute
//!     cmp  $last, %edi                      cmp $last, %edi
//!     ja   default                          ja  default
//!     lea  table(%rip), %rdx                jmp *table(,%rdi,8)
//!     movslq (%rdx,%rdi,4), %rax
//!     add  %rdx, %rax
//!     jmp  *%rax
//! ```
//!
//! An answer may have targets too many, never too few: a table whose length is not known is read up to the first entry
//! that leads out of the function.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use surestack_walk::Memory;

/// More entries than any table seen (interpreters have 256, generated parsers some thousands).
const MOST: u64 = 1 << 14;
/// How far before the jump the table and its bound are looked for.
const NEAR: usize = 32;

/// What an entry of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Four bytes, counted from the table's start.
    Relative,
    /// Eight bytes, an address.
    Absolute,
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Where it begins.
    pub address: u64,
    /// What its entries are.
    pub form: Form,
}

/// Where the entries of `table` lead: the first `count`, or where that is not known all up to the first that does not lead
/// `inside`. `None` where the table cannot be read, or one of the counted entries leads elsewhere.
pub fn targets(
    memory: &dyn Memory,
    table: Table,
    count: Option<u64>,
    inside: &dyn Fn(u64) -> bool,
) -> Option<Vec<u64>> {
    let mut found = Vec::new();
    for index in 0..count.unwrap_or(MOST).min(MOST) {
        let entry = match table.form {
            Form::Relative => memory.value(table.address.checked_add(index.checked_mul(4)?)?, 4).ok().map(|entry| {
                let offset = i32::from_le_bytes(u32::try_from(entry).unwrap_or(0).to_le_bytes());
                table.address.wrapping_add_signed(i64::from(offset))
            }),
            Form::Absolute => memory.word(table.address.checked_add(index.checked_mul(8)?)?).ok(),
        };
        match entry.filter(|target| inside(*target)) {
            Some(target) => found.push(target),
            None if count.is_none() && !found.is_empty() => break,
            None => return None,
        }
    }
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

/// The table through which `jump` jumps and the number of its entries, from the instructions `before` it, as far as they tell.
pub fn find(before: &[Instruction], jump: &Instruction) -> Option<(Table, Option<u64>)> {
    let near = before.get(before.len().saturating_sub(NEAR)..)?;
    if jump.op0_kind() == OpKind::Memory {
        let address = base_address(near, jump)?;
        return Some((Table { address, form: Form::Absolute }, count(near, jump)));
    }
    let register = jump.op0_register();
    let load = near.iter().rposition(is_entry_load)?;
    let (until, rest) = (near.get(..load)?, near.get(load..)?);
    let entry = rest.first()?;
    let address = base_address(until, entry).or_else(|| base_address(near, entry))?;
    let form = if entry.memory_index_scale() == 4 { Form::Relative } else { Form::Absolute };
    let fits = match form {
        // Base and entry are added, in either order.
        Form::Relative => rest.iter().any(|found| {
            found.mnemonic() == Mnemonic::Add
                && found.op0_register() == register
                && [entry.op0_register(), entry.memory_base()].contains(&found.op1_register())
        }),
        Form::Absolute => entry.op0_register() == register,
    };
    fits.then(|| (Table { address, form }, count(until, entry)))
}

/// The number of entries that the bounds check before `jump` allows.
pub fn bound(before: &[Instruction], jump: &Instruction) -> Option<u64> {
    let near = before.get(before.len().saturating_sub(NEAR)..)?;
    if jump.op0_kind() == OpKind::Memory {
        return count(near, jump);
    }
    let load = near.iter().rposition(is_entry_load)?;
    count(near.get(..load)?, near.get(load)?)
}

fn is_entry_load(found: &Instruction) -> bool {
    let scale = match found.mnemonic() {
        Mnemonic::Movsxd => 4,
        Mnemonic::Mov => 8,
        _ => return false,
    };
    found.op1_kind() == OpKind::Memory && found.memory_index() != Register::None && found.memory_index_scale() == scale
}

/// The address from which the memory operand of `access` counts, if it is constant.
fn base_address(before: &[Instruction], access: &Instruction) -> Option<u64> {
    let displacement = access.memory_displacement64();
    let base = access.memory_base();
    if base == Register::None {
        return Some(displacement);
    }
    let set = before.iter().rev().find(|found| writes(found, base))?;
    let is_address = set.mnemonic() == Mnemonic::Lea && set.is_ip_rel_memory_operand();
    is_address.then(|| set.ip_rel_memory_address().wrapping_add(displacement))
}

/// The number of entries: one more than the constant that the index of `access` is compared with.
fn count(before: &[Instruction], access: &Instruction) -> Option<u64> {
    let mut index = access.memory_index().full_register();
    let mut memory: Option<Instruction> = None;
    for (position, found) in before.iter().enumerate().rev() {
        if matches!(found.flow_control(), FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return) {
            return None;
        }
        if found.mnemonic() == Mnemonic::Cmp && compares(found, index, memory.as_ref()) {
            let jump = before.get(position.checked_add(1)?..)?.iter();
            let jump = jump.into_iter().find(|next| next.flow_control() == FlowControl::ConditionalBranch)?;
            let last = found.immediate(1);
            return match jump.mnemonic() {
                Mnemonic::Ja | Mnemonic::Jbe => last.checked_add(1),
                Mnemonic::Jae | Mnemonic::Jb => Some(last),
                _ => None,
            }
            .filter(|count| *count <= MOST);
        }
        if memory.is_some() || !writes(found, index) {
            continue;
        }
        match (found.mnemonic(), found.op1_kind()) {
            (Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsxd, OpKind::Register) => {
                index = found.op1_register().full_register();
            }
            (Mnemonic::Mov | Mnemonic::Movzx, OpKind::Memory) => memory = Some(*found),
            (Mnemonic::And, OpKind::Immediate8 | OpKind::Immediate8to32 | OpKind::Immediate8to64) => {
                return found.immediate(1).checked_add(1).filter(|count| *count <= MOST);
            }
            _ => return None,
        }
    }
    None
}

fn compares(found: &Instruction, index: Register, memory: Option<&Instruction>) -> bool {
    let with_constant = matches!(
        found.op1_kind(),
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    );
    with_constant
        && match memory {
            None => found.op0_kind() == OpKind::Register && found.op0_register().full_register() == index,
            Some(load) => {
                found.op0_kind() == OpKind::Memory
                    && found.memory_base() == load.memory_base()
                    && found.memory_index() == load.memory_index()
                    && found.memory_displacement64() == load.memory_displacement64()
            }
        }
}

/// Whether the first operand is this register, and written.
fn writes(found: &Instruction, register: Register) -> bool {
    let reads_only = matches!(found.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt);
    found.op0_kind() == OpKind::Register
        && found.op0_register().full_register() == register.full_register()
        && !reads_only
}
