//! Where packed rules come from.

use crate::{Packed, Special};
use surestack_cfi::{DwarfRows, Lookup, Rows};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{CodeAddress, Mapping, Regs, Root, Step, Target, Unwinder};

/// A source of packed rules.
pub trait Rules {
    /// The rule in force at `pc`: what the unwinders of a full walk say there, [`SignalFrame`] first, then call frame
    /// information. None where these have nothing to say, or the full walk would not go there.
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed>;
}

/// Rules from the unwind information itself, evaluated anew each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluated;

impl Rules for Evaluated {
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed> {
        if !is_code(target, pc) {
            return None;
        }
        if let Some(special) = by_bytes(target, pc) {
            return Some(Packed::special(special));
        }
        match DwarfRows.row(target, pc, |row| Packed::of(row, target.arch)) {
            Ok(Lookup::Row(rule)) => Some(rule),
            Ok(Lookup::Missing(_)) | Err(_) => None,
        }
    }
}

/// Whether a walk may arrive at `pc`.
pub(crate) fn is_code(target: &Target<'_>, pc: CodeAddress) -> bool {
    pc.is_exact() || !matches!(target.modules.mapping(pc.value()), Mapping::Data | Mapping::Nothing)
}

/// What the bytes at `pc` say, before any table is asked.
pub(crate) fn by_bytes(target: &Target<'_>, pc: CodeAddress) -> Option<Special> {
    let (mut callee, mut caller) = (Regs::new(), Regs::new());
    callee.set_pc(pc);
    match SignalFrame.step(target, &callee, &mut caller) {
        Ok(Step::NotMine(_)) => None,
        Ok(Step::End(Root::ContextEntry)) => Some(Special::ContextEntry),
        // It knows the code, and misses a stack pointer.
        Ok(Step::Caller { .. }) | Err(_) => Some(Special::Signal),
        Ok(Step::End(_)) => Some(Special::Full),
    }
}
