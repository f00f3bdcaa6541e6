//! Symbol tables.

use super::{Image, elf};
use object::LittleEndian as LE;
use object::elf::{DT_STRTAB, DT_SYMTAB, SHT_DYNSYM, SHT_SYMTAB, Sym64};

/// A symbol. Its address is a linked address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSymbol<'a> {
    /// Its name, mangled as the compiler wrote it.
    pub name: &'a [u8],
    /// Its value.
    pub address: u64,
    /// Its size, 0 when the file does not say.
    pub size: u64,
    /// `STT_*`.
    pub kind: u8,
    /// `STB_*`.
    pub binding: u8,
    /// The section it is in, 0 when it is not defined here.
    pub section: u16,
}

impl Image {
    /// Every symbol of the image: `.symtab`, `.dynsym`, and those of its `.gnu_debugdata`.
    pub fn symbols(&self) -> impl Iterator<Item = ImageSymbol<'_>> {
        let mini = self.mini_debug().into_iter().flat_map(Self::own_symbols);
        self.own_symbols().chain(mini)
    }

    fn own_symbols(&self) -> impl Iterator<Item = ImageSymbol<'_>> {
        let sections = self.headers.sections(self.bytes());
        let by_section = sections.iter().filter_map(move |section| {
            if !matches!(section.sh_type.get(LE), SHT_SYMTAB | SHT_DYNSYM) {
                return None;
            }
            let names = sections.get(usize::try_from(section.sh_link.get(LE)).ok()?)?;
            Some((self.contents.get(elf::file_range(section)?)?, self.contents.get(elf::file_range(names)?)?))
        });
        let by_dynamic = if sections.is_empty() { self.dynamic_symbols() } else { None };
        by_section.chain(by_dynamic).flat_map(|(table, names)| read(table, names))
    }

    /// The dynamic symbol table and its names in a file without section headers. Linkers put the names right behind
    /// the symbols, which is what bounds the table here.
    fn dynamic_symbols(&self) -> Option<(&[u8], &[u8])> {
        let (table, names) = (self.dynamic_value(DT_SYMTAB)?, self.dynamic_value(DT_STRTAB)?);
        let size = usize::try_from(names.checked_sub(table)?).ok()?;
        let names_size = usize::try_from(self.dynamic_value(object::elf::DT_STRSZ)?).ok()?;
        Some((self.at(table, size)?, self.at(names, names_size)?))
    }
}

/// The symbols of one table.
fn read<'a>(table: &'a [u8], names: &'a [u8]) -> impl Iterator<Item = ImageSymbol<'a>> {
    let count = table.len() / size_of::<Sym64<LE>>();
    let symbols = object::pod::slice_from_bytes::<Sym64<LE>>(table, count).map_or(&[][..], |(symbols, _)| symbols);
    symbols.iter().filter_map(|symbol| {
        Some(ImageSymbol {
            name: elf::text(names, symbol.st_name.get(LE))?,
            address: symbol.st_value.get(LE),
            size: symbol.st_size.get(LE),
            kind: symbol.st_type(),
            binding: symbol.st_bind(),
            section: symbol.st_shndx.get(LE),
        })
    })
}
