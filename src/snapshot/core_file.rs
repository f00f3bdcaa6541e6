//! Linux core files, x86_64 and aarch64, read on any host; plain or compressed with zstd.
//!
//! What the core does not hold is read from the files on disk only where those are proven to be what was mapped, and
//! only for segments that nobody can have written to. A core that is cut short or was filtered is read as far as it
//! goes, and says so in [`Snapshot::gaps`].

mod link_map;
mod memory;
mod modules;
mod notes;
mod pages;
mod zst;

use super::{AddressSpace, Gap, Mapped, Snapshot};
use crate::error::Error;
use crate::image::Find;
use crate::image::elf::{Headers, Segment, range};
use memory::CoreMemory;
use notes::{MappedFile, Notes};
use object::elf::{ET_CORE, PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE};
use pages::Pages;
use std::path::Path;
use surestack_walk::{Arch, Memory, ProbeKind};

/// Reads a core file.
///
/// # Errors
/// [`Error::NotCore`] when it is none, or of a machine that is not known; [`Error::Read`] when it cannot be opened;
/// [`Error::Compressed`] when it is compressed and does not decompress.
pub fn open(path: &Path, find: &Find) -> Result<Snapshot, Error> {
    let zst::Contents { map: bytes, file, cut } = zst::contents(path)?;
    let not_core = |why: &str| Error::NotCore { path: path.to_owned(), why: why.to_owned() };
    let headers = Headers::parse(&bytes).map_err(not_core)?;
    if headers.kind != ET_CORE {
        return Err(not_core("it is an ELF file of another kind, a program or library"));
    }
    let arch = Arch::of_machine(headers.machine).ok_or_else(|| {
        not_core(&format!("it is of a machine that is not supported (e_machine {})", headers.machine))
    })?;

    let mut gaps: Vec<Gap> = cut.map(|what| Gap::Damaged { what }).into_iter().collect();
    gaps.extend(truncation(&headers, bytes.len()));
    let mut notes = Notes::new(arch);
    for segment in headers.segments.iter().filter(|segment| segment.kind == PT_NOTE) {
        let whole = range(segment.offset, segment.file_size).unwrap_or(0..0);
        notes.read(bytes.get(whole.start..whole.end.min(bytes.len())).unwrap_or_default(), segment.align);
    }
    let notes = notes.finish(&mut gaps);

    let loads: Vec<Segment> = headers.segments.iter().filter(|segment| segment.kind == PT_LOAD).copied().collect();
    let (mappings, whole) = mappings(&loads, &notes.files);
    let mut space = AddressSpace {
        mappings,
        complete: whole && headers.announced == headers.segments.len(),
        ..AddressSpace::default()
    };
    space.main_stack = super::initial_stack::address_on_it(&notes.process);
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut memory = CoreMemory::new(Pages::new(file, size), &loads);
    space.mappings.iter().filter(|mapped| mapped.executable.is_none()).for_each(|mapped| memory.also_absent(mapped));
    for load in &loads {
        let mapped = space.mappings.iter_mut().find(|mapped| mapped.start == load.address && mapped.file.is_none());
        if let Some(mapped) = mapped.filter(|mapped| mapped.executable == Some(true)) {
            mapped.probe = probe(&memory, load);
        }
    }
    let find = Find { beside: path.parent().map(Path::to_owned), ..find.clone() };
    modules::load(arch, &notes, &find, &mut space, &mut memory);
    memory.report_gaps(&space, notes.process.aux(notes::AT_SYSINFO_EHDR), &mut gaps);

    let (process, threads, signed_bits) = (notes.process, notes.threads, notes.signed_bits);
    Ok(Snapshot { arch, process, threads, absent: vec![], space, memory: Box::new(memory), gaps, signed_bits })
}

/// Size of a page of the kernel's probes (x86_64).
const PAGE: u64 = 4096;

/// What of the file is missing, by its own headers.
fn truncation(headers: &Headers, found: usize) -> Option<Gap> {
    let found = u64::try_from(found).ok()?;
    let end = |segment: &Segment| segment.offset.saturating_add(segment.file_size);
    let expected = headers.segments.iter().filter(|segment| segment.file_size > 0).map(end).max().unwrap_or(0);
    let missing_headers = headers.announced.saturating_sub(headers.segments.len());
    if missing_headers > 0 {
        return Some(Gap::Damaged { what: format!("{missing_headers} of its program headers are missing") });
    }
    (expected > found).then_some(Gap::Truncated { expected, found })
}

/// The mappings, and whether they are all there were: a core by gdb's `gcore` leaves out what it does not dump.
fn mappings(loads: &[Segment], files: &[MappedFile]) -> (Vec<Mapped>, bool) {
    let flag = |load: &Segment, bit: u32| Some(load.flags & bit != 0);
    let mut mappings: Vec<Mapped> = vec![];
    let mut sorted: Vec<&Segment> = loads.iter().filter(|load| load.memory_size > 0).collect();
    sorted.sort_by_key(|load| load.address);
    for load in sorted {
        let start = load.address.max(mappings.last().map_or(0, |last| last.end));
        let end = load.address.saturating_add(load.memory_size);
        if start >= end {
            continue;
        }
        let file = MappedFile::covering(files, start);
        let file = file.map(|file| (file.path.clone(), file.offset.saturating_add(start.saturating_sub(file.start))));
        mappings.push(Mapped {
            start,
            end,
            executable: flag(load, PF_X),
            writable: flag(load, PF_W),
            file,
            probe: None,
        });
    }
    let listed = |file: &&MappedFile| {
        let after = mappings.partition_point(|mapped| mapped.start <= file.start);
        after.checked_sub(1).and_then(|at| mappings.get(at)).is_some_and(|mapped| file.start < mapped.end)
    };
    let unlisted: Vec<Mapped> = files.iter().filter(|file| !listed(file)).map(MappedFile::mapped).collect();
    let whole = unlisted.is_empty() && !mappings.is_empty();
    for extra in unlisted {
        let at = mappings.partition_point(|mapped| mapped.start < extra.start);
        let next = mappings.get(at).map_or(u64::MAX, |next| next.start);
        if extra.start < extra.end.min(next) {
            mappings.insert(at, Mapped { end: extra.end.min(next), ..extra });
        }
    }
    (mappings, whole)
}

/// What the kernel mapped a page without a file for: a core does not name it. Where its code was dumped that tells, but
/// Linux 6.18 cannot read these pages itself when it writes a core: it dumps them whole, and full of zeros. Then it is what
/// the program was allowed to do with the page that tells, and the step out of it looks for the call at the site.
fn probe(memory: &dyn Memory, load: &Segment) -> Option<ProbeKind> {
    let mut code = [0; 11];
    memory.read(load.address, &mut code).ok()?;
    match code {
        // push %rax; push %rcx; push %r11; mov $335, %rax (uretprobe)
        [0x50, 0x51, 0x41, 0x53, 0x48, 0xc7, 0xc0, 0x4f, 0x01, 0, 0] => Some(ProbeKind::Return),
        // push %rcx; push %r11; push %rax; mov $336, %rax (uprobe)
        [0x51, 0x41, 0x53, 0x50, 0x48, 0xc7, 0xc0, 0x50, 0x01, 0, 0] => Some(ProbeKind::Nop),
        _ if load.memory_size == PAGE && is_zero(memory, load) => match load.flags & (PF_R | PF_W | PF_X) {
            PF_X => Some(ProbeKind::Return),
            allowed if allowed == PF_R | PF_X => Some(ProbeKind::Nop),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a page was dumped, and full of zeros.
fn is_zero(memory: &dyn Memory, page: &Segment) -> bool {
    let mut bytes = [1; PAGE as usize];
    page.file_size == PAGE && memory.read(page.address, &mut bytes).is_ok() && bytes.iter().all(|byte| *byte == 0)
}

/// Whether a mapping could be read by the program at all.
fn is_readable(load: &Segment) -> bool {
    load.flags & (PF_R | PF_X) != 0
}
