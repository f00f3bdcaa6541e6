//! What one instruction does to registers and the stack, decoded once.

use super::jump_table::{Form, Table};
use super::value::{Base, CALLEE_SAVED, FP, SP, State, Value, number};
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Name};

/// More bytes than anything takes up that is put on a stack at once.
const ROOM: i64 = 1 << 30;

/// What an instruction does, as far as it matters for finding frames and saved registers. Registers are hardware numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Nothing of interest.
    Nothing,
    /// Registers get values computed here: a bit for each.
    Compute(u16),
    /// A register is copied.
    Move { to: u8, from: u8 },
    /// Two registers change places.
    Exchange(u8, u8),
    /// A register becomes another plus a constant.
    Sum { to: u8, from: u8, by: i64 },
    /// A register becomes the address of a place in the module.
    Address { to: u8, address: u64 },
    /// A register becomes the sum of two.
    Add { to: u8, one: u8, other: u8 },
    /// A register becomes a word from memory.
    Load { to: u8, from: Place },
    /// A register becomes an element of an array that begins where `base` points, or at a constant address.
    Element { to: u8, base: Option<u8>, displacement: i64, form: Form },
    /// Something is written to memory: the word in a register, or something computed.
    Store { to: Place, value: Option<u8>, size: u32 },
    /// Any other instruction that writes both to registers and to memory.
    Both { registers: u16, to: Place, size: u32 },
    /// A register's word is pushed.
    Push(u8),
    /// A word from memory is pushed.
    PushLoad(Place),
    /// A word is pushed that was computed.
    PushOther,
    /// A word is popped into a register.
    Pop(u8),
    /// A word is popped into memory.
    PopStore(Place),
    /// The stack pointer moves (downwards: something computed is pushed), and registers get values computed here.
    MoveSp { by: i64, registers: u16 },
    /// `leave`.
    Leave,
    /// `enter` with so many bytes of locals.
    Enter(u16),
    /// Bits of a register are cleared.
    Align { register: u8, mask: u64 },
    /// The stack pointer falls by an amount nobody knows.
    Fall,
    /// The stack pointer falls by a size that the program keeps at a fixed place, as the loader does to save all vector
    /// registers: what is then written at it is believed to have room.
    Room,
    /// The stack pointer becomes an address somewhere around that in another register.
    SpNear(u8),
    /// A call that comes back.
    Call,
}

/// A memory operand: a register plus a constant, where it is that simple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    base: Option<u8>,
    displacement: i64,
}

impl Op {
    /// What `instruction` does, a call as if it had come back.
    pub fn of(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> Self {
        simple(instruction).unwrap_or_else(|| other(instruction, factory))
    }

    /// The registers that change, a bit for each.
    pub fn changes(&self) -> u16 {
        let one = |register: u8| 1u16.checked_shl(u32::from(register)).unwrap_or(0);
        let sp = one(SP);
        match *self {
            Self::Nothing | Self::Store { .. } => 0,
            Self::Compute(registers) | Self::Both { registers, .. } => registers,
            Self::Move { to, .. }
            | Self::Sum { to, .. }
            | Self::Address { to, .. }
            | Self::Add { to, .. }
            | Self::Load { to, .. }
            | Self::Element { to, .. }
            | Self::Align { register: to, .. } => one(to),
            Self::Exchange(first, second) => one(first) | one(second),
            Self::Pop(to) => sp | one(to),
            Self::Push(_)
            | Self::PushLoad(_)
            | Self::PushOther
            | Self::PopStore(_)
            | Self::Fall
            | Self::Room
            | Self::SpNear(_) => sp,
            Self::MoveSp { registers, .. } => sp | registers,
            Self::Leave | Self::Enter(_) => sp | one(FP),
            Self::Call => u16::MAX,
        }
    }

    /// Whether it can change how a row stands to what holds that reads `registers`, a bit for each.
    pub fn matters_to(&self, registers: u16) -> bool {
        match self {
            Self::Nothing => false,
            Self::Store { .. } | Self::Both { .. } => true,
            other => other.changes() & registers != 0,
        }
    }

    /// Where it writes and how many bytes, if that is all it does.
    pub fn writes_only(&self) -> Option<(Place, u32)> {
        match *self {
            Self::Store { to, size, .. } => Some((to, size)),
            _ => None,
        }
    }
}

impl State {
    /// Executes `op`, the instruction at `address`.
    pub fn execute(&mut self, op: Op, address: u64) {
        match op {
            Op::Nothing => {}
            Op::Compute(registers) => self.compute(registers),
            Op::Move { to, from } => self.set(to, self.get(from)),
            Op::Exchange(first, second) => {
                let (kept, moved) = (self.get(first), self.get(second));
                self.set(first, moved);
                self.set(second, kept);
            }
            Op::Sum { to, from, by } => self.set(to, plus(self.get(from), by)),
            Op::Address { to, address } => self.set(to, Value::Address(address)),
            Op::Add { to, one, other } => self.set(to, sum(self.get(one), self.get(other))),
            Op::Load { to, from } => self.set(to, self.at(from)),
            Op::Element { to, base, displacement, form } => {
                self.set(to, element(base.map(|base| self.get(base)), displacement, form));
            }
            Op::Store { to, value, size } => self.write(to, size, value.map_or(Value::Other, |from| self.get(from))),
            Op::Both { registers, to, size } => {
                self.write(to, size, Value::Other);
                self.compute(registers);
            }
            Op::Push(from) => self.push(self.get(from)),
            Op::PushLoad(from) => self.push(self.at(from)),
            Op::PushOther => self.push(Value::Other),
            Op::Pop(to) => {
                let value = self.pop();
                self.set(to, value);
            }
            Op::PopStore(to) => {
                // The address is counted from the stack pointer as it is after the pop.
                let value = self.pop();
                self.write(to, 8, value);
            }
            Op::MoveSp { by, registers } => {
                self.compute(registers);
                self.move_sp(by);
                if let (Value::Sum(base, offset), Ok(size)) = (self.get(SP), usize::try_from(by.wrapping_neg())) {
                    self.store(base, offset, size, Value::Other);
                }
            }
            Op::Leave => {
                self.set(SP, self.get(FP));
                let value = self.pop();
                self.set(FP, value);
            }
            Op::Enter(locals) => {
                self.push(self.get(FP));
                self.set(FP, self.get(SP));
                self.move_sp(-i64::from(locals));
            }
            Op::Align { register, mask } => self.align(register, address, mask),
            Op::Fall => self.make(SP, address, self.get(SP), (i64::MIN, 0)),
            Op::Room => self.make(SP, address, self.get(SP), (i64::MIN, -ROOM)),
            Op::SpNear(from) => self.make(SP, address, self.get(from), (i64::MIN, i64::MAX)),
            Op::Call => self.called(),
        }
    }

    fn compute(&mut self, registers: u16) {
        let mut left = registers;
        while left != 0 {
            let register = u8::try_from(left.trailing_zeros()).unwrap_or(0);
            self.set(register, self.computed(register));
            left &= left.wrapping_sub(1);
        }
    }

    /// What a register holds that something was computed into.
    pub(super) fn computed(&self, register: u8) -> Value {
        // Nobody asks whether another register still holds what it held.
        let is_kept = register == SP || CALLEE_SAVED.contains(&register);
        if is_kept { Value::Other } else { Value::Unknown }
    }

    /// What an address is counted from, and how far from it, where that is known.
    pub fn place(&self, place: Place) -> Option<(Base, i64)> {
        match self.get(place.base?) {
            Value::Sum(base, offset) => Some((base, offset.wrapping_add(place.displacement))),
            _ => None,
        }
    }

    fn at(&self, place: Place) -> Value {
        self.place(place).map_or(Value::Unknown, |(base, offset)| self.load(base, offset))
    }

    fn write(&mut self, place: Place, size: u32, value: Value) {
        if let Some((base, offset)) = self.place(place) {
            self.store(base, offset, usize::try_from(size).unwrap_or(usize::MAX), value);
        }
    }
}

/// The common instructions, by their operands alone.
fn simple(instruction: &Instruction) -> Option<Op> {
    use Mnemonic as M;
    let register = |operand: u32| match instruction.op_kind(operand) {
        OpKind::Register => Some(instruction.op_register(operand)),
        _ => None,
    };
    let wide = |operand| register(operand).filter(|name| name.is_gpr64()).and_then(number);
    let (first, second) = (wide(0), wide(1));
    let loads = instruction.op1_kind() == OpKind::Memory;
    let sp_moves = instruction.stack_pointer_increment();
    Some(match instruction.mnemonic() {
        M::Cmp | M::Test | M::Nop | M::Endbr64 | M::Bt | M::Int3 | M::Ud2 | M::Ret | M::Jmp => Op::Nothing,
        _ if instruction.flow_control() == FlowControl::ConditionalBranch => Op::Nothing,
        // `call .+5` only pushes.
        M::Call if instruction.near_branch_target() == instruction.next_ip() => Op::PushOther,
        M::Call => Op::Call,
        M::Push if sp_moves == -8 => match (first, instruction.op0_kind()) {
            (Some(from), _) => Op::Push(from),
            (None, OpKind::Memory) => Op::PushLoad(place(instruction)),
            _ => Op::PushOther,
        },
        M::Pop if sp_moves == 8 => first.map_or_else(|| Op::PopStore(place(instruction)), Op::Pop),
        M::Leave if sp_moves != 2 => Op::Leave,
        M::Enter if instruction.immediate8_2nd() == 0 => Op::Enter(instruction.immediate16()),
        M::Mov => match (first, second, register(0)) {
            (Some(to), Some(from), _) => Op::Move { to, from },
            (Some(to), None, _) if loads => load(instruction, to),
            // Code of programs that are not relocatable has addresses as constants.
            (_, None, Some(name)) if !loads && (name.is_gpr64() || name.is_gpr32()) && register(1).is_none() => {
                Op::Address { to: number(name)?, address: instruction.immediate(1) }
            }
            (None, Some(from), None) => Op::Store { to: place(instruction), value: Some(from), size: 8 },
            (None, _, Some(name)) => Op::Compute(bit(number(name)?)),
            (None, None, None) => store(instruction),
            _ => return None,
        },
        M::Xchg => Op::Exchange(first?, second?),
        M::Lea => {
            let to = first?;
            if instruction.is_ip_rel_memory_operand() {
                return Some(Op::Address { to, address: instruction.ip_rel_memory_address() });
            }
            match place(instruction) {
                Place { base: Some(from), displacement } => Op::Sum { to, from, by: displacement },
                _ if to == SP => Op::SpNear(number(instruction.memory_base())?),
                Place { base: None, displacement: 0 } if instruction.memory_index_scale() == 1 => {
                    match (number(instruction.memory_base()), number(instruction.memory_index())) {
                        (Some(one), Some(other)) => Op::Add { to, one, other },
                        _ => Op::Compute(bit(to)),
                    }
                }
                _ => Op::Compute(bit(to)),
            }
        }
        M::Add | M::Sub if first.is_some() => {
            let to = first?;
            match (immediate(instruction), second) {
                (Some(by), _) => {
                    let by = if instruction.mnemonic() == M::Add { by } else { by.wrapping_neg() };
                    Op::Sum { to, from: to, by }
                }
                (None, _) if to == SP && instruction.mnemonic() == M::Sub => {
                    if instruction.is_ip_rel_memory_operand() {
                        Op::Room
                    } else {
                        Op::Fall
                    }
                }
                (None, Some(other)) if instruction.mnemonic() == M::Add => Op::Add { to, one: to, other },
                _ => Op::Compute(bit(to)),
            }
        }
        M::And if first.is_some() => match immediate(instruction) {
            Some(mask) if mask < 0 => Op::Align { register: first?, mask: mask.cast_unsigned() },
            None if first == Some(SP) => Op::Fall,
            _ => Op::Compute(bit(first?)),
        },
        // A table with one entry.
        M::Movsxd if first.is_some() && instruction.is_ip_rel_memory_operand() => Op::Element {
            to: first?,
            base: None,
            displacement: instruction.ip_rel_memory_address().cast_signed(),
            form: Form::Relative { from: 0 },
        },
        M::Movsxd if loads && first.is_some() => {
            element_of(instruction, first?, Form::Relative { from: 0 }, 4).unwrap_or(Op::Compute(bit(first?)))
        }
        M::Add
        | M::Sub
        | M::And
        | M::Or
        | M::Xor
        | M::Imul
        | M::Movzx
        | M::Movsx
        | M::Movsxd
        | M::Shl
        | M::Shr
        | M::Sar
        | M::Neg
        | M::Not
        | M::Inc
        | M::Dec
            if instruction.op_count() < 3 && register(0).is_some_and(|name| name.is_gpr()) && first != Some(SP) =>
        {
            Op::Compute(bit(number(register(0)?)?))
        }
        M::Movaps
        | M::Movups
        | M::Movdqa
        | M::Movdqu
        | M::Movapd
        | M::Movupd
        | M::Movss
        | M::Movsd
        | M::Movq
        | M::Pxor
        | M::Xorps
        | M::Addsd
        | M::Mulsd
        | M::Subsd
        | M::Addss
        | M::Mulss
        | M::Paddd
        | M::Paddq
        | M::Pand
        | M::Por
        | M::Movhps
        | M::Punpcklqdq
        | M::Cvtsi2sd
            if register(0).is_some_and(|name| name.is_vector_register()) =>
        {
            Op::Nothing
        }
        M::Movaps | M::Movups | M::Movdqa | M::Movdqu | M::Movapd | M::Movupd | M::Movss | M::Movq | M::Movhps
            if instruction.op0_kind() == OpKind::Memory =>
        {
            store(instruction)
        }
        _ => return None,
    })
}

fn load(instruction: &Instruction, to: u8) -> Op {
    element_of(instruction, to, Form::Absolute, 8).unwrap_or(Op::Load { to, from: place(instruction) })
}

/// A load from an array of words of `scale` bytes.
fn element_of(instruction: &Instruction, to: u8, form: Form, scale: u32) -> Option<Op> {
    if instruction.memory_index() == Name::None || instruction.memory_index_scale() != scale {
        return None;
    }
    let base = match instruction.memory_base() {
        Name::None => None,
        name => Some(number(name)?),
    };
    Some(Op::Element { to, base, displacement: instruction.memory_displacement64().cast_signed(), form })
}

fn store(instruction: &Instruction) -> Op {
    Op::Store { to: place(instruction), value: None, size: size(instruction.memory_size().size()) }
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Any other instruction: what it writes.
fn other(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> Op {
    let by = i64::from(instruction.stack_pointer_increment());
    let info = factory.info(instruction);
    let mut registers = 0;
    for used in info.used_registers().iter().filter(|used| writes(used.access())) {
        registers |= number(used.register()).map_or(0, bit);
    }
    let written = info.used_memory().iter().find(|used| writes(used.access()));
    if by != 0 {
        return Op::MoveSp { by, registers: registers & !bit(SP) };
    }
    let Some(used) = written else {
        return if registers == 0 { Op::Nothing } else { Op::Compute(registers) };
    };
    let simple = used.index() == Name::None && used.segment() != Name::FS && used.segment() != Name::GS;
    let base = if simple { number(used.base()) } else { None };
    let to = Place { base, displacement: used.displacement().cast_signed() };
    let size = size(used.memory_size().size());
    if registers == 0 { Op::Store { to, value: None, size } } else { Op::Both { registers, to, size } }
}

fn bit(register: u8) -> u16 {
    1u16.checked_shl(u32::from(register)).unwrap_or(0)
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

fn plus(value: Value, by: i64) -> Value {
    match value {
        Value::Sum(base, offset) => Value::Sum(base, offset.wrapping_add(by)),
        Value::Address(address) => Value::Address(address.wrapping_add_signed(by)),
        Value::Unknown => Value::Unknown,
        _ => Value::Other,
    }
}

fn sum(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Entry(table), Value::Address(from)) | (Value::Address(from), Value::Entry(table)) => {
            match i32::try_from(from.wrapping_sub(table).cast_signed()) {
                Ok(from) => Value::Target(Table { address: table, form: Form::Relative { from } }),
                Err(_) => Value::Other,
            }
        }
        (Value::Unknown, _) | (_, Value::Unknown) => Value::Unknown,
        _ => Value::Other,
    }
}

fn element(base: Option<Value>, displacement: i64, form: Form) -> Value {
    let address = match base {
        None => displacement.cast_unsigned(),
        Some(Value::Address(address)) => address.wrapping_add_signed(displacement),
        Some(_) => return Value::Unknown,
    };
    match form {
        Form::Relative { .. } => Value::Entry(address),
        Form::Absolute => Value::Target(Table { address, form }),
    }
}

fn immediate(instruction: &Instruction) -> Option<i64> {
    match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1).cast_signed()),
        _ => None,
    }
}

/// The memory operand.
fn place(instruction: &Instruction) -> Place {
    let plain = instruction.memory_index() == Name::None
        && instruction.segment_prefix() == Name::None
        && instruction.memory_base().is_gpr64();
    let base = if plain { number(instruction.memory_base()) } else { None };
    Place { base, displacement: instruction.memory_displacement64().cast_signed() }
}
