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
//! The entries of a computed `goto` are counted from a label instead, `lea label(%rip), %rdx`.
//!
//! An answer may have targets too many, never too few: a table whose length is not known is read up to the first entry
//! that leads out of the function.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RflagsBits};
use surestack_walk::Memory;

/// More entries than any table seen (interpreters have 256, generated parsers some thousands).
const MOST: u64 = 1 << 14;

/// How far before the jump the table and its bound are looked for.
const NEAR: usize = 32;

/// What an entry of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Four bytes, counted from an address in the module.
    Relative {
        /// How far behind the table's start it lies.
        from: i32,
    },
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

impl Table {
    /// The label from which its entries are counted, if that is not the table itself.
    pub fn origin(&self) -> Option<u64> {
        match self.form {
            Form::Relative { from } if from != 0 => Some(self.address.wrapping_add_signed(i64::from(from))),
            _ => None,
        }
    }
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
            Form::Relative { from } => {
                memory.value(table.address.checked_add(index.checked_mul(4)?)?, 4).ok().map(|entry| {
                    let offset = i32::from_le_bytes(u32::try_from(entry).unwrap_or(0).to_le_bytes());
                    table.address.wrapping_add_signed(i64::from(from)).wrapping_add_signed(i64::from(offset))
                })
            }
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

/// The table through which `jump` jumps and the number of its entries, from the instructions `before` it, if they are
/// executed one after the other.
pub fn find(before: &[Instruction], jump: &Instruction) -> Option<(Table, Option<u64>)> {
    let near = before.get(before.len().saturating_sub(NEAR)..)?;
    let count = || bound(near, jump).map(|bound| bound.count);
    if jump.op0_kind() == OpKind::Memory {
        return Some((Table { address: base_address(near, jump)?, form: Form::Absolute }, count()));
    }
    let load = near.iter().rposition(is_entry_load)?;
    let (until, rest) = near.split_at_checked(load)?;
    let entry = rest.first()?;
    let address = base_address(until, entry).or_else(|| base_address(near, entry))?;
    let is_offset = entry.memory_index_scale() == 4;
    // A base is added to an offset, and to nothing else.
    let adds = |found: &Instruction| {
        found.mnemonic() == Mnemonic::Add
            && found.op0_register() == jump.op0_register()
            && [entry.op0_register(), entry.memory_base()].contains(&found.op1_register())
    };
    let fits = if is_offset { rest.iter().any(adds) } else { entry.op0_register() == jump.op0_register() };
    let form = if is_offset { Form::Relative { from: 0 } } else { Form::Absolute };
    fits.then(|| (Table { address, form }, count()))
}

/// The address from which the memory operand of `access` counts, if it is constant.
fn base_address(before: &[Instruction], access: &Instruction) -> Option<u64> {
    let displacement = access.memory_displacement64();
    let base = access.memory_base();
    if base == Register::None {
        return Some(displacement);
    }
    let mut factory = InstructionInfoFactory::new();
    let set = before.iter().rev().find(|found| changes(found, base, &mut factory))?;
    let is_address = set.mnemonic() == Mnemonic::Lea && set.is_ip_rel_memory_operand();
    is_address.then(|| set.ip_rel_memory_address().wrapping_add(displacement))
}

/// A comparison that bounds the index of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Which of the instructions before the jump it is.
    pub checked: usize,
    /// How many entries it allows.
    pub count: u64,
}

/// The bounds check in the instructions `before` the `jump` through a table, if they are executed one after the other.
pub fn bound(before: &[Instruction], jump: &Instruction) -> Option<Bound> {
    if jump.op0_kind() == OpKind::Memory {
        return count(before, jump);
    }
    let load = before.iter().rposition(is_entry_load)?;
    let (until, rest) = before.split_at_checked(load)?;
    leads(rest, jump.op0_register()).then(|| count(until, rest.first()?))?
}

/// Whether an offset that one of the instructions `before` the `jump` reads from an array leads to where it jumps.
pub fn adds_offset(before: &[Instruction], jump: &Instruction) -> bool {
    let loads = |found: &Instruction| is_entry_load(found) && found.mnemonic() == Mnemonic::Movsxd;
    let rest = before.iter().rposition(loads).and_then(|load| before.get(load..));
    jump.op0_kind() == OpKind::Register && rest.is_some_and(|rest| leads(rest, jump.op0_register()))
}

/// Whether what the first instruction loads becomes, with a base added, what `target` holds behind them.
fn leads(instructions: &[Instruction], target: Register) -> bool {
    let mut factory = InstructionInfoFactory::new();
    let Some((load, rest)) = instructions.split_first() else { return false };
    let mut holder = load.op0_register().full_register();
    for found in rest {
        let adds = match found.mnemonic() {
            Mnemonic::Add => found.op1_register().full_register() == holder || is_first(found, holder),
            Mnemonic::Lea => {
                [found.memory_base(), found.memory_index()].contains(&holder) && found.memory_index_scale() == 1
            }
            _ => false,
        };
        if adds && found.op0_kind() == OpKind::Register {
            holder = found.op0_register().full_register();
        } else if changes(found, holder, &mut factory) {
            return false;
        }
    }
    holder == target.full_register()
}

fn is_entry_load(found: &Instruction) -> bool {
    let scale = match found.mnemonic() {
        Mnemonic::Movsxd => 4,
        Mnemonic::Mov => 8,
        _ => return false,
    };
    found.op1_kind() == OpKind::Memory && found.memory_index() != Register::None && found.memory_index_scale() == scale
}

/// The number of entries: one more than the constant that the index of `access` is compared with.
fn count(before: &[Instruction], access: &Instruction) -> Option<Bound> {
    let mut factory = InstructionInfoFactory::new();
    let mut index = access.memory_index().full_register();
    let mut memory: Option<Instruction> = None;
    for (checked, found) in before.iter().enumerate().rev() {
        if matches!(found.flow_control(), FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return) {
            return None;
        }
        if found.mnemonic() == Mnemonic::Cmp && compares(found, index, memory.as_ref()) {
            let behind = before.get(checked.checked_add(1)?..)?;
            let last = found.immediate(1);
            let count = passes(behind, last)?;
            return (count <= MOST).then_some(Bound { checked, count });
        }
        if let Some(load) = &memory {
            // What was compared has to be what was loaded.
            let stores = found.op0_kind() == OpKind::Memory && found.memory_base() == load.memory_base();
            if stores
                || changes(found, load.memory_base(), &mut factory)
                || changes(found, load.memory_index(), &mut factory)
            {
                return None;
            }
            continue;
        }
        if !changes(found, index, &mut factory) {
            continue;
        }
        match (found.mnemonic(), found.op1_kind()) {
            (Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsxd, OpKind::Register) if is_first(found, index) => {
                index = found.op1_register().full_register();
            }
            (Mnemonic::Mov | Mnemonic::Movzx, OpKind::Memory) if is_first(found, index) => memory = Some(*found),
            (Mnemonic::And, OpKind::Immediate8 | OpKind::Immediate8to32 | OpKind::Immediate8to64)
                if is_first(found, index) =>
            {
                let count = found.immediate(1).checked_add(1)?;
                return (count <= MOST).then_some(Bound { checked, count });
            }
            // The sign of what is not negative.
            (Mnemonic::Cdqe, _) => {}
            _ => return None,
        }
    }
    None
}

/// How many numbers get past the branches that a comparison with `last`, right before these instructions, decides.
fn passes(behind: &[Instruction], last: u64) -> Option<u64> {
    const DECIDES: u32 = RflagsBits::CF | RflagsBits::ZF;
    let deciding = behind.iter().take_while(|next| next.rflags_modified() & DECIDES == 0);
    deciding.fold(None, |count: Option<u64>, next| match next.mnemonic() {
        Mnemonic::Ja => count.or(last.checked_add(1)),
        Mnemonic::Jae => Some(last),
        Mnemonic::Je if count.is_some() => Some(last),
        _ => count,
    })
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

fn is_first(found: &Instruction, register: Register) -> bool {
    found.op0_kind() == OpKind::Register && found.op0_register().full_register() == register
}

/// Whether an instruction writes to a register.
fn changes(found: &Instruction, register: Register, factory: &mut InstructionInfoFactory) -> bool {
    let full = register.full_register();
    let used = factory.info(found).used_registers();
    register != Register::None
        && used.iter().any(|used| {
            used.register().full_register() == full && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
        })
}
