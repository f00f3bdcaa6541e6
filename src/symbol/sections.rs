//! The DWARF sections of one file, as borrowed bytes, each read when it is first asked for.

use super::store::Store;
use crate::image::Image;
use flate2::read::ZlibDecoder;
use gimli::{EndianSlice, LittleEndian, SectionId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

pub(super) type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// The sections of one file.
pub(super) struct Sections<'s> {
    pub image: &'s Image,
    pub store: &'s Store,
    known: RefCell<Vec<(&'static str, &'s [u8])>>,
    unpacking: RefCell<HashMap<&'static str, Unpacking<'s>>>,
}

/// A section as far as it has been unpacked.
struct Unpacking<'s> {
    from: ZlibDecoder<&'s [u8]>,
    size: u64,
    bytes: Vec<u8>,
    /// What was lent of it.
    lent: &'s [u8],
}

/// Sections of which only what lies before what is needed is unpacked. In a C library they are megabytes, and unpacking
/// costs more time than everything else in a small report.
const BY_PARTS: [SectionId; 3] = [SectionId::DebugInfo, SectionId::DebugAbbrev, SectionId::DebugLine];
/// What is lent of such a section at the least.
const LENT: usize = 32 << 10;

impl<'s> Sections<'s> {
    pub fn of(image: &'s Image, store: &'s Store) -> Self {
        let unpacking = BY_PARTS.into_iter().filter_map(|id| {
            let (from, size) = image.zlib_section(id.name())?;
            Some((id.name(), Unpacking { from: ZlibDecoder::new(from), size, bytes: Vec::new(), lent: &[] }))
        });
        let unpacking = RefCell::new(unpacking.collect());
        Self { image, store, known: RefCell::default(), unpacking }
    }

    /// The bytes of a section, those of one that is missing being none.
    pub fn bytes(&self, name: &'static str) -> &'s [u8] {
        if let Some(&(_, bytes)) = self.known.borrow().iter().find(|(known, _)| *known == name) {
            return bytes;
        }
        let bytes = match self.image.section(name) {
            None => &[],
            Some(std::borrow::Cow::Borrowed(bytes)) => bytes,
            Some(std::borrow::Cow::Owned(bytes)) => self.store.keep(bytes),
        };
        self.known.borrow_mut().push((name, bytes));
        bytes
    }

    /// A section that names and lines are made from; the others are not worth unpacking.
    pub fn needed(&self, id: SectionId) -> Slice<'s> {
        self.needed_as(id, id.name())
    }

    /// The same in a file of split debug information.
    pub fn needed_split(&self, id: SectionId) -> Slice<'s> {
        id.dwo_name().map_or(Slice::default(), |name| self.needed_as(id, name))
    }

    fn needed_as(&self, id: SectionId, name: &'static str) -> Slice<'s> {
        use SectionId as Id;
        let needed = matches!(
            id,
            Id::DebugAbbrev
                | Id::DebugAddr
                | Id::DebugInfo
                | Id::DebugLine
                | Id::DebugLineStr
                | Id::DebugRanges
                | Id::DebugRngLists
                | Id::DebugStr
                | Id::DebugStrOffsets
                | Id::DebugCuIndex
                | Id::DebugTuIndex
        );
        Slice::new(if needed { self.bytes(name) } else { &[] }, LittleEndian)
    }

    /// Whether `.debug_info` is unpacked as far as it is needed, and its units are looked at one by one.
    pub fn is_unpacked_by_parts(&self) -> bool {
        self.unpacking.borrow().contains_key(SectionId::DebugInfo.name())
    }

    /// The unit of `.debug_info` that begins at `offset`, and no more of that section than comes before its end.
    pub fn unit(&self, offset: usize) -> Option<&'s [u8]> {
        let mut unpacking = self.unpacking.borrow_mut();
        let Some(info) = unpacking.get_mut(SectionId::DebugInfo.name()) else {
            let bytes = self.bytes(SectionId::DebugInfo.name());
            return bytes.get(offset..)?.get(..unit_length(bytes.get(offset..)?)?);
        };
        let end = info.end_of_unit(offset)?;
        let unit = info.get(offset..end)?.to_vec();
        Some(self.store.keep(unit))
    }

    /// `.debug_line` up to the end of the program that begins at `offset`; more of it where that costs nothing.
    pub fn lines_with(&self, offset: usize) -> Option<Slice<'s>> {
        let name = SectionId::DebugLine.name();
        let mut unpacking = self.unpacking.borrow_mut();
        let Some(lines) = unpacking.get_mut(name) else { return Some(Slice::new(self.bytes(name), LittleEndian)) };
        let end = lines.end_of_unit(offset)?;
        lines.lend(end, self.store)
    }

    /// `.debug_abbrev` up to `end`, or all of it; more where that costs nothing.
    pub fn abbreviations_before(&self, end: usize) -> Option<Slice<'s>> {
        let name = SectionId::DebugAbbrev.name();
        let mut unpacking = self.unpacking.borrow_mut();
        match unpacking.get_mut(name) {
            Some(table) => table.lend(end, self.store),
            None => Some(Slice::new(self.bytes(name), LittleEndian)),
        }
    }
}

impl<'s> Unpacking<'s> {
    fn get(&mut self, range: Range<usize>) -> Option<&[u8]> {
        if u64::try_from(range.end).ok()? > self.size {
            return None;
        }
        if let Some(more) = range.end.checked_sub(self.bytes.len()) {
            (&mut self.from).take(u64::try_from(more).ok()?).read_to_end(&mut self.bytes).ok()?;
        }
        self.bytes.get(range)
    }

    /// Where what begins with its length at `offset` ends.
    fn end_of_unit(&mut self, offset: usize) -> Option<usize> {
        let header = self.get(offset..offset.checked_add(12)?)?;
        offset.checked_add(unit_length(header)?)
    }

    /// The section up to `end`. At least twice as much is kept as the time before: all that is ever kept is no more than
    /// twice the section.
    fn lend(&mut self, end: usize, store: &'s Store) -> Option<Slice<'s>> {
        if end > self.lent.len() {
            let all = usize::try_from(self.size).ok()?;
            let end = end.max(self.lent.len().saturating_mul(2)).max(LENT).min(all);
            self.lent = store.keep(self.get(0..end)?.to_vec());
        }
        Some(Slice::new(self.lent, LittleEndian))
    }
}

/// Length of the unit whose header is at the start of `bytes`, the length field included.
fn unit_length(bytes: &[u8]) -> Option<usize> {
    const DWARF64: u32 = 0xffff_ffff;
    match u32::from_le_bytes(*bytes.first_chunk()?) {
        DWARF64 => {
            let length = u64::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
            usize::try_from(length).ok()?.checked_add(12)
        }
        length => usize::try_from(length).ok()?.checked_add(4),
    }
}
