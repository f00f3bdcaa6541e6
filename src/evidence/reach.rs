//! Whether control can get from a call's target to a pc without another call.

use super::FileEvidence;
use crate::analysis::Text;
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};
use std::collections::HashSet;
use surestack_cfi::CfaRule;
use surestack_walk::{CodeAddress, Witness};

/// Most instructions looked at for one question.
const BUDGET: usize = 20_000;

/// One question.
struct Search<'e, 's> {
    evidence: &'e FileEvidence<'s>,
    text: Text<'s>,
    callee: CodeAddress,
    /// The callee's function, by its unwind information.
    function: Option<(u64, u64)>,
    seen: HashSet<u64>,
    work: Vec<u64>,
    /// Whether every way on is known so far.
    complete: bool,
}

impl FileEvidence<'_> {
    /// Whether code entered at `target` can be running at `callee`, calls it made itself aside.
    pub(super) fn reaches(&self, target: u64, callee: CodeAddress) -> Witness {
        let function = self.function(callee.lookup());
        let mut search = Search {
            evidence: self,
            text: self.text(),
            callee,
            function,
            seen: HashSet::new(),
            work: vec![target],
            complete: true,
        };
        if search.found() {
            return Witness::Confirmed;
        }
        let entered = search.complete && self.is_entered_by_calls(target, function);
        // What only a landing pad of the target's leads to is not found by jumps.
        search.sweep(search.behind_stub(target));
        if entered && !search.found() && search.complete { Witness::Refuted { target } } else { Witness::Unknown }
    }

    /// Whether the callee's function can only have been entered at its start. Parts that were split off may hold landing
    /// pads, to which no jump leads: their first row is in the middle of a frame, or they begin with a filler.
    fn is_entered_by_calls(&self, target: u64, function: Option<(u64, u64)>) -> bool {
        let Some((start, end)) = function else { return true };
        let at_call = CfaRule::Register(self.arch.sp, 8);
        !(start..end).contains(&target)
            && self.with_row(start, |row| row.cfa == at_call) == Some(true)
            && self.text().instruction(start).is_some_and(|first| first.mnemonic() != Mnemonic::Nop)
    }
}

impl Search<'_, '_> {
    fn found(&mut self) -> bool {
        while let Some(start) = self.work.pop() {
            // From its start a function reaches all of itself: jump tables and landing pads too.
            if self.function.is_some_and(|(first, _)| first == start) {
                return true;
            }
            let mut address = start;
            while self.seen.insert(address) {
                if self.seen.len() > BUDGET {
                    self.complete = false;
                    return false;
                }
                let Some(instruction) = self.text.instruction(address) else {
                    self.complete = false;
                    break;
                };
                if self.is_callee(&instruction) {
                    return true;
                }
                let Some(next) = self.next(&instruction) else { break };
                if self.function.is_some_and(|(first, _)| first == next) {
                    return true;
                }
                address = next;
            }
        }
        false
    }

    fn is_callee(&self, instruction: &Instruction) -> bool {
        match self.callee {
            CodeAddress::Exact(address) => instruction.ip() == address,
            CodeAddress::Return(address) => {
                instruction.mnemonic() == Mnemonic::Call && instruction.next_ip() == address
            }
        }
    }

    /// The instruction that follows in time; other ways go onto the list.
    fn next(&mut self, instruction: &Instruction) -> Option<u64> {
        let on = instruction.next_ip();
        match instruction.flow_control() {
            // Privileged: in user space it is where a noreturn call is caught.
            FlowControl::Next => (instruction.mnemonic() != Mnemonic::Hlt).then_some(on),
            FlowControl::ConditionalBranch => {
                self.work.push(instruction.near_branch_target());
                Some(on)
            }
            FlowControl::UnconditionalBranch => {
                self.work.push(instruction.near_branch_target());
                None
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                // The last call of a function does not come back: what follows is another function.
                let here = self.evidence.function(instruction.ip());
                let last = instruction.mnemonic() == Mnemonic::Call && here.is_some_and(|(_, end)| end <= on);
                (!last).then_some(on)
            }
            FlowControl::IndirectBranch => {
                self.indirect(instruction);
                None
            }
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception | FlowControl::XbeginXabortXend => {
                None
            }
        }
    }

    /// A jump through memory or a register.
    fn indirect(&mut self, jump: &Instruction) {
        if jump.is_ip_rel_memory_operand() {
            let slot = jump.ip_rel_memory_address();
            match self.evidence.memory.word(slot) {
                Ok(target) => self.work.push(target),
                Err(_) => self.complete = false,
            }
            // The slot may have held another value when the call was made. That of a lazily bound stub held the way to
            // the loader's resolver, and nothing else.
            if self.evidence.writable(slot).is_some() {
                match self.resolver(jump) {
                    Some(resolver) if self.function.is_some() && self.function == self.evidence.function(resolver) => {
                        self.work.extend(self.function.map(|(first, _)| first));
                    }
                    Some(_) => {}
                    None => self.complete = false,
                }
            }
            return;
        }
        // A jump table, or a call in tail position: all of this function, and nobody knows what else.
        self.complete = false;
        self.sweep(jump.ip());
    }

    /// The function that a PLT stub at `target` jumps to, or `target` itself.
    fn behind_stub(&self, target: u64) -> u64 {
        let jump = self.text.instruction(target).filter(|first| first.flow_control() == FlowControl::IndirectBranch);
        let slot = jump.filter(Instruction::is_ip_rel_memory_operand).map(|jump| jump.ip_rel_memory_address());
        slot.and_then(|slot| self.evidence.memory.word(slot).ok()).unwrap_or(target)
    }

    /// Where the lazily bound stub that begins with `jump` led before its slot was bound; `None` if it is no such stub, or
    /// not bound yet.
    ///
    /// ```text
    ///   stub:  jmp *slot(%rip); push $n; jmp plt0        plt0:  push link_map(%rip); jmp *resolver(%rip)
    /// ```
    fn resolver(&self, jump: &Instruction) -> Option<u64> {
        let push = self.text.instruction(jump.next_ip()).filter(|next| next.mnemonic() == Mnemonic::Push)?;
        if self.evidence.memory.word(jump.ip_rel_memory_address()) == Ok(push.ip()) {
            return None;
        }
        let back = self.text.instruction(push.next_ip()).filter(|next| next.op0_kind() == OpKind::NearBranch64)?;
        let map = self.text.instruction(back.near_branch_target()).filter(|next| next.mnemonic() == Mnemonic::Push)?;
        let on = self.text.instruction(map.next_ip()).filter(Instruction::is_ip_rel_memory_operand)?;
        self.evidence.memory.word(on.ip_rel_memory_address()).ok()
    }

    /// Puts every instruction of the function at `address` onto the list.
    fn sweep(&mut self, address: u64) {
        let Some((start, end)) = self.evidence.function(address) else { return };
        let mut at = start;
        while at < end && self.work.len() < BUDGET {
            self.work.push(at);
            let Some(instruction) = self.text.instruction(at) else { break };
            at = instruction.next_ip();
        }
    }
}
