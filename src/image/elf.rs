//! ELF headers of 64-bit little-endian files, every offset and count checked against the bytes there are.

use object::LittleEndian as LE;
use object::elf::{FileHeader64, PN_XNUM, ProgramHeader64, SHN_XINDEX, SectionHeader64};
use object::pod;
use std::ops::Range;

/// A section header.
pub(crate) type SectionHeader = SectionHeader64<LE>;

/// What the ELF header and the program headers say.
#[derive(Debug)]
pub(crate) struct Headers {
    /// `e_machine`.
    pub machine: u16,
    /// `e_type`.
    pub kind: u16,
    /// `e_entry`.
    pub entry: u64,
    /// Program headers, in the file's order.
    pub segments: Vec<Segment>,
    /// How many program headers the file announces; more than `segments` holds when it is cut short.
    pub announced: usize,
    sections: u64,
    section_count: usize,
    section_names: usize,
}

/// A program header. Addresses are linked addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`.
    pub flags: u32,
    /// `p_offset`.
    pub offset: u64,
    /// `p_vaddr`.
    pub address: u64,
    /// `p_filesz`.
    pub file_size: u64,
    /// `p_memsz`.
    pub memory_size: u64,
    /// `p_align`.
    pub align: u64,
}

impl Segment {
    /// Whether the bytes of `[address, address + length)` come from the file.
    pub fn holds(&self, address: u64, length: u64) -> bool {
        let end = address.checked_sub(self.address).and_then(|skip| skip.checked_add(length));
        end.is_some_and(|end| end <= self.file_size)
    }
}

/// `count` items from `offset`, if all of them are there.
fn items<T: pod::Pod>(bytes: &[u8], offset: u64, count: usize) -> Option<&[T]> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    pod::slice_from_bytes(rest, count).ok().map(|(items, _)| items)
}

impl Headers {
    /// The headers of the file that `bytes` begins with, or what makes it unreadable.
    ///
    /// Program headers beyond the end of `bytes` are left out.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.get(..4) != Some(b"\x7fELF") {
            return Err("it does not begin with the ELF magic");
        }
        match (bytes.get(4), bytes.get(5)) {
            (Some(2), Some(1)) => {}
            (Some(1), _) => return Err("it is 32-bit, and only 64-bit targets are read"),
            (Some(2), Some(2)) => return Err("it is big-endian, and only little-endian targets are read"),
            _ => return Err("its ELF class or byte order is none that exists"),
        }
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(bytes).map_err(|()| "it ends within the ELF header")?;
        let (sections, mut section_count) = (header.e_shoff.get(LE), usize::from(header.e_shnum.get(LE)));
        let mut section_names = usize::from(header.e_shstrndx.get(LE));
        let mut announced = usize::from(header.e_phnum.get(LE));

        // More than 65,534 of either: section 0 holds the true numbers.
        let first = || (sections != 0).then(|| items::<SectionHeader>(bytes, sections, 1)?.first()).flatten();
        if header.e_phnum.get(LE) == PN_XNUM
            && let Some(first) = first()
        {
            announced = usize::try_from(first.sh_info.get(LE)).unwrap_or(usize::MAX);
        }
        if section_count == 0
            && let Some(first) = first()
        {
            section_count = usize::try_from(first.sh_size.get(LE)).unwrap_or(usize::MAX);
        }
        if header.e_shstrndx.get(LE) == SHN_XINDEX
            && let Some(first) = first()
        {
            section_names = usize::try_from(first.sh_link.get(LE)).unwrap_or(usize::MAX);
        }
        if announced > 0 && usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
            return Err("its program headers have an unknown size");
        }
        Ok(Self {
            machine: header.e_machine.get(LE),
            kind: header.e_type.get(LE),
            entry: header.e_entry.get(LE),
            segments: segments(bytes, header.e_phoff.get(LE), announced),
            announced,
            sections,
            section_count,
            section_names,
        })
    }

    /// The section headers; empty when they were stripped or lie outside of `bytes`.
    pub fn sections<'a>(&self, bytes: &'a [u8]) -> &'a [SectionHeader] {
        if self.sections == 0 {
            return &[];
        }
        items(bytes, self.sections, self.section_count).unwrap_or_default()
    }

    /// The name of a section.
    pub fn section_name<'a>(&self, bytes: &'a [u8], section: &SectionHeader) -> Option<&'a [u8]> {
        let names = self.sections(bytes).get(self.section_names)?;
        let names = bytes.get(file_range(names)?)?;
        text(names, section.sh_name.get(LE))
    }

    /// The first section of this name.
    pub fn section<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a SectionHeader> {
        let named = |section: &&SectionHeader| self.section_name(bytes, section) == Some(name.as_bytes());
        self.sections(bytes).iter().find(named)
    }

    /// The first segment of this kind.
    pub fn segment(&self, kind: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }
}

/// As many of the program headers as there are.
fn segments(bytes: &[u8], offset: u64, announced: usize) -> Vec<Segment> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let room = bytes.len().saturating_sub(start) / size_of::<ProgramHeader64<LE>>();
    let found = items::<ProgramHeader64<LE>>(bytes, offset, announced.min(room)).unwrap_or_default();
    let segment = |header: &ProgramHeader64<LE>| Segment {
        kind: header.p_type.get(LE),
        flags: header.p_flags.get(LE),
        offset: header.p_offset.get(LE),
        address: header.p_vaddr.get(LE),
        file_size: header.p_filesz.get(LE),
        memory_size: header.p_memsz.get(LE),
        align: header.p_align.get(LE),
    };
    found.iter().map(segment).collect()
}

/// Where a section's bytes lie in the file; none for `SHT_NOBITS`, which only debug files and `.bss` have.
pub(crate) fn file_range(section: &SectionHeader) -> Option<Range<usize>> {
    if section.sh_type.get(LE) == object::elf::SHT_NOBITS {
        return None;
    }
    range(section.sh_offset.get(LE), section.sh_size.get(LE))
}

/// `length` bytes from `offset`, as a range that can be indexed with.
pub(crate) fn range(offset: u64, length: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// The zero-terminated string at `offset` of a string table.
pub(crate) fn text(table: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    rest.split(|&byte| byte == 0).next()
}

/// The notes in `bytes`: type, owner, contents. Stops at the first that does not fit.
pub(crate) fn notes(bytes: &[u8], align: u64) -> impl Iterator<Item = Note<'_>> {
    let mut rest = bytes;
    let pad = if align == 8 { 8 } else { 4 };
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<12>()?;
        let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (name_size, size) = (usize::try_from(word(0)?).ok()?, usize::try_from(word(4)?).ok()?);
        let start = 12usize.checked_add(name_size)?.checked_next_multiple_of(pad)?;
        let end = start.checked_add(size)?;
        let note = Note {
            kind: word(8)?,
            owner: after.get(..name_size)?.split(|&byte| byte == 0).next()?,
            contents: rest.get(start..end)?,
        };
        // The last note may lack its padding.
        rest = end.checked_next_multiple_of(pad).and_then(|next| rest.get(next..)).unwrap_or_default();
        Some(note)
    })
}

/// A note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note<'a> {
    /// `n_type`.
    pub kind: u32,
    /// The name, without its zero.
    pub owner: &'a [u8],
    /// The descriptor.
    pub contents: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_until_one_does_not_fit() {
        let mut bytes = vec![];
        for (kind, contents) in [(3u32, &b"abc"[..]), (4, b"defgh")] {
            bytes.extend(4u32.to_le_bytes());
            bytes.extend((contents.len() as u32).to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(b"GNU\0");
            bytes.extend(contents);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let found: Vec<_> = notes(&bytes, 4).map(|note| (note.kind, note.contents)).collect();
        assert_eq!(found, [(3, &b"abc"[..]), (4, b"defgh")]);
        assert_eq!(notes(&bytes[..bytes.len() - 4], 4).count(), 1);
        assert_eq!(notes(&[0xff; 64], 4).count(), 0);
    }

    #[test]
    fn what_is_no_64_bit_little_endian_elf_file_says_what_it_is() {
        assert!(Headers::parse(b"#!/bin/sh").unwrap_err().contains("magic"));
        assert!(Headers::parse(b"\x7fELF\x01\x01").unwrap_err().contains("32-bit"));
        assert!(Headers::parse(b"\x7fELF\x02\x02").unwrap_err().contains("big-endian"));
        assert!(Headers::parse(b"\x7fELF\x02\x01").unwrap_err().contains("ends within"));
    }
}
