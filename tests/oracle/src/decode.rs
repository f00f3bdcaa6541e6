//! What one instruction does to the call chain, and nothing else about it.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};

/// The ways an instruction can matter to the shadow stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing beyond ordinary arithmetic on rsp (`push`, `sub`, `and`, `enter`).
    Plain,
    /// Pushes the address of the next instruction and jumps.
    Call,
    /// Pops an address and jumps to it.
    Return,
    /// Jumps to an address from a register or from memory.
    IndirectJump,
    /// Pops into a register other than rsp: perhaps a return address.
    Pop,
    /// Pushes: perhaps a return address that was held in a register.
    Push,
    /// Pushes the flags, in which a stepped program would see the trap flag.
    PushFlags,
    /// Gives rsp a value that need not come from rsp (`mov`, `leave`, `xchg`, `lea`, `pop rsp`).
    LoadSp,
    /// Enters the kernel.
    Syscall,
    /// A breakpoint of the program's own.
    Breakpoint,
}

/// One decoded instruction: what it does, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it does to the call chain.
    pub effect: Effect,
    /// Its length in bytes.
    pub len: u8,
}

/// Decodes the instruction at the start of `bytes`, which lie at `pc`. `None` if they are no instruction.
pub fn decode(bytes: &[u8], pc: u64) -> Option<Decoded> {
    let mut decoder = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return None;
    }
    let len = u8::try_from(instruction.len()).ok()?;
    Some(Decoded { effect: effect(&instruction), len })
}

fn effect(instruction: &Instruction) -> Effect {
    match instruction.code() {
        Code::Syscall => return Effect::Syscall,
        Code::Int3 => return Effect::Breakpoint,
        Code::Pushfq | Code::Pushfw => return Effect::PushFlags,
        _ => {}
    }
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall => return Effect::Call,
        FlowControl::Return => return Effect::Return,
        FlowControl::IndirectBranch => return Effect::IndirectJump,
        _ => {}
    }
    let writes_sp = instruction.op0_register() == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Leave => Effect::LoadSp,
        Mnemonic::Mov | Mnemonic::Pop if writes_sp => Effect::LoadSp,
        Mnemonic::Lea if writes_sp && instruction.memory_base() != Register::RSP => Effect::LoadSp,
        Mnemonic::Xchg if writes_sp || instruction.op1_register() == Register::RSP => Effect::LoadSp,
        Mnemonic::Cmove | Mnemonic::Cmovne | Mnemonic::Cmova | Mnemonic::Cmovae | Mnemonic::Cmovb if writes_sp => {
            Effect::LoadSp
        }
        Mnemonic::Pop => Effect::Pop,
        Mnemonic::Push => Effect::Push,
        _ => Effect::Plain,
    }
}

/// Whether some call instruction ends exactly at the end of `bytes`, which end at `address`.
pub fn ends_with_call(bytes: &[u8], address: u64) -> bool {
    (2..=bytes.len().min(8)).any(|len| {
        let Some(tail) = bytes.get(bytes.len() - len..) else {
            return false;
        };
        let Some(start) = address.checked_sub(len as u64) else {
            return false;
        };
        decode(tail, start).is_some_and(|d| d.effect == Effect::Call && usize::from(d.len) == len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect_of(bytes: &[u8]) -> Effect {
        decode(bytes, 0x1000).expect("an instruction").effect
    }

    #[test]
    fn every_way_to_move_the_stack_pointer_is_told_apart() {
        assert_eq!(effect_of(&[0xe8, 0, 0, 0, 0]), Effect::Call);
        assert_eq!(effect_of(&[0xff, 0xd0]), Effect::Call);
        assert_eq!(effect_of(&[0xf3, 0xc3]), Effect::Return);
        assert_eq!(effect_of(&[0xc2, 8, 0]), Effect::Return);
        assert_eq!(effect_of(&[0xf2, 0xff, 0xe2]), Effect::IndirectJump);
        assert_eq!(effect_of(&[0x0f, 0x05]), Effect::Syscall);
        assert_eq!(effect_of(&[0x4c, 0x89, 0xc4]), Effect::LoadSp);
        assert_eq!(effect_of(&[0xc9]), Effect::LoadSp);
        assert_eq!(effect_of(&[0x5c]), Effect::LoadSp);
        assert_eq!(effect_of(&[0x49, 0x8d, 0x62, 0xf8]), Effect::LoadSp);
        assert_eq!(effect_of(&[0x48, 0x8d, 0x64, 0x24, 0x80]), Effect::Plain);
        assert_eq!(effect_of(&[0x48, 0x83, 0xec, 8]), Effect::Plain);
        assert_eq!(effect_of(&[0x5f]), Effect::Pop);
        assert_eq!(effect_of(&[0x9c]), Effect::PushFlags);
    }

    #[test]
    fn a_call_is_recognised_by_the_bytes_before_its_return_address() {
        assert!(ends_with_call(&[0x90, 0x90, 0x90, 0xe8, 1, 2, 3, 4], 0x1008));
        assert!(!ends_with_call(&[0x90; 8], 0x1008));
    }
}
