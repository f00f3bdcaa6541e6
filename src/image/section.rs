//! Sections by name, decompressed where the file has them compressed.

use super::{Image, elf};
use object::LittleEndian as LE;
use object::elf::{
    CompressionHeader64, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, PF_X, PT_LOAD, SHF_COMPRESSED, SHF_EXECINSTR,
};
use object::read::{CompressedData, CompressionFormat};
use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

/// A compressed section may claim to be this large whatever its size; beyond, no more than `RATIO` times its size.
const ALWAYS: u64 = 64 << 20;
/// Deflate cannot do better than 1032.
const RATIO: u64 = 1032;

impl Image {
    /// The contents of the first section of this name; none when there is no such section or it does not decompress.
    pub fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let section = self.headers.section(self.bytes(), name)?;
        let bytes = self.contents.get(elf::file_range(section)?)?;
        if section.sh_flags.get(LE) & u64::from(SHF_COMPRESSED) == 0 {
            return Some(Cow::Borrowed(bytes));
        }
        decompress(bytes).map(Cow::Owned)
    }

    /// The zlib stream in a section that is compressed that way, and the size of what is in it.
    pub(crate) fn zlib_section(&self, name: &str) -> Option<(&[u8], u64)> {
        let section = self.headers.section(self.bytes(), name)?;
        if section.sh_flags.get(LE) & u64::from(SHF_COMPRESSED) == 0 {
            return None;
        }
        let bytes = self.contents.get(elf::file_range(section)?)?;
        let (header, data) = object::pod::from_bytes::<CompressionHeader64<LE>>(bytes).ok()?;
        (header.ch_type.get(LE) == ELFCOMPRESS_ZLIB).then_some((data, header.ch_size.get(LE)))
    }

    /// Linked address and size of the first section of this name.
    pub fn section_range(&self, name: &str) -> Option<(u64, u64)> {
        let section = self.headers.section(self.bytes(), name)?;
        Some((section.sh_addr.get(LE), section.sh_size.get(LE)))
    }

    /// Linked addresses of its code: the executable sections, or else segments.
    pub fn code(&self) -> Vec<Range<u64>> {
        let sections = self.headers.sections(self.bytes()).iter();
        let sections = sections.filter(|section| section.sh_flags.get(LE) & u64::from(SHF_EXECINSTR) != 0);
        let code: Vec<_> = sections.map(|section| extent(section.sh_addr.get(LE), section.sh_size.get(LE))).collect();
        if !code.is_empty() {
            return code;
        }
        let segments = self.segments().iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_X != 0);
        segments.map(|segment| extent(segment.address, segment.memory_size)).collect()
    }

    /// `.gnu_debuglink`: name of the separate debug file and its CRC-32.
    pub fn debug_link(&self) -> Option<(String, u32)> {
        let link = self.section(".gnu_debuglink")?;
        let name = link.split(|&byte| byte == 0).next()?;
        let crc = link.get(name.len().checked_add(1)?.checked_next_multiple_of(4)?..)?.first_chunk::<4>()?;
        Some((String::from_utf8(name.to_vec()).ok()?, u32::from_le_bytes(*crc)))
    }

    /// `.gnu_debugaltlink`: path of the file shared by several debug files (dwz) and its build ID.
    pub fn debug_alt_link(&self) -> Option<(String, super::BuildId)> {
        let link = self.section(".gnu_debugaltlink")?;
        let name = link.split(|&byte| byte == 0).next()?;
        let id = link.get(name.len().checked_add(1)?..)?;
        Some((String::from_utf8(name.to_vec()).ok()?, super::BuildId(id.to_vec())))
    }

    /// The image in `.gnu_debugdata` (xz): symbols of a stripped file. Decompressed on first use.
    pub fn mini_debug(&self) -> Option<&Image> {
        let unpack = || {
            let packed = self.section(".gnu_debugdata")?;
            let bytes = read_at_most(lzma_rust2::XzReader::new(&*packed, true), ALWAYS)?;
            Self::from_bytes(bytes, ".gnu_debugdata").ok().map(Box::new)
        };
        self.mini.get_or_init(unpack).as_deref()
    }
}

fn extent(start: u64, size: u64) -> Range<u64> {
    start..start.saturating_add(size)
}

/// The contents of a section with `SHF_COMPRESSED`.
pub(super) fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, data) = object::pod::from_bytes::<CompressionHeader64<LE>>(bytes).ok()?;
    let uncompressed_size = header.ch_size.get(LE);
    let room = u64::try_from(data.len()).ok()?.saturating_mul(RATIO).max(ALWAYS);
    if uncompressed_size > room {
        return None;
    }
    match header.ch_type.get(LE) {
        ELFCOMPRESS_ZLIB => {
            let data = CompressedData { format: CompressionFormat::Zlib, data, uncompressed_size };
            data.decompress().ok().map(Cow::into_owned)
        }
        ELFCOMPRESS_ZSTD => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(data).ok()?;
            read_at_most(decoder, uncompressed_size)
        }
        _ => None,
    }
}

/// All that `from` yields, unless it is more than `limit` bytes.
fn read_at_most(from: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (u64::try_from(bytes.len()).ok()? <= limit).then_some(bytes)
}
