//! The memory of a core: pieces that it holds, and pieces that proven files stand in for.

use super::is_readable;
use super::pages::Pages;
use crate::image::Image;
use crate::image::elf::Segment;
use crate::snapshot::{AddressSpace, Gap, Mapped};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use surestack_walk::{Error, Memory};

/// Memory as a list of pieces, ascending and not overlapping.
pub(super) struct CoreMemory {
    core: Pages,
    pieces: Vec<Piece>,
    absent: Vec<(u64, u64)>,
    /// Which pieces were read last, newest first: a walk goes to and fro between a stack and the code of its frames.
    recent: Cell<[usize; 2]>,
}

/// Some addresses and where their bytes are.
struct Piece {
    start: u64,
    end: u64,
    /// The file that has the bytes; the core itself when there is none.
    file: Option<Arc<Image>>,
    /// Offset of `start` in it.
    offset: u64,
}

impl CoreMemory {
    /// What the core's segments hold. Where two claim the same address, the lower one has it.
    pub fn new(core: Pages, loads: &[Segment]) -> Self {
        let size = core.size();
        let mut sorted: Vec<&Segment> = loads.iter().collect();
        sorted.sort_by_key(|load| load.address);
        let (mut pieces, mut absent, mut last) = (Vec::<Piece>::with_capacity(sorted.len()), vec![], 0u64);
        for load in sorted {
            let start = load.address.max(last);
            let end = load.address.saturating_add(load.memory_size);
            let held = load.file_size.min(load.memory_size).min(size.saturating_sub(load.offset));
            let held = load.address.saturating_add(held).max(start);
            let offset = load.offset.saturating_add(start.saturating_sub(load.address));
            if start < held {
                pieces.push(Piece { start, end: held, file: None, offset });
            }
            if held < end && is_readable(load) {
                absent.push((held, end));
            }
            last = last.max(end);
        }
        Self { core, pieces, absent, recent: Cell::default() }
    }

    /// How many bytes the core file has.
    pub fn core_size(&self) -> usize {
        usize::try_from(self.core.size()).unwrap_or(usize::MAX)
    }

    /// The end of the part of `[start, end)` that is here without a hole.
    pub fn held_until(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        while at < end
            && let Some(piece) = self.piece(at)
        {
            at = piece.end;
        }
        at.min(end)
    }

    /// Where the next piece at or above `address` begins.
    pub fn next_held(&self, address: u64) -> Option<u64> {
        if self.piece(address).is_some() {
            return Some(address);
        }
        let after = self.pieces.partition_point(|piece| piece.start <= address);
        self.pieces.get(after).map(|piece| piece.start)
    }

    /// Lets `file` stand in for absent memory: `stands` are ranges with the file offset of their first byte.
    pub fn stand_in(&mut self, stands: Vec<(u64, u64, u64, Arc<Image>)>) {
        let mut more = vec![];
        for (start, end, offset, image) in stands {
            let first = self.absent.partition_point(|&(_, absent_end)| absent_end <= start);
            let absent = self.absent.get(first..).unwrap_or_default();
            for &(low, high) in absent.iter().take_while(|&&(low, _)| low < end) {
                let (low, high) = (low.max(start), high.min(end));
                let offset = offset.saturating_add(low.saturating_sub(start));
                more.push(Piece { start: low, end: high, file: Some(image.clone()), offset });
            }
        }
        self.pieces.append(&mut more);
        self.pieces.sort_by_key(|piece| piece.start);
        // Two proven images can only overlap in a forged core; the first has it.
        let mut last = 0;
        self.pieces.retain(|piece| {
            let fits = piece.start >= last;
            last = last.max(piece.end);
            fits
        });
    }

    /// Memory that gcore did not even list.
    pub fn also_absent(&mut self, mapped: &Mapped) {
        let at = self.absent.partition_point(|&(start, _)| start < mapped.start);
        self.absent.insert(at, (mapped.start, mapped.end));
    }

    /// Says which absent memory nothing stands in for. Data files that a program only reads, and the kernel's pages
    /// below the vDSO, are left out of every core and missed by nobody.
    pub fn report_gaps(&self, space: &AddressSpace, vdso: Option<u64>, gaps: &mut Vec<Gap>) {
        let mut missing: Vec<(u64, u64)> = vec![];
        let (mut mappings, mut bytes) = (0usize, 0u64);
        let wrote_such = space.mappings.iter().any(|mapped| is_own(mapped) && self.piece(mapped.start).is_some());
        for &(start, end) in &self.absent {
            let whole =
                space.mapped(start).is_some_and(|mapped| is_own(mapped) && (mapped.start, mapped.end) == (start, end));
            if whole && wrote_such {
                mappings = mappings.saturating_add(1);
                bytes = bytes.saturating_add(end.saturating_sub(start));
                continue;
            }
            let mut at = start;
            while at < end {
                let until = self.held_until(at, end);
                if until > at {
                    at = until;
                    continue;
                }
                let until = self.next_held(at).unwrap_or(end).min(end);
                if is_missed(space, at, vdso) {
                    match missing.last_mut() {
                        Some(last) if last.1 == at => last.1 = until,
                        _ => missing.push((at, until)),
                    }
                }
                at = until;
            }
        }
        gaps.extend((mappings > 0).then_some(Gap::Unwritten { mappings, bytes }));
        gaps.extend(missing.into_iter().map(|(start, end)| Gap::Filtered { start, end }));
    }

    fn piece(&self, address: u64) -> Option<&Piece> {
        let holding = |at: usize| self.pieces.get(at).filter(|piece| piece.start <= address && address < piece.end);
        let [first, second] = self.recent.get();
        if let Some(piece) = holding(first) {
            return Some(piece);
        }
        let at = match holding(second) {
            Some(_) => second,
            None => self.pieces.partition_point(|piece| piece.start <= address).checked_sub(1)?,
        };
        let piece = holding(at)?;
        self.recent.set([at, first]);
        Some(piece)
    }
}

/// Whether it is a program's own memory, behind which there is no file.
fn is_own(mapped: &Mapped) -> bool {
    mapped.file.is_none() && mapped.writable == Some(true)
}

/// Whether memory at `address`, which is not there, could matter to a trace.
fn is_missed(space: &AddressSpace, address: u64, vdso: Option<u64>) -> bool {
    let Some(mapped) = space.mapped(address) else { return true };
    // A program may look into an ELF file, its own for example, without running it.
    let in_module = space.module(address).is_some_and(|(_, module)| {
        let mut mappings =
            space.mappings.iter().filter(|other| module.start <= other.start && other.start < module.end);
        mappings.any(|other| other.executable != Some(false))
    });
    match &mapped.file {
        Some(_) => in_module || mapped.writable != Some(false),
        None => {
            let kernel_page =
                vdso.is_some_and(|vdso| vdso.checked_sub(mapped.start).is_some_and(|gap| gap <= 0x1_0000));
            !(kernel_page && mapped.writable == Some(false) && mapped.executable == Some(false))
        }
    }
}

impl Memory for CoreMemory {
    fn next_held(&self, range: Range<u64>) -> Option<u64> {
        CoreMemory::next_held(self, range.start).filter(|at| range.contains(at))
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let unreadable = Error::Unreadable { address };
        let mut rest = into;
        let mut at = address;
        while !rest.is_empty() {
            let piece = self.piece(at).ok_or(unreadable)?;
            let room = usize::try_from(piece.end.saturating_sub(at)).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut_checked(room).ok_or(unreadable)?;
            let offset = piece.offset.saturating_add(at.saturating_sub(piece.start));
            match &piece.file {
                None if self.core.read(offset, now) => {}
                None => return Err(unreadable),
                Some(image) => {
                    let offset = usize::try_from(offset).map_err(|_| unreadable)?;
                    let source = image.bytes().get(offset..).unwrap_or_default();
                    let held = source.len().min(now.len());
                    let (from_file, behind) = now.split_at_mut_checked(held).ok_or(unreadable)?;
                    from_file.copy_from_slice(source.get(..held).ok_or(unreadable)?);
                    // The last page of a mapped file is filled up with zeros.
                    behind.fill(0);
                }
            }
            at = at.checked_add(u64::try_from(room).map_err(|_| unreadable)?).ok_or(unreadable)?;
            rest = later;
        }
        Ok(())
    }
}
