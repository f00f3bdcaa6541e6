//! Where an image's unwind information lies, by program headers first and by section names where those say nothing.

use super::elf::{self, Headers, Segment};
use super::{Contents, Image, scan, search_table, section};
use object::LittleEndian as LE;
use object::elf::{PF_W, PT_GNU_EH_FRAME, PT_LOAD, SHF_COMPRESSED};
use std::ops::Range;
use std::sync::OnceLock;
use surestack_walk::{AARCH64, Section, UnwindSections};

/// Ranges of the file, found when it is opened, and what is made of them later.
#[derive(Debug, Default)]
pub(super) struct Places {
    eh_frame_hdr: Option<Place>,
    eh_frame: Option<Place>,
    debug_frame: Option<Place>,
    debug_frame_compressed: bool,
    text: Option<u64>,
    got: Option<u64>,
    /// A copy of `.eh_frame` without letters that keep its entries from being read; none where it has no such.
    made_eh_frame: OnceLock<Option<Vec<u8>>>,
    made_hdr: OnceLock<Option<Vec<u8>>>,
    made_debug_frame: OnceLock<Option<Vec<u8>>>,
    made_debug_frame_hdr: OnceLock<Option<Vec<u8>>>,
}

/// Bytes of the file with their linked address.
#[derive(Clone, Debug)]
struct Place {
    address: u64,
    range: Range<usize>,
}

impl Places {
    pub fn find(contents: &Contents, headers: &Headers) -> Self {
        let bytes = contents.all();
        let named = |name: &str| {
            let section = headers.section(bytes, name)?;
            let range = elf::file_range(section)?;
            contents.get(range.clone())?;
            Some((Place { address: section.sh_addr.get(LE), range }, section.sh_flags.get(LE)))
        };
        let address = |name: &str| headers.section(bytes, name).map(|section| section.sh_addr.get(LE));
        let place = |name: &str| named(name).map(|(place, _)| place);

        let eh_frame_hdr = headers.segment(PT_GNU_EH_FRAME).and_then(|segment| of_segment(contents, segment));
        // A section header may claim anything; the table that the program itself uses says where its FDEs are.
        let by_header = || through_header(contents, headers, eh_frame_hdr.as_ref()?);
        let eh_frame = place(".eh_frame").or_else(by_header);
        let nowhere = eh_frame.is_none() && eh_frame_hdr.is_none() && headers.sections(bytes).is_empty();
        let eh_frame = if nowhere { scanned(contents, headers) } else { eh_frame };
        let debug_frame = named(".debug_frame");
        let debug_frame_compressed =
            debug_frame.as_ref().is_some_and(|(_, flags)| flags & u64::from(SHF_COMPRESSED) != 0);
        Self {
            eh_frame_hdr: eh_frame_hdr.or_else(|| place(".eh_frame_hdr")),
            eh_frame,
            debug_frame: debug_frame.map(|(place, _)| place),
            debug_frame_compressed,
            text: address(".text"),
            got: address(".got"),
            ..Self::default()
        }
    }

    pub fn sections<'a>(&'a self, image: &'a Image) -> UnwindSections<'a> {
        let section =
            |place: &Place| Some(Section { address: place.address, bytes: image.contents.get(place.range.clone())? });
        let eh_frame =
            self.eh_frame.as_ref().and_then(section).map(|eh_frame| self.without_key_letters(image, eh_frame));
        let eh_frame_hdr = self.eh_frame_hdr.as_ref().and_then(section);
        let eh_frame_hdr = eh_frame_hdr.filter(|&hdr| surestack_cfi::Header::parse(hdr).is_some());
        let eh_frame_hdr = eh_frame_hdr.or_else(|| {
            let eh_frame = eh_frame?;
            let table = self.made_hdr.get_or_init(|| search_table::of_eh_frame(eh_frame, self.text, self.got));
            Some(Section { address: eh_frame.address, bytes: table.as_deref()? })
        });
        let debug_frame = self.debug_frame(image);
        let debug_frame_hdr = debug_frame.and_then(|debug_frame| {
            let table = self.made_debug_frame_hdr.get_or_init(|| search_table::of_debug_frame(debug_frame));
            Some(Section { address: debug_frame.address, bytes: table.as_deref()? })
        });
        UnwindSections { eh_frame_hdr, eh_frame, debug_frame, debug_frame_hdr, text: self.text, got: self.got }
    }

    /// `.eh_frame` as it can be read: aarch64 compilers mark functions whose return addresses are signed with the B key.
    fn without_key_letters<'a>(&'a self, image: &Image, eh_frame: Section<'a>) -> Section<'a> {
        if image.machine() != AARCH64.machine {
            return eh_frame;
        }
        let made = self.made_eh_frame.get_or_init(|| {
            let mut copy = eh_frame.bytes.to_vec();
            (surestack_cfi::drop_key_letters(&mut copy) > 0).then_some(copy)
        });
        Section { bytes: made.as_deref().unwrap_or(eh_frame.bytes), ..eh_frame }
    }

    fn debug_frame<'a>(&'a self, image: &'a Image) -> Option<Section<'a>> {
        let place = self.debug_frame.as_ref()?;
        let bytes = image.contents.get(place.range.clone())?;
        let bytes = if self.debug_frame_compressed {
            self.made_debug_frame.get_or_init(|| section::decompress(bytes)).as_deref()?
        } else {
            bytes
        };
        // The section has no address of its own; that of the code keeps the search table's offsets small.
        let address = if place.address == 0 { self.text.unwrap_or(0) } else { place.address };
        (!bytes.is_empty()).then_some(Section { address, bytes })
    }
}

/// A segment's bytes.
fn of_segment(contents: &Contents, segment: &Segment) -> Option<Place> {
    let range = elf::range(segment.offset, segment.file_size)?;
    contents.get(range.clone())?;
    Some(Place { address: segment.address, range })
}

/// The FDEs that `.eh_frame_hdr` points at: from there to the end of the loaded segment.
fn through_header(contents: &Contents, headers: &Headers, header: &Place) -> Option<Place> {
    let hdr = Section { address: header.address, bytes: contents.get(header.range.clone())? };
    let address = surestack_cfi::Header::parse(hdr)?.eh_frame();
    let loaded = |segment: &&Segment| segment.kind == PT_LOAD && segment.holds(address, 1);
    let segment = headers.segments.iter().find(loaded)?;
    let start = segment.offset.checked_add(address.checked_sub(segment.address)?)?;
    let end = segment.offset.checked_add(segment.file_size)?;
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    let length = contents.up_to(start, end)?.len();
    Some(Place { address, range: start..start.checked_add(length)? })
}

/// The FDEs that nothing points at: those of a static program, in an image made from memory.
fn scanned(contents: &Contents, headers: &Headers) -> Option<Place> {
    let read_only = headers.segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_W == 0);
    read_only.into_iter().find_map(|segment| {
        let start = usize::try_from(segment.offset).ok()?;
        let end = start.checked_add(usize::try_from(segment.file_size).ok()?)?;
        let found = scan::eh_frame(contents.up_to(start, end)?)?;
        let address = segment.address.checked_add(u64::try_from(found.start).ok()?)?;
        Some(Place { address, range: start.checked_add(found.start)?..start.checked_add(found.end)? })
    })
}
