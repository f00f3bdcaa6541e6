//! Where a file has code that is known by its bytes, so that no table may answer for it.

use memmap2::Mmap;
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use surestack_capture::ARCH;
use surestack_module_map::Record;

/// Linked addresses in ascending order for which the unwind information is not asked, or not alone.
pub struct KnownCode(Vec<u64>);

impl KnownCode {
    /// In pieces of code, each with its linked address.
    pub fn in_code<'c>(code: impl IntoIterator<Item = (u64, &'c [u8])>) -> Self {
        let mut places = vec![];
        code.into_iter().for_each(|(address, text)| find(text, address, &mut places));
        places.sort_unstable();
        Self(places)
    }

    /// Of the file of a module, if it is the one that is mapped: its build ID says so. The vDSO, which has no file, lies in
    /// memory for ever.
    pub fn of(record: &Record) -> Option<Self> {
        if record.path.starts_with(b"linux-vdso") || record.path.starts_with(b"linux-gate") {
            let text = |&(low, high): &(u64, u64)| {
                let (start, length) = (usize::try_from(low).ok()?, usize::try_from(high - low).ok()?);
                // SAFETY: the kernel's pages, which nobody takes away.
                let text =
                    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(start), length) };
                Some((low.wrapping_sub(record.bias), text))
            };
            return Some(Self::in_code(record.code.iter().map(text).collect::<Option<Vec<_>>>()?));
        }
        let file = opened(record.path, record.build_id)?;
        let header = FileHeader64::<LE>::parse(&*file).ok()?;
        let segments = header.program_headers(LE, &*file).ok()?;
        let code = segments.iter().filter(|segment| segment.p_type(LE) == PT_LOAD && segment.p_flags(LE) & PF_X != 0);
        let text = code.map(|segment| Some((segment.p_vaddr(LE), segment.data(LE, &*file).ok()?)));
        Some(Self::in_code(text.collect::<Option<Vec<_>>>()?))
    }

    /// Whether one of them is in a range.
    pub fn is_in(&self, start: u64, end: u64) -> bool {
        self.0.get(self.0.partition_point(|place| *place < start)).is_some_and(|place| *place < end)
    }
}

/// The file at `path` (the program itself where that is empty), if it has this build ID and that is one.
fn opened(path: &[u8], build_id: &[u8]) -> Option<Mmap> {
    let path = if path.is_empty() { Path::new("/proc/self/exe") } else { Path::new(OsStr::from_bytes(path)) };
    let file = File::open(path).ok()?;
    // SAFETY: read as object reads every file.
    let bytes = unsafe { Mmap::map(&file) }.ok()?;
    let header = FileHeader64::<LE>::parse(&*bytes).ok()?;
    let sections = header.sections(LE, &*bytes).ok()?;
    let own = sections.iter().find_map(|section| {
        section.notes(LE, &*bytes).ok()??.next().ok()?.filter(|note| note.n_type(LE) == object::elf::NT_GNU_BUILD_ID)
    });
    let is_it = own.is_some_and(|note| note.desc() == build_id) && !build_id.is_empty();
    is_it.then_some(bytes)
}

/// Notes where in code at a linked address something known lies: what is looked up for it as a return address, as interrupted
/// code, and at its system call.
fn find(text: &[u8], address: u64, places: &mut Vec<u64>) {
    let trampolines = ARCH.signal_frame.trampolines.iter().map(|known| (known.bytes, u64::from(known.syscall)));
    let entries = ARCH.context_entries.iter().map(|bytes| (*bytes, 0));
    for (bytes, inside) in trampolines.chain(entries) {
        for at in memchr::memmem::find_iter(text, bytes) {
            let begins = address.wrapping_add(u64::try_from(at).unwrap_or(u64::MAX));
            places.extend([begins.wrapping_sub(1), begins, begins.wrapping_add(inside)]);
        }
    }
}
