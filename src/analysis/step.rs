//! What one instruction does to the state.

use super::value::{Base, FP, SP, State, Value, number};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Name};

/// Executes `instruction`, a call as if it had come back.
pub fn execute(state: &mut State, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
    if !known(state, instruction) {
        other(state, instruction, factory);
    }
}

/// The instructions that move the stack pointer and save registers. Returns whether this was one of them.
fn known(state: &mut State, instruction: &Instruction) -> bool {
    let wide = |operand: u32| {
        (instruction.op_kind(operand) == OpKind::Register)
            .then(|| instruction.op_register(operand))
            .filter(|name| name.is_gpr64())
    };
    let first = wide(0).and_then(number);
    let second = wide(1).and_then(number);
    let sp_moves = i64::from(instruction.stack_pointer_increment());
    match instruction.mnemonic() {
        Mnemonic::Call => {
            // `call .+5` only pushes.
            if instruction.near_branch_target() == instruction.next_ip() {
                state.push(Value::Unknown);
            } else {
                state.called();
            }
        }
        Mnemonic::Push if sp_moves == -8 => {
            let value = match (first, instruction.op_kind(0)) {
                (Some(register), _) => state.get(register),
                (None, OpKind::Memory) => load(state, instruction),
                _ => Value::Unknown,
            };
            state.push(value);
        }
        Mnemonic::Pop if sp_moves == 8 => {
            let value = state.pop();
            match first {
                Some(register) => state.set(register, value),
                None => store(state, instruction, value),
            }
        }
        Mnemonic::Leave if sp_moves != 2 => {
            state.set(SP, state.get(FP));
            let value = state.pop();
            state.set(FP, value);
        }
        Mnemonic::Enter if instruction.immediate8_2nd() == 0 => {
            state.push(state.get(FP));
            state.set(FP, state.get(SP));
            state.move_sp(-i64::from(instruction.immediate16()));
        }
        Mnemonic::Mov => match (first, second) {
            (Some(to), Some(from)) => state.set(to, state.get(from)),
            (Some(to), None) if instruction.op1_kind() == OpKind::Memory => {
                let value = load(state, instruction);
                state.set(to, value);
            }
            (None, Some(from)) if instruction.op0_kind() == OpKind::Memory => {
                store(state, instruction, state.get(from))
            }
            _ => return false,
        },
        Mnemonic::Xchg => match (first, second) {
            (Some(one), Some(two)) => {
                let (kept, moved) = (state.get(one), state.get(two));
                state.set(one, moved);
                state.set(two, kept);
            }
            _ => return false,
        },
        Mnemonic::Lea => match (first, address(state, instruction)) {
            (Some(to), Some((base, offset))) => state.set(to, Value::Sum(base, offset)),
            (Some(SP), None) => state.make_sp(instruction.ip(), None),
            _ => return false,
        },
        Mnemonic::Add | Mnemonic::Sub => match (first, immediate(instruction)) {
            (Some(to), Some(amount)) => {
                let by = if instruction.mnemonic() == Mnemonic::Add { amount } else { amount.wrapping_neg() };
                state.set(to, plus(state.get(to), by));
            }
            (Some(SP), None) => state.make_sp(instruction.ip(), None),
            _ => return false,
        },
        Mnemonic::And => match (first, immediate(instruction)) {
            (Some(SP), mask) => state.make_sp(instruction.ip(), mask.map(i64::cast_unsigned)),
            _ => return false,
        },
        _ => return false,
    }
    true
}

/// Any other instruction: what it writes is no longer known.
fn other(state: &mut State, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
    let sp_moves = i64::from(instruction.stack_pointer_increment());
    let info = factory.info(instruction);
    for used in info.used_memory().iter().filter(|used| writes(used.access())) {
        if used.index() == Name::None
            && let Some(Value::Sum(base, offset)) = number(used.base()).map(|base| state.get(base))
        {
            let offset = offset.wrapping_add(used.displacement().cast_signed());
            state.store(base, offset, used.memory_size().size(), Value::Unknown);
        }
    }
    for used in info.used_registers().iter().filter(|used| writes(used.access())) {
        match number(used.register()) {
            Some(SP) if sp_moves != 0 => state.move_sp(sp_moves),
            Some(register) => state.set(register, Value::Unknown),
            None => {}
        }
    }
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

fn plus(value: Value, by: i64) -> Value {
    match value {
        Value::Sum(base, offset) => Value::Sum(base, offset.wrapping_add(by)),
        _ => Value::Unknown,
    }
}

fn immediate(instruction: &Instruction) -> Option<i64> {
    match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1).cast_signed()),
        _ => None,
    }
}

/// The address of the memory operand, where it is counted from something known.
fn address(state: &State, instruction: &Instruction) -> Option<(Base, i64)> {
    if instruction.memory_index() != Name::None || instruction.segment_prefix() != Name::None {
        return None;
    }
    match state.get(number(instruction.memory_base()).filter(|_| instruction.memory_base().is_gpr64())?) {
        Value::Sum(base, offset) => {
            Some((base, offset.wrapping_add(instruction.memory_displacement64().cast_signed())))
        }
        _ => None,
    }
}

fn load(state: &State, instruction: &Instruction) -> Value {
    match address(state, instruction) {
        Some((base, offset)) if instruction.memory_size().size() == 8 => state.load(base, offset),
        _ => Value::Unknown,
    }
}

fn store(state: &mut State, instruction: &Instruction, value: Value) {
    if let Some((base, offset)) = address(state, instruction) {
        state.store(base, offset, instruction.memory_size().size(), value);
    }
}
