//! The call before a return address, and where it goes.

use super::FileEvidence;
use super::reach::Way;
use iced_x86::{Instruction, Mnemonic, OpKind};
use surestack_walk::{CodeAddress, Mapping, Witness, X86_64};

/// Lengths of x86_64 call instructions, those whose target can be known first.
const LENGTHS: [u64; 7] = [5, 6, 2, 3, 4, 7, 8];

/// Whether an answer stays true while nothing is mapped anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    Yes,
    /// It depends on words that the loader may still write.
    No,
}

/// A call whose target is known.
struct Site {
    target: u64,
    /// Whether no word that tells it can be written.
    settled: bool,
}

impl FileEvidence<'_> {
    /// Whether the call before `return_address` reaches `callee`, and whether that stays so.
    pub(super) fn witness(&self, return_address: u64, callee: CodeAddress) -> (Witness, Lasting) {
        if self.arch.machine != X86_64.machine {
            return (self.branch_with_link(return_address, callee), Lasting::Yes);
        }
        let calls = self.calls_before(return_address);
        if calls.is_empty() {
            let mut bytes = [0; 8];
            let readable = return_address.checked_sub(8).is_some_and(|at| self.memory.read(at, &mut bytes).is_ok());
            return (if readable { Witness::NotACall } else { Witness::Unknown }, Lasting::Yes);
        }
        let Some(site) = calls.iter().find_map(|call| self.site(call)) else {
            return (Witness::Unknown, Lasting::Yes);
        };
        // `67 e8` and the prefixes of a call for thread-local storage end with the same call.
        let certain = calls.iter().all(|call| self.site(call).is_some_and(|other| other.target == site.target));
        let answer = self.reaches(site.target, callee);
        let lasting = if site.settled && answer.settled { Lasting::Yes } else { Lasting::No };
        let witness = match answer.way {
            Way::There => Witness::Confirmed,
            Way::Nowhere if certain => Witness::Refuted { target: site.target },
            Way::Nowhere | Way::Open => Witness::Unknown,
        };
        (witness, lasting)
    }

    /// The calls that end at `return_address`: one, where the instructions of its function tell where each begins.
    fn calls_before(&self, return_address: u64) -> Vec<Instruction> {
        let text = self.text();
        let ends_here = |length: &u64| {
            let call = text.instruction(return_address.checked_sub(*length)?)?;
            (call.mnemonic() == Mnemonic::Call && call.next_ip() == return_address).then_some(call)
        };
        let calls: Vec<Instruction> = LENGTHS.iter().filter_map(ends_here).collect();
        let function = (calls.len() > 1).then(|| self.function(return_address.saturating_sub(1))).flatten();
        let Some((mut at, _)) = function else { return calls };
        while at < return_address {
            let Some(instruction) = text.instruction(at) else { return calls };
            at = instruction.next_ip();
            if at == return_address {
                return calls.into_iter().filter(|call| call.ip() == instruction.ip()).collect();
            }
        }
        calls
    }

    /// Where a call goes, if the instruction itself and the target's memory tell. A word that the program writes itself may
    /// have held something else, and the function it led to may be what is missing.
    fn site(&self, call: &Instruction) -> Option<Site> {
        let site = if call.op0_kind() == OpKind::NearBranch64 {
            Site { target: call.near_branch_target(), settled: true }
        } else if call.is_ip_rel_memory_operand() {
            let slot = call.ip_rel_memory_address();
            let settled = self.writable(slot).is_none();
            if !settled && !self.is_linkage(slot) {
                return None;
            }
            Site { target: self.memory.word(slot).ok()?, settled }
        } else {
            return None;
        };
        matches!(self.modules.mapping(site.target), Mapping::Code | Mapping::Unknown).then_some(site)
    }

    /// aarch64: `bl` to the first byte of the callee's function.
    fn branch_with_link(&self, return_address: u64, callee: CodeAddress) -> Witness {
        let Some(at) = return_address.checked_sub(4) else { return Witness::NotACall };
        let Ok(word) = self.memory.value(at, 4) else { return Witness::Unknown };
        let mut bytes = [0; 8];
        if at.checked_sub(4).is_some_and(|before| self.memory.read(before, &mut bytes).is_ok())
            && !(self.arch.ends_with_call)(&bytes)
        {
            return Witness::NotACall;
        }
        if word >> 26 != 0b10_0101 {
            return Witness::Unknown;
        }
        // imm26, sign-extended, in words.
        let offset = (word << 38).cast_signed() >> 36;
        let target = at.wrapping_add_signed(offset);
        let same = self.function(callee.lookup()).is_some_and(|(start, _)| start == target);
        if same { Witness::Confirmed } else { Witness::Unknown }
    }
}
