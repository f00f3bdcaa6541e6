//! What an x86_64 instruction does with memory.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use surestack_walk::{Arch, Memory, Regs};

/// An access to memory that an instruction makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    pub address: u64,
    pub access: Access,
    /// The base and the index with their values.
    pub registers: Vec<(&'static str, u64)>,
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Also one that reads first: the processor asks for both rights at once.
    Write,
    /// A read of where to call or jump.
    Call,
}

/// The access of the instruction in `code` that reaches `wanted`; or its first, when no address is wanted.
pub(super) fn operand(code: &[u8], pc: u64, regs: &Regs, arch: &Arch, wanted: Option<u64>) -> Option<Operand> {
    let instruction = decode(code, pc)?;
    let mut factory = InstructionInfoFactory::new();
    let mut operands = factory.info(&instruction).used_memory().iter().filter_map(|used| {
        let address = used.virtual_address(0, |register, _, _| value(register, regs, arch))?;
        let size = u64::try_from(used.memory_size().size()).ok()?.max(1);
        let registers = [used.base(), used.index()]
            .into_iter()
            .filter_map(|register| Some((name(register, arch)?, value(register, regs, arch)?)));
        let access = match used.access() {
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => Access::Write,
            OpAccess::Read | OpAccess::CondRead if branches(&instruction) => Access::Call,
            OpAccess::Read | OpAccess::CondRead => Access::Read,
            _ => return None,
        };
        Some((size, Operand { address, access, registers: registers.collect() }))
    });
    match wanted {
        None => operands.next().map(|(_, operand)| operand),
        // A wide access may begin on the page before, and a string instruction is counted from where it is.
        Some(wanted) => {
            operands.find(|(size, operand)| wanted.wrapping_sub(operand.address) < *size).map(|(_, found)| found)
        }
    }
}

/// What a division in `code` divides by.
pub(super) fn divisor(code: &[u8], pc: u64, regs: &Regs, arch: &Arch, memory: &dyn Memory) -> Option<u64> {
    let instruction = decode(code, pc)?;
    if !matches!(instruction.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
        return None;
    }
    match instruction.op0_kind() {
        OpKind::Register => value(instruction.op0_register(), regs, arch),
        OpKind::Memory => {
            let address = operand(code, pc, regs, arch, None)?.address;
            memory.value(address, u8::try_from(instruction.memory_size().size()).ok()?).ok()
        }
        _ => None,
    }
}

fn branches(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Call | Mnemonic::Jmp)
}

fn decode(code: &[u8], pc: u64) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, code, pc, DecoderOptions::NONE).decode();
    (instruction.code() != Code::INVALID).then_some(instruction)
}

/// The value of a register as the processor uses it in an address; segments are flat but for fs and gs.
fn value(register: Register, regs: &Regs, arch: &Arch) -> Option<u64> {
    use surestack_walk::Register as Slot;
    match register {
        Register::None | Register::ES | Register::CS | Register::SS | Register::DS => Some(0),
        Register::FS => regs.get(Slot::THREAD),
        Register::GS => regs.get(Slot::GS_BASE),
        Register::RIP => regs.get(Slot::PC),
        _ => {
            let whole = name(register, arch)?;
            let slot = arch.registers.iter().find(|(_, name)| *name == whole)?.0;
            let value = regs.get(slot)?;
            Some(match register.size() {
                8 => value,
                4 => value & 0xffff_ffff,
                2 => value & 0xffff,
                // ah, bh, ch and dh are the second byte.
                1 if matches!(register, Register::AH | Register::BH | Register::CH | Register::DH) => value >> 8 & 0xff,
                1 => value & 0xff,
                _ => return None,
            })
        }
    }
}

/// The name, in `arch`, of the whole of a general register.
fn name(register: Register, arch: &Arch) -> Option<&'static str> {
    const NAMES: [(Register, &str); 16] = [
        (Register::RAX, "rax"),
        (Register::RBX, "rbx"),
        (Register::RCX, "rcx"),
        (Register::RDX, "rdx"),
        (Register::RSI, "rsi"),
        (Register::RDI, "rdi"),
        (Register::RBP, "rbp"),
        (Register::RSP, "rsp"),
        (Register::R8, "r8"),
        (Register::R9, "r9"),
        (Register::R10, "r10"),
        (Register::R11, "r11"),
        (Register::R12, "r12"),
        (Register::R13, "r13"),
        (Register::R14, "r14"),
        (Register::R15, "r15"),
    ];
    let whole = register.full_register();
    let wanted = NAMES.iter().find(|(named, _)| *named == whole)?.1;
    arch.registers.iter().find(|(_, name)| *name == wanted).map(|(_, name)| *name)
}
