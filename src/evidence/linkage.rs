//! The words through which one module calls another: the loader writes them, and nobody else.

use super::FileEvidence;
use crate::image::Image;
use crate::snapshot::LoadedModule;
use object::elf::{
    DT_JMPREL, DT_PLTRELSZ, DT_RELA, DT_RELASZ, R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT,
};
use std::ops::Range;
use surestack_walk::CodeAddress;

/// One module's words. Linked addresses.
#[derive(Debug, Default)]
pub(super) struct Linkage {
    /// The sections that hold them.
    sections: Vec<Range<u64>>,
    /// Those that relocations name, in a file without section headers; ascending.
    slots: Vec<u64>,
}

impl Linkage {
    fn of(image: &Image) -> Self {
        let range = |name: &str| image.section_range(name).map(|(start, size)| start..start.saturating_add(size));
        let sections: Vec<Range<u64>> = [".got", ".got.plt"].into_iter().filter_map(range).collect();
        let tables = [(DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)];
        let table = |(at, size): (i64, i64)| {
            let size = usize::try_from(image.dynamic_value(size)?).ok()?;
            image.at(image.dynamic_value(at)?, size)
        };
        let tables = tables.into_iter().filter(|_| sections.is_empty()).filter_map(table);
        let mut slots: Vec<u64> = tables.flat_map(|bytes| bytes.as_chunks::<24>().0).filter_map(slot).collect();
        slots.sort_unstable();
        Self { sections, slots }
    }

    fn holds(&self, linked: u64) -> bool {
        self.sections.iter().any(|section| section.contains(&linked)) || self.slots.binary_search(&linked).is_ok()
    }
}

/// The word that an `Elf64_Rela` is about, if a function's address is put there.
fn slot(rela: &[u8; 24]) -> Option<u64> {
    let word =
        |at: usize| rela.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|word| u64::from_le_bytes(*word));
    let kind = u32::try_from(word(8)? & 0xffff_ffff).ok()?;
    matches!(kind, R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT | R_X86_64_IRELATIVE).then(|| word(0)).flatten()
}

impl FileEvidence<'_> {
    /// Whether the word at `slot`, which can be written, is one that only the loader writes.
    pub(super) fn is_linkage(&self, slot: u64) -> bool {
        let Some((index, module, image)) = self.image(slot) else { return false };
        let mut known = self.answers.linkages.borrow_mut();
        known.entry(index).or_insert_with(|| Linkage::of(image)).holds(slot.wrapping_sub(module.bias))
    }

    /// Whether a module's linkage table leads to `address` while its words are not bound.
    pub(super) fn is_any_resolver(&self, address: u64) -> bool {
        let modules = self.space.map(|space| space.modules.as_slice()).unwrap_or_default();
        modules.iter().any(|module| {
            let image = self.image(module.start).map(|(_, _, image)| image);
            image.and_then(|image| self.resolver(module, image)) == Some(address)
        })
    }

    /// Where a module's linkage table leads while its words are not bound.
    fn resolver(&self, module: &LoadedModule, image: &Image) -> Option<u64> {
        // The third word of the table, beside the module's own description.
        let at = image.plt_got()?.wrapping_add(module.bias).checked_add(16)?;
        self.memory.word(at).ok().filter(|resolver| *resolver != 0)
    }

    /// Whether `callee` is in the function that binds the word at `slot`, which it led to before it was bound.
    pub(super) fn is_resolver(&self, slot: u64, callee: CodeAddress) -> bool {
        let Some((_, module, image)) = self.image(slot) else { return false };
        let function = self.resolver(module, image).and_then(|resolver| self.function(resolver));
        function.is_some_and(|(start, end)| (start..end).contains(&callee.lookup())) && self.is_linkage(slot)
    }
}
