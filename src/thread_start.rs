//! Where a thread begins: behind the system call that made it, in code from which nobody returns.
//!
//! ```text
//!   mov $56, %eax; …; syscall ─► test, jump ─► child: call *start ─► exit
//! ```

use crate::analysis::Text;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use surestack_walk::CodeAddress;

/// The number of clone or clone3 being loaded: `mov $n, %eax`, and musl's `xor %eax, %eax; mov $56, %al`.
const NUMBERS: [&[u8]; 3] = [&[0xb8, 56, 0, 0, 0], &[0xb8, 0xb3, 1, 0, 0], &[0x31, 0xc0, 0xb0, 56]];
/// How far back from the child's only call the number is loaded: 43 bytes in musl 1.2, 26 in glibc 2.36.
const REACH: u64 = 64;
/// Most instructions followed, repeats included.
const STEPS: usize = 256;
/// Instructions from a start routine's return to the end of its thread.
const EXIT: usize = 8;

/// Whether a thread was made shortly before `pc`, which is in what the new thread runs.
pub fn is_behind_clone(text: &Text<'_>, pc: CodeAddress) -> bool {
    let pc = pc.value();
    let Some(first) = pc.checked_sub(REACH) else { return false };
    let mut bytes = vec![0; usize::try_from(REACH).unwrap_or(0)];
    if text.memory().read(first, &mut bytes).is_err() {
        return false;
    }
    let mut starts = (first..pc).zip(0..).filter_map(|(address, at): (u64, usize)| {
        let number = NUMBERS.iter().find(|number| bytes.get(at..).is_some_and(|code| code.starts_with(number)))?;
        address.checked_add(u64::try_from(number.len()).ok()?)
    });
    starts.any(|start| makes_thread(text, start, pc))
}

/// Whether the code at `start`, with the number in its register, makes the system call with it and leads to `pc` then.
fn makes_thread(text: &Text<'_>, start: u64, pc: u64) -> bool {
    let mut factory = InstructionInfoFactory::new();
    let mut at = start;
    while at < pc {
        let Some(instruction) = text.instruction(at) else { return false };
        at = instruction.next_ip();
        if instruction.mnemonic() == Mnemonic::Syscall {
            return leads_to(text, at, pc);
        }
        if writes_number(&instruction, &mut factory) || instruction.flow_control() != FlowControl::Next {
            return false;
        }
    }
    false
}

/// Whether the code at `start` comes by `pc`, forwards only.
fn leads_to(text: &Text<'_>, start: u64, pc: u64) -> bool {
    let mut work = vec![start];
    let mut steps = 0;
    while let Some(mut at) = work.pop() {
        while at < pc && steps < STEPS {
            steps += 1;
            let Some(instruction) = text.instruction(at) else { break };
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall
                    if instruction.mnemonic() != Mnemonic::Hlt => {}
                FlowControl::ConditionalBranch if instruction.near_branch_target() > at => {
                    work.push(instruction.near_branch_target());
                }
                _ => break,
            }
            at = instruction.next_ip();
        }
        if at == pc {
            return true;
        }
    }
    false
}

fn writes_number(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    let info = factory.info(instruction);
    info.used_registers().iter().any(|used| {
        let is_read = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
        used.register().full_register() == Register::RAX && !is_read
    })
}

/// Whether the call that returns to `address` is the one a thread makes first, and the thread ends when it comes back.
pub fn is_outermost(text: &Text<'_>, address: u64) -> bool {
    is_behind_clone(text, CodeAddress::Return(address)) && ends_thread(text, address)
}

/// Whether the code at `address` leaves for good: it makes the system call `exit`.
fn ends_thread(text: &Text<'_>, address: u64) -> bool {
    const EXIT_NUMBER: u64 = 60;
    let mut at = address;
    let mut number = None;
    for _ in 0..EXIT {
        let Some(instruction) = text.instruction(at) else { return false };
        match instruction.mnemonic() {
            Mnemonic::Mov if matches!(instruction.op0_register(), Register::EAX | Register::AL) => {
                let constant = matches!(instruction.op1_kind(), OpKind::Immediate8 | OpKind::Immediate32);
                number = constant.then(|| instruction.immediate(1));
            }
            Mnemonic::Mov | Mnemonic::Xor => {}
            Mnemonic::Syscall => return number == Some(EXIT_NUMBER),
            _ => return false,
        }
        at = instruction.next_ip();
    }
    false
}
