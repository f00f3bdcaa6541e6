//! Call frame information that is not taken at its word where it leads to a return address that no call left.
//!
//! ```text
//!   row of the tables ─► a return address behind a call            ─► believed
//!                     └► any other ─► row of the instructions ─► one behind a call: the tables lie
//!                                                             └► none either: the return address was overwritten
//! ```

use crate::rows::{AnalysedRows, CachedRows};
use crate::snapshot::{AddressSpace, Snapshot};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_walk::{CodeAddress, Error, FoundBy, Link, Mapping, Regs, Root, Step, Target, Unwinder};

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
}

impl Unwinder for Corrected<'_> {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let step = self.dwarf.step(target, callee, caller)?;
        let (Step::Caller { link: Link::Call, .. }, Some(CodeAddress::Return(address))) = (step, caller.pc()) else {
            return Ok(step);
        };
        // Text that cannot be read is not held against the tables.
        let is_code = matches!(target.modules.mapping(address), Mapping::Code | Mapping::Unknown);
        if is_code && (target.follows_call(address) != Some(false) || target.is_entered_without_call(address)) {
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
            (Ok(Step::Caller { cfa, return_slot, link, .. }), Some(pc))
                if target.follows_call(pc.value()) == Some(true) =>
            {
                *caller = other;
                Ok(Step::Caller { cfa, return_slot, link, found_by: FoundBy::Corrected })
            }
            _ => Ok(step),
        }
    }
}

/// Whether `pc` is in the function of this name.
fn is_in(space: &AddressSpace, pc: u64, name: &[u8]) -> bool {
    let Some((_, module)) = space.module(pc) else { return false };
    let mut symbols = module.image.iter().flat_map(|image| image.symbols());
    symbols.any(|symbol| symbol.name == name && pc.wrapping_sub(module.bias).wrapping_sub(symbol.address) < symbol.size)
}
