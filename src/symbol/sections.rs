//! The DWARF sections of one file, as borrowed bytes, each read when it is first asked for.

use super::store::Store;
use crate::image::Image;
use flate2::read::ZlibDecoder;
use gimli::{EndianSlice, LittleEndian, SectionId};
use std::cell::RefCell;
use std::io::Read;
use std::ops::Range;

pub(super) type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// The sections of one file.
pub(super) struct Sections<'s> {
    pub image: &'s Image,
    pub store: &'s Store,
    known: RefCell<Vec<(&'static str, &'s [u8])>>,
    unpacking: RefCell<Option<Unpacking<'s>>>,
}

/// `.debug_info` as far as it has been unpacked.
struct Unpacking<'s> {
    from: ZlibDecoder<&'s [u8]>,
    size: u64,
    bytes: Vec<u8>,
}

impl<'s> Sections<'s> {
    pub fn of(image: &'s Image, store: &'s Store) -> Self {
        let stream = image.zlib_section(SectionId::DebugInfo.name());
        let unpacking = stream.map(|(from, size)| Unpacking { from: ZlibDecoder::new(from), size, bytes: Vec::new() });
        Self { image, store, known: RefCell::default(), unpacking: RefCell::new(unpacking) }
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
        self.unpacking.borrow().is_some()
    }

    /// The unit of `.debug_info` that begins at `offset`, and no more of that section than comes before its end: a C
    /// library has megabytes of it, and compressed ones cost more time than everything else in a small report.
    pub fn unit(&self, offset: usize) -> Option<&'s [u8]> {
        let mut unpacking = self.unpacking.borrow_mut();
        let Some(info) = unpacking.as_mut() else {
            let bytes = self.bytes(SectionId::DebugInfo.name());
            return bytes.get(offset..)?.get(..unit_length(bytes.get(offset..)?)?);
        };
        let header = info.get(offset..offset.checked_add(12)?)?;
        let end = offset.checked_add(unit_length(header)?)?;
        let unit = info.get(offset..end)?.to_vec();
        Some(self.store.keep(unit))
    }
}

impl Unpacking<'_> {
    fn get(&mut self, range: Range<usize>) -> Option<&[u8]> {
        if u64::try_from(range.end).ok()? > self.size {
            return None;
        }
        if let Some(more) = range.end.checked_sub(self.bytes.len()) {
            (&mut self.from).take(u64::try_from(more).ok()?).read_to_end(&mut self.bytes).ok()?;
        }
        self.bytes.get(range)
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
