//! Call frame information that is not taken at its word where the instructions contradict it.
//!
//! ```text
//!   the row is contradicted, and another is proven   ─► the other one, if it leads behind a call or neither does
//!   a register is contradicted                       ─► taken from where the instructions saved it, or unknown
//!   row of the tables ─► a return address behind a call            ─► believed
//!                     └► any other ─► row of the instructions ─► one behind a call: the tables lie
//!                                                             └► none either: the return address was overwritten
//! ```

use crate::evidence::FileEvidence;
use crate::rows::{AnalysedRows, CachedRows};
use crate::snapshot::{AddressSpace, Snapshot};
use surestack_cfi::{Cfi, DwarfRows, apply};
use surestack_walk::{
    CodeAddress, Error, Evidence, FoundBy, Link, Mapping, RegisterSet, Regs, Root, RowEvidence, RowProof, Step, Target,
    Unwinder, Witness,
};

/// Go's runtime makes this function look called by the instruction that faulted.
const GO_FAULT: &[u8] = b"runtime.sigpanic";
/// What the first function of a goroutine returns to; nobody called it.
const GO_FOOT: &[u8] = b"runtime.goexit.abi0";

/// Steps by call frame information, checked against the code.
pub struct Corrected<'k> {
    /// The tables.
    pub dwarf: &'k Cfi<CachedRows<DwarfRows>>,
    /// The instructions.
    pub analysed: &'k Cfi<CachedRows<AnalysedRows>>,
    /// Where the code's files are.
    pub snapshot: &'k Snapshot,
    /// What is proven of the tables.
    pub evidence: &'k FileEvidence<'k>,
}

impl Unwinder for Corrected<'_> {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let known = callee.pc().map_or(RowEvidence::UNKNOWN, |pc| self.evidence.row(pc));
        if known.frame == RowProof::Contradicted
            && let Some(step) = self.proven(target, callee, caller)
        {
            return Ok(step);
        }
        let step = self.dwarf.step(target, callee, caller)?;
        if known.wrong != RegisterSet::EMPTY {
            self.put_right(target, callee, caller, known.wrong);
        }
        let (Step::Caller { link: Link::Call, .. }, Some(CodeAddress::Return(address))) = (step, caller.pc()) else {
            return Ok(step);
        };
        if is_returned_to(target, address) {
            return Ok(step);
        }
        let pc = callee.pc().map_or(0, CodeAddress::lookup);
        if is_in(&self.snapshot.space, pc, GO_FOOT) {
            return Ok(Step::End(Root::Named));
        }
        if is_in(&self.snapshot.space, pc, GO_FAULT) {
            caller.set_pc(CodeAddress::Exact(address));
            return Ok(step);
        }
        let mut other = Regs::new();
        let analysed = self.analysed.step(target, callee, &mut other);
        match (analysed, other.pc()) {
            (Ok(Step::Caller { cfa, return_slot, link, found_by }), Some(pc))
                if target.follows_call(pc.value()) == Some(true) =>
            {
                *caller = other;
                let found_by = if self.is_guess(callee, pc) { found_by } else { FoundBy::Corrected };
                Ok(Step::Caller { cfa, return_slot, link, found_by })
            }
            _ => Ok(step),
        }
    }
}

impl Corrected<'_> {
    /// The step by the row that is proven in place of a contradicted one. Where it leads to no call and the tables lead to
    /// one, something that a proof believes is not so here: then it is left alone. So is code that nobody calls.
    fn proven(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Option<Step> {
        let row = self.evidence.corrected_row(callee.pc()?)?;
        let mut other = Regs::new();
        let leads = |regs: &Regs| regs.pc().is_some_and(|pc| is_returned_to(target, pc.value()));
        let by_tables = match self.dwarf.step(target, callee, &mut other) {
            Ok(Step::Caller { link: Link::Call, .. }) => leads(&other),
            Ok(_) => return None,
            Err(_) => false,
        };
        let Ok(Step::Caller { cfa, return_slot, link, .. }) = apply(&row, target, callee, caller) else { return None };
        let found_by = FoundBy::Corrected;
        (leads(caller) || !by_tables).then_some(Step::Caller { cfa, return_slot, link, found_by })
    }

    /// Takes the registers about which the tables are wrong from where the instructions saved them. Those that they have
    /// lost are unknown.
    fn put_right(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs, wrong: RegisterSet) {
        let Some(row) = callee.pc().and_then(|pc| self.evidence.corrected_row(pc)) else { return };
        let mut other = Regs::new();
        let sp = target.arch.sp;
        if apply(&row, target, callee, &mut other).is_ok() && other.get(sp) == caller.get(sp) {
            for register in target.arch.callee_saved.iter().filter(|register| wrong.contains(**register)) {
                caller.inherit(*register, &other);
            }
        }
    }

    /// Whether the instructions up to the return say more than is known: the row is contradicted, none is proven in its
    /// place, and the call does not vouch for where they lead.
    fn is_guess(&self, callee: &Regs, caller: CodeAddress) -> bool {
        let Some(pc) = callee.pc() else { return false };
        self.evidence.row(pc).frame == RowProof::Contradicted
            && self.evidence.call(caller.value(), pc) != Witness::Confirmed
    }
}

/// Whether something may return to `address`. Text that cannot be read is not held against it.
fn is_returned_to(target: &Target<'_>, address: u64) -> bool {
    matches!(target.modules.mapping(address), Mapping::Code | Mapping::Unknown)
        && (target.follows_call(address) != Some(false) || target.is_entered_without_call(address))
}

/// Whether `pc` is in the function of this name.
fn is_in(space: &AddressSpace, pc: u64, name: &[u8]) -> bool {
    let Some((_, module)) = space.module(pc) else { return false };
    let mut symbols = module.image.iter().flat_map(|image| image.symbols());
    symbols.any(|symbol| symbol.name == name && pc.wrapping_sub(module.bias).wrapping_sub(symbol.address) < symbol.size)
}
