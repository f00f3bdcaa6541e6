//! Jump tables: where a `switch` or a computed `goto` leads.
//!
//! ```text
//!   lea  table(%rip), %rB                   lea table(%rip), %rB
//!   movslq (%rB,%rI,4), %rX                 jmp *(%rB,%rI,8)
//!   add  %rB, %rX                        or jmp *table(,%rI,8)
//!   jmp  *%rX
//! ```
//!
//! Entries are read up to the first that leads to nothing in the function: an answer may have targets too many, taken from
//! the table that lies behind.

use super::FileEvidence;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// More entries than any table has.
const MOST: u64 = 1 << 14;
/// How far before the jump the load is looked for.
const NEAR: usize = 16;

/// What the entries of a table are.
#[derive(Clone, Copy)]
enum Entries {
    /// Four bytes each, counted from the table.
    Relative,
    /// Addresses.
    Absolute,
}

impl FileEvidence<'_> {
    /// Where `jump` leads, if it goes through a table; `code` are the instructions of its function up to it, and `inside`
    /// tells whether something begins at an address that such a table may hold.
    pub(super) fn table(
        &self,
        code: &[Instruction],
        jump: &Instruction,
        inside: &dyn Fn(u64) -> bool,
    ) -> Option<Vec<u64>> {
        let (table, entries) = if jump.op0_kind() == OpKind::Memory {
            (array(code, jump)?, Entries::Absolute)
        } else {
            loaded(code, jump.op0_register())?
        };
        if self.writable(table).is_some() {
            return None;
        }
        let entry = |index: u64| match entries {
            Entries::Relative => {
                let offset = self.memory.value(table.checked_add(index.checked_mul(4)?)?, 4).ok()?;
                Some(table.wrapping_add_signed(i64::from(u32::try_from(offset).ok()?.cast_signed())))
            }
            Entries::Absolute => self.memory.word(table.checked_add(index.checked_mul(8)?)?).ok(),
        };
        let targets: Vec<u64> = (0..MOST).map_while(|index| entry(index).filter(|target| inside(*target))).collect();
        (!targets.is_empty()).then_some(targets)
    }
}

/// The table from which `register` was loaded last.
fn loaded(code: &[Instruction], register: Register) -> Option<(u64, Entries)> {
    let near = code.len().saturating_sub(NEAR);
    let load = near.checked_add(code.get(near..)?.iter().rposition(|found| is_table_load(found, register))?)?;
    let (load_at, rest) = (code.get(load)?, code.get(load.checked_add(1)?..)?);
    let base = array(code.get(..load)?, load_at)?;
    if load_at.mnemonic() == Mnemonic::Mov {
        return rest.iter().all(|found| !writes(found, register)).then_some((base, Entries::Absolute));
    }
    let adds = |found: &&Instruction| {
        let sums = matches!(found.mnemonic(), Mnemonic::Add | Mnemonic::Lea);
        sums && found.op0_register() == register
    };
    (rest.iter().filter(|found| writes(found, register)).all(|found| adds(&found))
        && rest.iter().filter(adds).count() == 1)
        .then_some((base, Entries::Relative))
}

/// Whether an instruction loads an entry of a table, for a jump through `register`.
fn is_table_load(found: &Instruction, register: Register) -> bool {
    let to_it = found.op0_register() == register;
    // The offset may be loaded into another register, to which the base is added, or the other way round.
    match found.mnemonic() {
        Mnemonic::Movsxd => found.memory_index_scale() == 4 && found.memory_index() != Register::None,
        Mnemonic::Mov => to_it && found.memory_index_scale() == 8 && found.memory_index() != Register::None,
        _ => false,
    }
}

/// Where the table begins that a memory operand indexes.
fn array(before: &[Instruction], operand: &Instruction) -> Option<u64> {
    let scaled = operand.memory_index() != Register::None && matches!(operand.memory_index_scale(), 4 | 8);
    if !scaled {
        return None;
    }
    let displacement = operand.memory_displacement64();
    if operand.memory_base() == Register::None {
        return Some(displacement);
    }
    let base = operand.memory_base();
    let lea = before.iter().rev().find(|found| found.op0_register() == base && found.mnemonic() == Mnemonic::Lea)?;
    let table = lea.is_ip_rel_memory_operand().then(|| lea.ip_rel_memory_address())?;
    (displacement == 0).then_some(table)
}

fn writes(instruction: &Instruction, register: Register) -> bool {
    let mut factory = InstructionInfoFactory::new();
    factory.info(instruction).used_registers().iter().any(|used| {
        used.register().full_register() == register
            && matches!(
                used.access(),
                OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
            )
    })
}
