//! The modules of a core: which there are, what files they are, and what those files can stand in for.

use super::link_map;
use super::memory::CoreMemory;
use super::notes::{AT_SYSINFO_EHDR, Notes};
use crate::image::elf::Headers;
use crate::image::find::{Differs, Wanted};
use crate::image::{BuildId, Find, Image, Segment};
use crate::snapshot::placement::{PAGE, Placement};
use crate::snapshot::{AddressSpace, Identity, LoadedModule};
use object::elf::{DT_DEBUG, ET_DYN, ET_EXEC, PF_W, PF_X, PT_DYNAMIC, PT_LOAD, PT_NOTE};
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use surestack_walk::{Arch, Memory};

/// Auxiliary vector: the entry point of the program.
const AT_ENTRY: u64 = 9;
/// Largest vDSO and largest single note segment that are read.
const SMALL: u64 = 1 << 20;

/// A module that was found in memory, its file not yet looked for.
pub(super) struct Found {
    pub placement: Placement,
    pub path: PathBuf,
    /// Its program headers as mapped; empty when the core does not hold them.
    pub segments: Vec<Segment>,
}

impl Found {
    /// Where it lies if `image` is its file; the core may not hold the headers that say so.
    fn placed(&self, image: &Image) -> Placement {
        if !self.segments.is_empty() {
            return self.placement;
        }
        Placement::at_base(image.segments(), self.placement.start).unwrap_or(self.placement)
    }
}

/// Fills in `space.modules`, and lets proven files stand in for memory that the core does not hold.
pub(super) fn load(arch: &'static Arch, notes: &Notes, find: &Find, space: &mut AddressSpace, memory: &mut CoreMemory) {
    let mut found = from_files(notes, space, memory);
    if notes.files.is_empty() {
        found = link_map::modules(notes, find, memory);
    }
    found.sort_by_key(|module| module.placement.start);
    let entry = notes.process.aux(AT_ENTRY);
    // All images made from memory together hold no more than the core does.
    let mut budget = memory.core_size();

    let mut stands = vec![];
    for mut module in found {
        let last = space.modules.last().map_or(0, |last| last.end);
        if module.placement.start < last {
            continue;
        }
        let Placement { start, end, .. } = module.placement;
        let build_id = build_id(memory, &module);
        let named = entry.filter(|&entry| start <= entry && entry < end).and(find.exe.as_deref());
        let same_bytes = |image: &Image| compare(memory, &module, image);
        let wanted = Wanted {
            path: &module.path,
            named,
            machine: arch.machine,
            build_id: build_id.as_ref(),
            same_bytes: &same_bytes,
        };
        let (file, mut identity) = find.image(&wanted);
        let image = match file {
            Some(file) => {
                let file = Arc::new(file);
                module.placement = module.placed(&file);
                stands.extend(stand_ins(space, &module, &file));
                Some(file)
            }
            None => from_memory(memory, &module, &mut budget).map(|image| {
                if !matches!(identity, Identity::Replaced { .. }) {
                    identity = Identity::Memory;
                }
                Arc::new(image)
            }),
        };
        let debug = image.as_ref().and_then(|image| find.debug_file(image, &module.path)).map(Arc::new);
        let Found { path, placement: Placement { bias, start, end }, .. } = module;
        space.modules.push(LoadedModule { start, end, bias, path, build_id, image, debug, identity });
    }
    if let Some(vdso) = vdso(notes, space, memory) {
        let at = space.modules.partition_point(|module| module.start < vdso.start);
        space.modules.insert(at, vdso);
    }
    memory.stand_in(stands);
}

/// Modules by NT_FILE: a file mapped from its beginning, with ELF headers or at least code in it.
fn from_files(notes: &Notes, space: &AddressSpace, memory: &CoreMemory) -> Vec<Found> {
    let code = |mapped: &&super::Mapped| mapped.executable != Some(false);
    let paths = space.mappings.iter().filter(code).filter_map(|mapped| mapped.file.as_ref());
    let with_code: HashSet<&Path> = paths.map(|(path, _)| path.as_path()).collect();
    let mut found: Vec<Found> = vec![];
    for file in notes.files.iter().filter(|file| file.offset == 0 && with_code.contains(file.path.as_path())) {
        // Small files have their first page mapped more than once.
        if found.last().is_some_and(|last| file.start < last.placement.end) {
            continue;
        }
        let headers = headers_at(memory, file.start);
        let segments = headers.map(|headers| headers.segments).unwrap_or_default();
        let placement = Placement::at_base(&segments, file.start).or_else(|| {
            let same = |other: &&super::MappedFile| other.path == file.path && other.start >= file.start;
            let first = notes.files.partition_point(|other| other.start < file.start);
            let rest = notes.files.get(first..).unwrap_or_default();
            let end = rest.iter().take_while(same).map(|other| other.end).max()?;
            Some(Placement { bias: file.start, start: file.start, end })
        });
        if let Some(placement) = placement {
            found.push(Found { placement, path: file.path.clone(), segments });
        }
    }
    found
}

/// The ELF headers of a program or library that is mapped at `base`, as far as they lie in its first page.
pub(super) fn headers_at(memory: &CoreMemory, base: u64) -> Option<Headers> {
    let bytes = read_some(memory, base, PAGE)?;
    Headers::parse(&bytes).ok().filter(|headers| headers.kind == ET_DYN || headers.kind == ET_EXEC)
}

/// Up to `most` bytes from `address`, as far as they are there.
pub(super) fn read_some(memory: &CoreMemory, address: u64, most: u64) -> Option<Vec<u8>> {
    let end = memory.held_until(address, address.checked_add(most)?);
    let mut bytes = vec![0; usize::try_from(end.checked_sub(address)?).ok()?];
    memory.read(address, &mut bytes).ok()?;
    Some(bytes)
}

/// The build ID in the target's memory.
fn build_id(memory: &CoreMemory, module: &Found) -> Option<BuildId> {
    let notes = module.segments.iter().filter(|segment| segment.kind == PT_NOTE);
    notes.into_iter().find_map(|note| {
        let at = module.placement.bias.wrapping_add(note.address);
        BuildId::in_notes(&read_some(memory, at, note.file_size.min(SMALL))?, note.align)
    })
}

/// How many bytes of the file's read-only segments the core holds, all of them the same. Where it holds none, its
/// dynamic section has to do: sizes and addresses of nearly everything that a linker lays out.
fn compare(memory: &CoreMemory, module: &Found, image: &Image) -> Result<u64, Differs> {
    let (bias, mut compared) = (module.placed(image).bias, 0u64);
    if !module.segments.is_empty() && module.segments != image.segments() {
        return Err(Differs);
    }
    if image.has_text_relocations() {
        return Ok(0);
    }
    for segment in image.segments().iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_W == 0) {
        let start = bias.wrapping_add(segment.address);
        for (low, high) in held(memory, start, start.saturating_add(segment.file_size)) {
            let (Some(ours), Some(length)) = (read_some(memory, low, high - low), usize::try_from(high - low).ok())
            else {
                continue;
            };
            if image.at(low.wrapping_sub(bias), length) != Some(ours.as_slice()) {
                return Err(Differs);
            }
            compared = compared.saturating_add(high - low);
        }
    }
    if compared == 0 { compare_dynamic(memory, image, bias) } else { Ok(compared) }
}

/// How many bytes of the dynamic section are the same in memory, the bias added where the loader adds it.
fn compare_dynamic(memory: &CoreMemory, image: &Image, bias: u64) -> Result<u64, Differs> {
    let Some(section) = image.segments().iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Ok(0) };
    let mut compared = 0u64;
    let mut at = bias.wrapping_add(section.address);
    for (tag, value) in image.dynamic() {
        let (Ok(their_tag), Ok(their_value)) = (memory.word(at), memory.word(at.wrapping_add(8))) else {
            return Ok(compared);
        };
        // DT_DEBUG is the loader's to fill in.
        let same = their_value == value || their_value == value.wrapping_add(bias);
        if their_tag != tag || !same && i64::try_from(tag) != Ok(DT_DEBUG) {
            return Err(Differs);
        }
        compared = compared.saturating_add(16);
        at = at.wrapping_add(16);
    }
    Ok(compared)
}

/// The parts of a range that the core holds, in pieces of at most a megabyte.
fn held(memory: &CoreMemory, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut at = start;
    std::iter::from_fn(move || {
        let low = memory.next_held(at).filter(|&low| low < end)?;
        let high = memory.held_until(low, end.min(low.saturating_add(SMALL)));
        at = high;
        (low < high).then_some((low, high))
    })
}

/// Which addresses a proven file can stand in for: pages of segments that nobody can have written to, where the
/// target has that very file mapped.
fn stand_ins(space: &AddressSpace, module: &Found, image: &Arc<Image>) -> Vec<(u64, u64, u64, Arc<Image>)> {
    if image.has_text_relocations() {
        return vec![];
    }
    let mut stands = vec![];
    let bias = module.placement.bias;
    for segment in image.segments().iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_W == 0) {
        let into_page = segment.address % PAGE;
        let low = bias.wrapping_add(segment.address.wrapping_sub(into_page));
        let Some(offset) = segment.offset.checked_sub(into_page) else { continue };
        let end = segment.file_size.checked_add(into_page).and_then(|size| size.checked_next_multiple_of(PAGE));
        let Some(high) = end.and_then(|size| low.checked_add(size)) else { continue };
        let first = space.mappings.partition_point(|mapped| mapped.end <= low);
        let mappings = space.mappings.get(first..).unwrap_or_default().iter();
        for mapped in mappings.take_while(|mapped| mapped.start < high) {
            let ours = mapped.file.as_ref().is_none_or(|(path, _)| *path == module.path);
            let (start, end) = (mapped.start.max(low), mapped.end.min(high));
            if ours && mapped.writable != Some(true) && start < end {
                stands.push((start, end, offset.saturating_add(start - low), image.clone()));
            }
        }
    }
    stands
}

/// An image of what the core holds of a module's read-only segments, if there is code among it.
fn from_memory(memory: &CoreMemory, module: &Found, budget: &mut usize) -> Option<Image> {
    let mut parts: Vec<(u64, Range<usize>)> = vec![];
    let mut any_code = false;
    for segment in module.segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_W == 0) {
        let start = module.placement.bias.wrapping_add(segment.address);
        for (low, high) in held(memory, start, start.saturating_add(segment.file_size)) {
            let offset = usize::try_from(segment.offset.checked_add(low.checked_sub(start)?)?).ok()?;
            let end = offset.checked_add(usize::try_from(high - low).ok()?)?;
            any_code |= segment.flags & PF_X != 0;
            parts.push((low, offset..end));
        }
    }
    parts.sort_by_key(|(_, range)| range.start);
    let size = parts.iter().map(|(_, range)| range.end).max().filter(|_| any_code)?;
    *budget = budget.checked_sub(size)?;
    let mut bytes = vec![0; size];
    let mut known: Vec<Range<usize>> = vec![];
    for (address, range) in parts {
        memory.read(address, bytes.get_mut(range.clone())?).ok()?;
        match known.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => known.push(range),
        }
    }
    Image::from_parts(bytes, known, "memory of the core").ok()
}

/// The vDSO, from the core's own bytes.
fn vdso(notes: &Notes, space: &AddressSpace, memory: &CoreMemory) -> Option<LoadedModule> {
    let base = notes.process.aux(AT_SYSINFO_EHDR).filter(|&base| base != 0 && space.module(base).is_none())?;
    let mapped = space.mapped(base)?;
    let bytes = read_some(memory, base, mapped.end.checked_sub(base)?.min(SMALL))?;
    let image = Image::from_bytes(bytes, "[vdso]").ok()?;
    let Placement { bias, start, end } = Placement::at_base(image.segments(), base)?;
    Some(LoadedModule {
        start,
        end,
        bias,
        path: PathBuf::from("[vdso]"),
        build_id: image.build_id(),
        image: Some(Arc::new(image)),
        debug: None,
        identity: Identity::Memory,
    })
}
