//! Calls to where there is no code.

use super::FileEvidence;
use iced_x86::{Instruction, Mnemonic, OpKind, Register as Operand};
use surestack_walk::{Register, Regs, Witness, X86_64};

/// Lengths of x86_64 call instructions.
const LENGTHS: std::ops::RangeInclusive<u64> = 2..=8;

impl FileEvidence<'_> {
    /// Whether the call before the return address at the stack pointer went to the pc. Nothing has run since it was made, so
    /// that its operand still is what it was then: a return to a bad address has no such call behind it.
    pub(super) fn arrived(&self, regs: &Regs) -> Option<Witness> {
        if self.arch.machine != X86_64.machine {
            return None;
        }
        let (pc, sp) = (regs.pc()?.value(), regs.get(self.arch.sp)?);
        let return_address = self.memory.word(sp).ok()?;
        let text = self.text();
        let calls = LENGTHS.filter_map(|length| {
            let call = text.instruction(return_address.checked_sub(length)?)?;
            (call.mnemonic() == Mnemonic::Call && call.next_ip() == return_address).then_some(call)
        });
        let targets: Vec<Option<u64>> = calls.map(|call| self.called(&call, regs)).collect();
        Some(match targets.iter().flatten().next() {
            _ if targets.is_empty() => Witness::NotACall,
            _ if targets.contains(&Some(pc)) => Witness::Confirmed,
            // A direct call has a function that may have jumped there.
            _ => Witness::Unknown,
        })
    }

    /// Where `call` goes with these registers; they are those before it but for the stack pointer.
    fn called(&self, call: &Instruction, regs: &Regs) -> Option<u64> {
        let value =
            |register: Operand| match register {
                Operand::RSP => regs.get(self.arch.sp)?.checked_add(8),
                // Segments begin at zero in user space, those for thread-local storage excepted.
                Operand::DS | Operand::ES | Operand::SS | Operand::CS => Some(0),
                Operand::FS => regs.get(Register::THREAD),
                Operand::GS => regs.get(Register::GS_BASE),
                general => regs.get(self.arch.registers.iter().find_map(|(register, name)| {
                    format!("{general:?}").eq_ignore_ascii_case(name).then_some(*register)
                })?),
            };
        match call.op0_kind() {
            OpKind::NearBranch64 => Some(call.near_branch_target()),
            OpKind::Register => value(call.op0_register()),
            OpKind::Memory => {
                let place = call.virtual_address(0, 0, |register, _, _| value(register))?;
                self.memory.word(place).ok()
            }
            _ => None,
        }
    }
}
