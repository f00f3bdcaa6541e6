//! Where packed rules come from.

use crate::{Packed, Special};
use surestack_cfi::{DwarfRows, Function, Header, Lookup, Rows, Unusual};
use surestack_signal_frame::{Underfoot, underfoot};
use surestack_walk::{Code, CodeAddress, Mapping, Module, Target};

/// A source of packed rules.
pub trait Rules {
    /// The rule in force at `pc`: what the unwinders of a full walk say there, signal frames first, then call frame
    /// information. None where these have nothing to say, or the full walk would not go there.
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed>;
}

/// Rules from the unwind information itself, evaluated anew each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluated;

impl Rules for Evaluated {
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed> {
        if !pc.is_exact() && matches!(target.modules.mapping(pc.value()), Mapping::Data | Mapping::Nothing) {
            return None;
        }
        // Code of no module may be other code at any time, and nobody would hear of it.
        let module = target.modules.find(pc.lookup())?;
        if !(module.start..module.end).contains(&pc.value()) {
            target.modules.find(pc.value())?;
        }
        match underfoot(target, pc) {
            Some(Underfoot::Trampoline) => return Some(Packed::special(Special::Signal)),
            Some(Underfoot::ContextEntry) => return Some(Packed::special(Special::ContextEntry)),
            None => {}
        }
        if let Ok(rule) = decoded(target, &module, pc) {
            return rule;
        }
        match DwarfRows.row(target, pc, |row| Packed::of(row, target.arch)) {
            Ok(Lookup::Row(rule)) => Some(rule),
            Ok(Lookup::Missing(_)) | Err(_) => None,
        }
    }
}

/// The rule as our own reader decodes it, without making a row of it.
fn decoded(target: &Target<'_>, module: &Module<'_>, pc: CodeAddress) -> Result<Option<Packed>, Unusual> {
    let unwind = &module.unwind;
    let section = unwind.eh_frame.ok_or(Unusual)?;
    let header = unwind.eh_frame_hdr.and_then(Header::parse).ok_or(Unusual)?;
    let linked = pc.lookup().wrapping_sub(module.bias);
    // What is not in `.eh_frame` may be in `.debug_frame`.
    let fde = header.lookup(linked).ok_or(Unusual)?;
    let function = Function::at(section, fde)?;
    let row = function.row_at(linked)?.ok_or(Unusual)?;
    let begins = Code::at(target.memory, function.start.wrapping_add(module.bias));
    if begins.starts_with_any(target.arch.context_entries.iter().copied()) {
        return Ok(Some(Packed::special(Special::ContextEntry)));
    }
    Ok(Some(Packed::of_compact(&row, &function, section.bytes, target.arch)))
}
