//! What one instruction does to registers and stack slots.

use super::binary::Binary;
use super::value::{State, Value};
use crate::analysis::jump_table::{Form, Table};
use crate::analysis::{FP, Op, SP, number};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register as Name};

const WORD: i64 = 8;

/// Executes `instruction`, a call as if it had come back.
pub(super) fn execute(
    binary: &Binary,
    state: &mut State,
    instruction: &Instruction,
    factory: &mut InstructionInfoFactory,
) {
    if let Some(to) = zeroed(instruction) {
        return state.set(to, Value::number(0));
    }
    let found = narrow(state, instruction).or_else(|| unscaled(binary, state, instruction));
    if let Some((to, value)) = found.or_else(|| widened(state, instruction)) {
        return state.set(to, value);
    }
    // How many bytes, or which of an array, is not counted here.
    let indexed = instruction.op0_kind() == OpKind::Memory && instruction.memory_index() != Name::None;
    if indexed || instruction.has_rep_prefix() || instruction.has_repne_prefix() {
        state.scribble();
    }
    match instruction.mnemonic() {
        Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Int => {
            // The kernel writes where it was told to.
            for register in [0, 1, 11] {
                state.set(register, Value::Any);
            }
            state.scribble();
            return;
        }
        // The product is twice as wide.
        Mnemonic::Imul if instruction.op_count() == 1 => {
            state.set(0, Value::Any);
            return state.set(2, Value::Any);
        }
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne => return state.set(1, Value::Any),
        _ => {}
    }
    let address = instruction.ip();
    match Op::of(instruction, factory) {
        Op::Nothing => {}
        Op::Compute(registers) => compute(state, registers, address),
        Op::Move { to, from } => copy(state, to, state.get(from)),
        Op::Exchange(first, second) => {
            let (kept, moved) = (state.get(first), state.get(second));
            copy(state, first, moved);
            copy(state, second, kept);
        }
        Op::Sum { to, from, by } => copy(state, to, state.get(from).plus(by)),
        Op::Address { to, address } => state.set(to, Value::number(address)),
        Op::Add { to, one, other } => {
            let sum = sum(&state.get(one), &state.get(other));
            copy(state, to, sum);
        }
        Op::Load { to, .. } => {
            let loaded = load(binary, state, instruction);
            copy(state, to, loaded);
        }
        Op::Element { to, base, displacement, form } => {
            let base = base.map(|base| state.get(base));
            state.set(to, element(base.as_ref(), displacement, form));
        }
        Op::Store { value, size, .. } => {
            let value = value.map_or(Value::Any, |from| state.get(from));
            state.store(&place(state, instruction), size, value);
        }
        Op::Both { registers, size, .. } => {
            state.store(&place(state, instruction), size, Value::Any);
            compute(state, registers, address);
        }
        Op::Push(from) => push(state, state.get(from)),
        Op::PushLoad(_) => push(state, load(binary, state, instruction)),
        Op::PushOther => push(state, pushed(instruction)),
        Op::Pop(to) => {
            let value = pop(state);
            copy(state, to, value);
        }
        Op::PopStore(_) => {
            let value = pop(state);
            state.store(&place(state, instruction), 8, value);
        }
        Op::MoveSp { by, registers } => {
            compute(state, registers, address);
            let sp = state.get(SP).plus(by);
            if let Ok(size) = u32::try_from(by.wrapping_neg()) {
                state.store(&sp, size, Value::Any);
            }
            state.set(SP, sp);
        }
        Op::Leave => {
            state.set(SP, state.get(FP));
            let value = pop(state);
            state.set(FP, value);
        }
        Op::Enter(locals) => {
            push(state, state.get(FP));
            state.set(FP, state.get(SP));
            state.set(SP, state.get(SP).plus(-i64::from(locals)));
        }
        Op::Align { register, .. } => make(state, register, address),
        Op::Fall | Op::Room => make(state, SP, address),
        Op::SpNear(_) => state.set(SP, Value::Any),
        Op::Call => state.called(),
    }
}

/// A register gets a value; a stack address in a register that is no frame pointer may end up anywhere.
fn copy(state: &mut State, to: u8, value: Value) {
    if to != SP && to != FP {
        state.share(&value);
    }
    state.set(to, value);
}

fn compute(state: &mut State, registers: u16, address: u64) {
    for number in (0..16u8).filter(|number| registers >> number & 1 != 0) {
        if number == SP { make(state, SP, address) } else { state.set(number, Value::Any) }
    }
}

/// A register becomes an address below where it was on the stack, or anything.
fn make(state: &mut State, register: u8, address: u64) {
    let was = state.get(register);
    state.remake(address);
    let made = Value::Stack { base: address, offset: 0 };
    state.set(register, if matches!(was, Value::Stack { .. }) { made } else { Value::Any });
}

fn push(state: &mut State, value: Value) {
    let sp = state.get(SP).plus(-WORD);
    state.set(SP, sp.clone());
    state.store(&sp, 8, value);
}

fn pop(state: &mut State) -> Value {
    let sp = state.get(SP);
    state.set(SP, sp.plus(WORD));
    state.load(&sp)
}

fn pushed(instruction: &Instruction) -> Value {
    match instruction.op0_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Value::number(instruction.immediate(0)),
        // `call .+5`.
        OpKind::NearBranch64 => Value::number(instruction.next_ip()),
        _ => Value::Any,
    }
}

/// `xor %eax,%eax` and the like.
fn zeroed(instruction: &Instruction) -> Option<u8> {
    let same = matches!(instruction.mnemonic(), Mnemonic::Xor | Mnemonic::Sub)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register();
    let name = instruction.op0_register();
    (same && (name.is_gpr32() || name.is_gpr64())).then(|| number(name))?
}

/// `mov %ecx,%eax` of a number that is not longer.
fn narrow(state: &State, instruction: &Instruction) -> Option<(u8, Value)> {
    let registers = instruction.op0_kind() == OpKind::Register && instruction.op1_kind() == OpKind::Register;
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    if instruction.mnemonic() != Mnemonic::Mov || !registers || !to.is_gpr32() || !from.is_gpr32() {
        return None;
    }
    match state.get(number(from)?) {
        Value::Known(numbers) if numbers.iter().all(|number| u32::try_from(*number).is_ok()) => {
            Some((number(to)?, Value::Known(numbers)))
        }
        _ => None,
    }
}

/// A load from a table whose index was multiplied before, as compilers write it that do not optimise.
fn unscaled(binary: &Binary, state: &State, instruction: &Instruction) -> Option<(u8, Value)> {
    let to = instruction.op0_register();
    let plain = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_index_scale() == 1
        && !matches!(instruction.segment_prefix(), Name::FS | Name::GS);
    let held = |name: Name| number(name).filter(|_| plain).map(|register| state.get(register));
    let base = match (held(instruction.memory_base())?, held(instruction.memory_index())?) {
        (Value::Known(base), other) | (other, Value::Known(base)) if !matches!(other, Value::Known(_)) => base,
        _ => return None,
    };
    let [base] = *base.as_slice() else { return None };
    let address = base.wrapping_add(instruction.memory_displacement64());
    if to.is_gpr32() {
        return Some((number(to)?, Value::Half(address)));
    }
    // Of what has no name nobody knows where it ends.
    binary.symbols.object(address).filter(|_| to.is_gpr64())?;
    Some((number(to)?, Value::Target(Table { address, form: Form::Absolute })))
}

/// `cdqe` and `movslq %eax,%rdx` of four bytes of a jump table.
fn widened(state: &State, instruction: &Instruction) -> Option<(u8, Value)> {
    let (to, from) = match instruction.mnemonic() {
        Mnemonic::Cdqe => (0, 0),
        Mnemonic::Movsxd if instruction.op0_register().is_gpr64() && instruction.op1_kind() == OpKind::Register => {
            (number(instruction.op0_register())?, number(instruction.op1_register())?)
        }
        _ => return None,
    };
    match state.get(from) {
        Value::Half(table) => Some((to, Value::Element(table))),
        _ => None,
    }
}

/// The address of the memory operand.
pub(super) fn place(state: &State, instruction: &Instruction) -> Value {
    if matches!(instruction.segment_prefix(), Name::FS | Name::GS) {
        return Value::Any;
    }
    if instruction.is_ip_rel_memory_operand() {
        return Value::number(instruction.ip_rel_memory_address());
    }
    // `push`, `pop` and string instructions have operands of their own.
    let has_memory = (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    if !has_memory || instruction.memory_index() != Name::None {
        return Value::Any;
    }
    let displacement = instruction.memory_displacement64();
    match instruction.memory_base() {
        Name::None => Value::number(displacement),
        name if name.is_gpr64() => {
            number(name).map_or(Value::Any, |base| state.get(base).plus(displacement.cast_signed()))
        }
        _ => Value::Any,
    }
}

/// The word that the memory operand holds.
pub(super) fn load(binary: &Binary, state: &State, instruction: &Instruction) -> Value {
    let at = place(state, instruction);
    match &at {
        Value::Known(places) => match constant(binary, places) {
            // Out of a table that a register points to.
            Value::Known(words) if instruction.memory_base().is_gpr64() && all_code(binary, &words) => {
                Value::Method(instruction.memory_displacement64().cast_signed(), words)
            }
            loaded => loaded,
        },
        Value::Stack { .. } => state.load(&at),
        Value::Loaded => Value::Loaded,
        _ if instruction.memory_index() == Name::None
            && instruction.memory_base().is_gpr64()
            && instruction.segment_prefix() == Name::None =>
        {
            Value::Member(instruction.memory_displacement64().cast_signed())
        }
        _ => Value::Any,
    }
}

fn all_code(binary: &Binary, words: &[u64]) -> bool {
    words.iter().all(|word| binary.symbols.is_code(*word) || binary.import(*word).is_some())
}

/// What words hold that never change.
fn constant(binary: &Binary, places: &[u64]) -> Value {
    let words = places.iter().map(|place| binary.constant(*place).and_then(|word| binary.pointer(word)));
    let mut found: Vec<u64> = match words.collect::<Option<Vec<u64>>>() {
        Some(found) => found,
        None => return Value::Loaded,
    };
    found.sort_unstable();
    found.dedup();
    Value::Known(found)
}

fn sum(one: &Value, other: &Value) -> Value {
    let table = |table: u64, from: &Value| match from {
        Value::Known(from) if from.len() == 1 => {
            let from = from.first()?.wrapping_sub(table).cast_signed();
            let form = Form::Relative { from: i32::try_from(from).ok()? };
            Some(Value::Target(Table { address: table, form }))
        }
        _ => None,
    };
    match (one, other) {
        (Value::Element(address), from) | (from, Value::Element(address)) => {
            table(*address, from).unwrap_or(Value::Any)
        }
        (Value::Known(one), Value::Known(other)) => {
            let mut all: Vec<u64> =
                one.iter().flat_map(|one| other.iter().map(move |other| one.wrapping_add(*other))).collect();
            all.sort_unstable();
            all.dedup();
            Value::Known(Vec::new()).join(&Value::Known(all))
        }
        _ => Value::Any,
    }
}

fn element(base: Option<&Value>, displacement: i64, form: Form) -> Value {
    let address = match base {
        None => displacement.cast_unsigned(),
        Some(Value::Known(bases)) if bases.len() == 1 => match bases.first() {
            Some(base) => base.wrapping_add_signed(displacement),
            None => return Value::Any,
        },
        Some(_) => return Value::Any,
    };
    match form {
        Form::Relative { .. } => Value::Element(address),
        Form::Absolute => Value::Target(Table { address, form }),
    }
}
