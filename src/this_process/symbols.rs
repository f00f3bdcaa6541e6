//! Symbol tables of our own modules, mapped for handlers to read.

use memmap2::Mmap;
use object::LittleEndian as LE;
use object::elf::{FileHeader64, SHT_DYNSYM, SHT_SYMTAB};
use object::read::elf::{FileHeader, SectionHeader};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use surestack_module_map::Symbols;

/// The symbol table of the file at `path` (of the program itself where that is empty), if it is the file with this build ID.
/// The mapping is never given back.
pub fn of(path: &[u8], build_id: &[u8]) -> Option<Symbols> {
    let path = if path.is_empty() { Path::new("/proc/self/exe") } else { Path::new(OsStr::from_bytes(path)) };
    let file = File::open(path).ok()?;
    // SAFETY: handlers read it word by word, prepared for faults; below it is read as object reads every file.
    let bytes = unsafe { Mmap::map(&file) }.ok()?;
    let header = FileHeader64::<LE>::parse(&*bytes).ok()?;
    let sections = header.sections(LE, &*bytes).ok()?;
    let own = sections.iter().find_map(|section| {
        section.notes(LE, &*bytes).ok()??.next().ok()?.filter(|note| note.n_type(LE) == object::elf::NT_GNU_BUILD_ID)
    });
    if own.map_or(&[][..], |note| note.desc()) != build_id {
        return None;
    }
    let of_kind = |kind| sections.iter().find(|section| section.sh_type(LE) == kind);
    let table = of_kind(SHT_SYMTAB).or_else(|| of_kind(SHT_DYNSYM))?;
    let names = sections.section(table.link(LE)).ok()?;
    let at = |section: &object::elf::SectionHeader64<LE>| {
        let data = section.data(LE, &*bytes).ok()?;
        Some((u64::try_from(data.as_ptr().expose_provenance()).ok()?, u64::try_from(data.len()).ok()?))
    };
    let ((table, size), (strings, strings_size)) = (at(table)?, at(names)?);
    std::mem::forget(bytes);
    Some(Symbols { table, size, strings, strings_size })
}
