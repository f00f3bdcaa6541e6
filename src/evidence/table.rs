//! Jump tables: where a `switch` or a computed `goto` leads.
//!
//! ```text
//!   lea  table(%rip), %rB                   lea table(%rip), %rB
//!   movslq (%rB,%rI,4), %rX                 jmp *(%rB,%rI,8)
//!   add  %rB, %rX                        or jmp *table(,%rI,8)
//!   jmp  *%rX
//! ```
//!
//! How its entries are read is said in `analysis::jump_table`.

use crate::analysis::jump_table::{Form, Table};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// How far before the jump the load is looked for.
const NEAR: usize = 16;

/// The table through which `jump` jumps; `before` are the instructions of its function before it.
pub(super) fn find(before: &[Instruction], jump: &Instruction) -> Option<Table> {
    if jump.op0_kind() == OpKind::Memory {
        return Some(Table { address: array(before, jump)?, form: Form::Absolute });
    }
    loaded(before, jump.op0_register())
}

/// The table from which `register` was loaded last.
fn loaded(code: &[Instruction], register: Register) -> Option<Table> {
    let near = code.len().saturating_sub(NEAR);
    let load = near.checked_add(code.get(near..)?.iter().rposition(|found| is_table_load(found, register))?)?;
    let (load_at, rest) = (code.get(load)?, code.get(load.checked_add(1)?..)?);
    let base = array(code.get(..load)?, load_at)?;
    if load_at.mnemonic() == Mnemonic::Mov {
        return rest
            .iter()
            .all(|found| !writes(found, register))
            .then_some(Table { address: base, form: Form::Absolute });
    }
    let adds = |found: &&Instruction| {
        let sums = matches!(found.mnemonic(), Mnemonic::Add | Mnemonic::Lea);
        sums && found.op0_register() == register
    };
    (rest.iter().filter(|found| writes(found, register)).all(|found| adds(&found))
        && rest.iter().filter(adds).count() == 1)
        .then_some(Table { address: base, form: Form::Relative { from: 0 } })
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
