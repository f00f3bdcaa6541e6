//! Whether code is what its file has, and what it was before probes were planted in it.
//!
//! ```text
//!   file      55 | 48 89 e5 | 0f 1f 44 00 00 | c3
//!   memory    cc | 48 89 e5 | e8 .. .. .. .. | c3      a breakpoint or uprobe; a uprobe that became a call
//! ```

use super::FileEvidence;
use crate::image::{Image, own_vdso};
use crate::snapshot::{AddressSpace, Identity, LoadedModule, Mapped};
use iced_x86::{Decoder, DecoderOptions};
use std::ops::Range;
use surestack_walk::{CodeAddress, Error, Memory, Modules, ProbeKind, Proof, X86_64};

const INT3: u8 = 0xcc;
const CALL: u8 = 0xe8;
/// The one form of a five-byte `nop` over which the kernel writes a call (`x86_nops[5]`).
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// What is compared where nothing says where functions begin.
const PAGE: u64 = 4096;
/// Most bytes compared at once.
const MOST: u64 = 16 << 20;

/// A target's memory with its code as it was before probes were planted.
///
/// Only what a probe leaves is taken back, and only where the file is proven to be the one that is mapped: code that
/// somebody changed for good (a live patch) is what will run, and reads as it is.
#[derive(Clone, Copy)]
pub struct Unprobed<'s> {
    memory: &'s dyn Memory,
    space: Option<&'s AddressSpace>,
}

impl<'s> Unprobed<'s> {
    /// The memory of a target whose modules are those of `space`.
    pub fn new(memory: &'s dyn Memory, space: Option<&'s AddressSpace>) -> Self {
        Self { memory, space }
    }
}

impl Memory for Unprobed<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.memory.read(address, into)?;
        let Some((module, image)) = self.space.and_then(|space| proven(space, address)) else { return Ok(()) };
        let linked = address.wrapping_sub(module.bias);
        let Some(file) = image.at(linked, into.len()).filter(|file| *file != into) else { return Ok(()) };
        if image.is_writable(linked) || image.machine() != X86_64.machine {
            return Ok(());
        }
        let calls: Vec<Range<usize>> = overwritten_nops(self.space, self.memory, (module, image), address, into.len());
        for (index, (byte, original)) in into.iter_mut().zip(file).enumerate() {
            if *byte == INT3 || calls.iter().any(|call| call.contains(&index)) {
                *byte = *original;
            }
        }
        Ok(())
    }
}

/// The five-byte nops of the file that are calls into no module, or on the way to become one, as ranges of `length` bytes
/// at `address`.
fn overwritten_nops(
    space: Option<&AddressSpace>,
    memory: &dyn Memory,
    (module, image): (&LoadedModule, &Image),
    address: u64,
    length: usize,
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let Ok(size) = u64::try_from(length) else { return found };
    for at in address.saturating_sub(4)..address.saturating_add(size) {
        if image.at(at.wrapping_sub(module.bias), NOP5.len()) != Some(&NOP5) {
            continue;
        }
        let mut now = NOP5;
        if memory.read(at, &mut now).is_err() || !is_probe_call(space, at, now) {
            continue;
        }
        let into = |at: u64| usize::try_from(at.saturating_sub(address)).unwrap_or(length).min(length);
        found.push(into(at)..into(at.saturating_add(5)));
    }
    found
}

/// Whether these bytes, in place of a five-byte nop, are a probe: a call of the kernel's page. While the kernel writes them,
/// the first is a breakpoint.
fn is_probe_call(space: Option<&AddressSpace>, at: u64, [first, rest @ ..]: [u8; 5]) -> bool {
    let target = at.wrapping_add(5).wrapping_add_signed(i64::from(i32::from_le_bytes(rest)));
    let page = || space.and_then(|space| space.probe(target));
    let is_page = || page().is_some_and(|page| page.kind == ProbeKind::Nop && page.start == target);
    match first {
        CALL => is_page(),
        INT3 => rest == NOP5[1..] || is_page(),
        _ => false,
    }
}

/// The module at `address` and its file, where that is proven to be what is mapped.
fn proven(space: &AddressSpace, address: u64) -> Option<(&LoadedModule, &Image)> {
    let (_, module) = space.module(address)?;
    let same = matches!(module.identity, Identity::Mapped | Identity::BuildId | Identity::Bytes { .. });
    Some((module, module.image.as_deref().filter(|_| same)?))
}

impl<'s> FileEvidence<'s> {
    /// The module at `address` by its number, and its file, where that is proven to be what is mapped.
    pub(super) fn image(&self, address: u64) -> Option<(usize, &'s LoadedModule, &'s Image)> {
        let space = self.space?;
        let (module, image) = proven(space, address)?;
        Some((space.module(address)?.0, module, image))
    }

    /// Whether the function at `pc` has the bytes of its file, recognised probes aside.
    ///
    /// A core need not hold the bytes: the kernel leaves out the pages of a file that nobody wrote to, and writes out a
    /// mapping whole once anybody has. What is read from the file in its place is then what was there.
    pub(super) fn unchanged(&self, pc: CodeAddress) -> Proof {
        *self.answers.unchanged.borrow_mut().get_or_find(pc, || self.function_unchanged(pc.lookup()))
    }

    fn function_unchanged(&self, address: u64) -> Proof {
        let function = self.function(address);
        let page = address & !(PAGE - 1);
        let (start, end) = function.unwrap_or((page, page.saturating_add(PAGE)));
        let mut texts = self.answers.texts.borrow_mut();
        *texts.get_or_find(start, || self.compared(start, end, function.is_some()).unwrap_or(Proof::Unknown))
    }

    fn compared(&self, start: u64, end: u64, is_function: bool) -> Option<Proof> {
        let space = self.space?;
        if let Some(proof) = self.vdso(start) {
            return Some(proof);
        }
        let (module, image) = proven(space, start)?;
        // The last page of a segment may hold the beginning of another.
        let held = |segment: &&crate::image::Segment| segment.kind == object::elf::PT_LOAD;
        let linked = start.wrapping_sub(module.bias);
        let segments = image.segments().iter().filter(held);
        let last =
            segments.map(|segment| segment.address.saturating_add(segment.file_size)).find(|last| linked < *last)?;
        let end = end.min(last.wrapping_add(module.bias));
        let length = usize::try_from(end.checked_sub(start).filter(|length| *length <= MOST)?).ok()?;
        if image.is_writable(linked) || image.has_text_relocations() {
            return None;
        }
        let file = image.at(linked, length)?;
        let mut now = vec![0; length];
        self.memory.read(start, &mut now).ok()?;
        if now == file {
            return Some(Proof::Proven);
        }
        let explained = if is_function { explained(space, start, &now, file) } else { only_breakpoints(&now, file) };
        match explained {
            true if is_function => Some(Proof::Proven),
            // Where no function begins nobody knows where instructions do.
            true => None,
            false => Some(Proof::Refuted),
        }
    }

    /// Whether the code at `address` is the vDSO's, which the kernel maps: a live one has our own bytes.
    fn vdso(&self, address: u64) -> Option<Proof> {
        let space = self.space?;
        let (_, module) = space.module(address).filter(|(_, module)| Some(module.start) == self.vdso)?;
        let ours_to_write = |mapped: &Mapped| mapped.writable != Some(true) && mapped.file.is_none();
        if !space.mapped(module.start).is_some_and(ours_to_write) {
            return None;
        }
        // A core has its own copy, of a kernel that need not be ours.
        let live = space.modules.iter().any(|module| module.identity == Identity::Mapped);
        if !live {
            return Some(Proof::Proven);
        }
        let ours = own_vdso()?;
        let mut theirs = vec![0; ours.len()];
        self.memory.read(module.start, &mut theirs).ok()?;
        Some(if theirs == ours || explained(space, module.start, &theirs, ours) {
            Proof::Proven
        } else {
            Proof::Refuted
        })
    }
}

/// Whether probes explain every difference of the code at `start` from its file.
fn explained(space: &AddressSpace, start: u64, now: &[u8], file: &[u8]) -> bool {
    let mut decoder = Decoder::with_ip(64, file, start, DecoderOptions::NONE);
    while decoder.can_decode() {
        let at = decoder.position();
        let instruction = decoder.decode();
        let range = at..at.saturating_add(instruction.len());
        let (Some(now), Some(file)) = (now.get(range.clone()), file.get(range)) else { return false };
        let breakpoint = || now.first() == Some(&INT3) && file.first() != Some(&INT3) && now.get(1..) == file.get(1..);
        let call = || {
            let now: Option<&[u8; 5]> = now.try_into().ok().filter(|_| file == NOP5);
            now.is_some_and(|now| is_probe_call(Some(space), instruction.ip(), *now))
        };
        if now != file && !breakpoint() && !call() {
            return false;
        }
    }
    true
}

/// Whether every byte that differs is a breakpoint now.
fn only_breakpoints(now: &[u8], file: &[u8]) -> bool {
    now.iter().zip(file).all(|(now, file)| now == file || *now == INT3)
}
