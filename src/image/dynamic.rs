//! The dynamic section, and what it and the section names say about code without unwind information.

use super::{Image, elf};
use object::elf::{
    DT_FINI, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, DT_INIT, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, DT_JMPREL, DT_NULL, DT_PLTGOT,
    DT_SONAME, DT_STRTAB, DT_TEXTREL, PT_DYNAMIC,
};

/// A procedure linkage table. Linked addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plt {
    /// The section: `.plt`, `.plt.sec` or `.plt.got`.
    pub name: &'static str,
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Image {
    /// The dynamic section's tags and values, up to the first `DT_NULL`.
    pub fn dynamic(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let range = self.headers.segment(PT_DYNAMIC).and_then(|found| elf::range(found.offset, found.file_size));
        let bytes = range.and_then(|range| self.contents.get(range)).unwrap_or_default();
        let (entries, _) = bytes.as_chunks::<16>();
        let word = |half: &[u8]| half.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        let entry = move |entry: &[u8; 16]| {
            let (tag, value) = entry.split_at(8);
            (word(tag), word(value))
        };
        entries.iter().map(entry).take_while(|&(tag, _)| tag != u64::try_from(DT_NULL).unwrap_or_default())
    }

    /// The value of a tag of the dynamic section (`DT_*`).
    pub fn dynamic_value(&self, tag: i64) -> Option<u64> {
        let tag = u64::try_from(tag).ok()?;
        self.dynamic().find(|&(found, _)| found == tag).map(|(_, value)| value)
    }

    /// Its own name (`DT_SONAME`).
    pub fn soname(&self) -> Option<&str> {
        let address = self.dynamic_value(DT_STRTAB)?.checked_add(self.dynamic_value(DT_SONAME)?)?;
        let mut length = 0usize;
        while length < 4096 && *self.at(address, length.checked_add(1)?)?.last()? != 0 {
            length = length.checked_add(1)?;
        }
        std::str::from_utf8(self.at(address, length)?).ok()
    }

    /// Where the sections with procedure linkage tables are; empty without section headers.
    pub fn plts(&self) -> impl Iterator<Item = Plt> + '_ {
        [".plt", ".plt.sec", ".plt.got"].into_iter().filter_map(|name| {
            let (start, size) = self.section_range(name)?;
            Some(Plt { name, start, end: start.checked_add(size)? })
        })
    }

    /// `DT_PLTGOT`: the table that the linkage table jumps through.
    pub fn plt_got(&self) -> Option<u64> {
        self.dynamic_value(DT_PLTGOT)
    }

    /// `DT_JMPREL`: the linkage table's relocations.
    pub fn jump_relocations(&self) -> Option<u64> {
        self.dynamic_value(DT_JMPREL)
    }

    /// `DT_INIT`: the function `_init`.
    pub fn init(&self) -> Option<u64> {
        self.dynamic_value(DT_INIT)
    }

    /// `DT_FINI`: the function `_fini`.
    pub fn fini(&self) -> Option<u64> {
        self.dynamic_value(DT_FINI)
    }

    /// Linked addresses of the functions in the init array and the fini array, as the file has them: 0 in files whose
    /// relocations hold the addresses (`-z pack-relative-relocs`, or RELA without addends in place).
    pub fn initialisers(&self) -> impl Iterator<Item = u64> + '_ {
        let arrays = [(DT_INIT_ARRAY, DT_INIT_ARRAYSZ), (DT_FINI_ARRAY, DT_FINI_ARRAYSZ)];
        let array = |(start, size): (i64, i64)| {
            let size = usize::try_from(self.dynamic_value(size)?).ok()?;
            self.at(self.dynamic_value(start)?, size)
        };
        let words = |bytes: &'_ [u8]| bytes.as_chunks::<8>().0.to_vec();
        arrays.into_iter().filter_map(array).flat_map(words).map(u64::from_le_bytes)
    }

    /// Whether relocations were applied to its code, so that the file's bytes are not what is mapped.
    pub fn has_text_relocations(&self) -> bool {
        self.dynamic_value(DT_TEXTREL).is_some()
    }
}
