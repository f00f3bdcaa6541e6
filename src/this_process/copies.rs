//! Copies of what unwinding needs of a module.

use libc::{Elf64_Phdr, PF_X, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ptr;
use surestack_module_map::Record;
use surestack_walk::{Section, UnwindSections};

/// How `.eh_frame_hdr` says where `.eh_frame` is, as every linker writes it: `DW_EH_PE_pcrel | DW_EH_PE_sdata4`.
const HERE: u8 = 0x1b;
const GNU_BUILD_ID: u32 = 3;
const PAGE: u64 = 4096;

/// Copies that were made. None is ever given back.
#[derive(Default)]
pub struct Copies {
    /// By their length: others of the same length differ early.
    made: HashMap<usize, Vec<Kept>>,
}

/// A copy. The same bytes are only copied once, and so known by their place.
#[derive(Clone, Copy)]
struct Kept(&'static [u8]);

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self.0, state);
    }
}

/// Of one module. Linked addresses.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Copied {
    low: u64,
    high: u64,
    hdr: Option<(u64, Kept)>,
    eh_frame: Option<(u64, Kept)>,
    /// Executable pages.
    code: Vec<(u64, u64)>,
    build_id: Kept,
}

impl Copies {
    /// What a module with these program headers has; `None` where nothing of it is mapped.
    ///
    /// # Safety
    /// The module is loaded with this bias, and stays so meanwhile.
    pub unsafe fn of(&mut self, bias: u64, headers: &[Elf64_Phdr]) -> Option<Copied> {
        let loads = || headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0);
        let end = |header: &Elf64_Phdr| header.p_vaddr.saturating_add(header.p_memsz);
        let low = loads().map(|header| header.p_vaddr).min()?;
        let high = loads().map(end).max()?;
        // What is not written to is as long in memory as in the file.
        let mapped = |address: u64, size: u64| {
            let holds = |header: &Elf64_Phdr| {
                let end = header.p_vaddr.saturating_add(header.p_filesz);
                header.p_vaddr <= address && address.checked_add(size).is_some_and(|last| last <= end)
            };
            let start = loads().any(holds).then(|| usize::try_from(bias.wrapping_add(address)).ok()).flatten()?;
            let size = usize::try_from(size).ok()?;
            // SAFETY: the range lies in a segment that is mapped from its file, as the caller promises.
            Some(unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(start), size) })
        };
        let header = headers.iter().find(|header| header.p_type == PT_GNU_EH_FRAME);
        let hdr = header.and_then(|header| Some((header.p_vaddr, mapped(header.p_vaddr, header.p_memsz)?)));
        let eh_frame = hdr.and_then(|(address, bytes)| {
            let start = eh_frame_address(address, bytes)?;
            let segment = loads().find(|header| header.p_vaddr <= start && start < end(header))?;
            let room = segment.p_vaddr.saturating_add(segment.p_filesz).checked_sub(start)?;
            let bytes = mapped(start, room)?;
            Some((start, bytes.get(..length(bytes))?))
        });
        let notes = headers.iter().filter(|header| header.p_type == PT_NOTE);
        let build_id = notes.filter_map(|note| build_id(mapped(note.p_vaddr, note.p_filesz)?)).next().unwrap_or(&[]);
        // Whole pages are mapped.
        let pages = |header: &Elf64_Phdr| {
            (header.p_vaddr & !(PAGE - 1), end(header).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX))
        };
        let code = loads().filter(|header| header.p_flags & PF_X != 0).map(pages);
        Some(Copied {
            low,
            high,
            code: code.collect(),
            hdr: hdr.map(|(address, bytes)| (address, self.copy(bytes))),
            eh_frame: eh_frame.map(|(address, bytes)| (address, self.copy(bytes))),
            build_id: self.copy(build_id),
        })
    }

    fn copy(&mut self, bytes: &[u8]) -> Kept {
        let alike = self.made.entry(bytes.len()).or_default();
        if let Some(made) = alike.iter().find(|made| made.0 == bytes) {
            return *made;
        }
        let made = Kept(Box::leak(bytes.to_vec().into_boxed_slice()));
        alike.push(made);
        made
    }
}

impl Copied {
    /// The module's build ID; empty where it has none.
    pub fn build_id(&self) -> &'static [u8] {
        self.build_id.0
    }

    /// The record of the module loaded with this bias, without its symbols.
    pub fn record(&self, bias: u64, path: &'static [u8]) -> Record {
        let section = |copied: Option<(u64, Kept)>| copied.map(|(address, Kept(bytes))| Section { address, bytes });
        let at = |linked: u64| linked.wrapping_add(bias);
        let code: Vec<(u64, u64)> = self.code.iter().map(|&(start, end)| (at(start), at(end))).collect();
        Record {
            start: at(self.low),
            end: at(self.high),
            bias,
            unwind: UnwindSections {
                eh_frame_hdr: section(self.hdr),
                eh_frame: section(self.eh_frame),
                ..UnwindSections::default()
            },
            code: Box::leak(code.into_boxed_slice()),
            path,
            build_id: self.build_id.0,
            symbols: None,
            table: None,
        }
    }
}

/// Where `.eh_frame` is, as `.eh_frame_hdr` at `address` says (Linux Standard Base, 10.6.2).
fn eh_frame_address(address: u64, hdr: &[u8]) -> Option<u64> {
    let (&[version, encoding, ..], pointer) = hdr.split_first_chunk::<4>()?;
    let distance = i32::from_le_bytes(*pointer.first_chunk()?);
    (version == 1 && encoding == HERE).then(|| address.wrapping_add(4).wrapping_add_signed(i64::from(distance)))
}

/// How long `.eh_frame` is, with the zero that ends it.
fn length(bytes: &[u8]) -> usize {
    let mut at = 0usize;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        at = at.saturating_add(4);
        let long = || bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|word| u64::from_le_bytes(*word));
        match u32::from_le_bytes(*word) {
            0 => return at,
            u32::MAX => match long().and_then(|long| usize::try_from(long).ok()) {
                Some(long) => at = at.saturating_add(8).saturating_add(long),
                None => break,
            },
            short => at = at.saturating_add(usize::try_from(short).unwrap_or(usize::MAX)),
        }
    }
    bytes.len()
}

/// The build ID among notes.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    while let Some((header, rest)) = notes.split_first_chunk::<12>() {
        let word = |at: usize| header.get(at..)?.first_chunk::<4>().map(|word| u32::from_le_bytes(*word));
        let padded = |length: u32| usize::try_from(length).ok()?.checked_next_multiple_of(4);
        let (name, kind) = (word(0)?, word(8)?);
        let size = usize::try_from(word(4)?).ok()?;
        let (owner, rest) = rest.split_at_checked(padded(name)?)?;
        if kind == GNU_BUILD_ID && owner == b"GNU\0" {
            return rest.get(..size);
        }
        notes = rest.get(padded(word(4)?)?..)?;
    }
    None
}
