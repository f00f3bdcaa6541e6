//! An ELF file: its segments, sections, build ID and unwind information.
//!
//! Opening maps the file and reads its headers; everything else is read when it is asked for, and what has to be made
//! (decompressed sections, search tables) is made once. 64-bit little-endian files only.

mod dynamic;
pub(crate) mod elf;
pub mod find;
mod scan;
mod search_table;
mod section;
mod symbols;
mod unwind;
mod vdso;

use crate::error::Error;
use elf::Headers;
use memmap2::Mmap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use surestack_walk::{Memory, UnwindSections};

pub use dynamic::Plt;
pub use elf::Segment;
pub use find::Find;
pub use symbols::ImageSymbol;
pub(crate) use vdso::own_vdso;

/// The contents of an ELF file.
pub struct Image {
    contents: Contents,
    headers: Headers,
    unwind: unwind::Places,
    mini: OnceLock<Option<Box<Image>>>,
}

/// Where the bytes are.
enum Contents {
    /// In a file.
    Mapped(Mmap),
    /// In our memory; only these parts of the file are known, ascending.
    Partial(Vec<u8>, Vec<Range<usize>>),
    /// In our memory, whole.
    Owned(Vec<u8>),
}

impl Image {
    /// The ELF file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be opened, [`Error::NotElf`] when it is no ELF file that can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::new(Contents::Mapped(map(path)?)).map_err(|why| Error::NotElf { what: path.display().to_string(), why })
    }

    /// An ELF file that is in memory already; `what` names it in the error.
    ///
    /// # Errors
    /// [`Error::NotElf`] when it is no ELF file that can be read.
    pub fn from_bytes(bytes: Vec<u8>, what: &str) -> Result<Self, Error> {
        Self::new(Contents::Owned(bytes)).map_err(|why| Error::NotElf { what: what.to_owned(), why })
    }

    /// An ELF file of which only the parts in `known` (ranges of `bytes`, ascending) are there.
    pub(crate) fn from_parts(bytes: Vec<u8>, known: Vec<Range<usize>>, what: &str) -> Result<Self, Error> {
        Self::new(Contents::Partial(bytes, known)).map_err(|why| Error::NotElf { what: what.to_owned(), why })
    }

    fn new(contents: Contents) -> Result<Self, &'static str> {
        let headers = Headers::parse(contents.all())?;
        let unwind = unwind::Places::find(&contents, &headers);
        Ok(Self { contents, headers, unwind, mini: OnceLock::new() })
    }

    /// Where its unwind information lies. Linked addresses. Search tables that the file lacks are made on first use.
    pub fn unwind(&self) -> UnwindSections<'_> {
        self.unwind.sections(self)
    }

    /// All bytes of the file, unknown parts as zeros.
    pub fn bytes(&self) -> &[u8] {
        self.contents.all()
    }

    /// `e_machine`.
    pub fn machine(&self) -> u16 {
        self.headers.machine
    }

    /// Linked address of the entry point.
    pub fn entry(&self) -> u64 {
        self.headers.entry
    }

    /// Whether it can be mapped anywhere (`ET_DYN`).
    pub fn is_relocatable(&self) -> bool {
        self.headers.kind == object::elf::ET_DYN
    }

    /// Its program headers.
    pub fn segments(&self) -> &[Segment] {
        &self.headers.segments
    }

    /// `length` bytes at a linked address, as the file has them; none where the loader makes them up (`.bss`).
    pub fn at(&self, linked: u64, length: usize) -> Option<&[u8]> {
        let size = u64::try_from(length).ok()?;
        let holds = |segment: &&Segment| segment.kind == object::elf::PT_LOAD && segment.holds(linked, size);
        let segment = self.headers.segments.iter().find(holds)?;
        let offset = segment.offset.checked_add(linked.checked_sub(segment.address)?)?;
        self.contents.get(elf::range(offset, size)?)
    }

    /// Whether the loader may have written to memory at a linked address.
    pub fn is_writable(&self, linked: u64) -> bool {
        let covers = |segment: &&Segment| {
            segment.kind == object::elf::PT_LOAD
                && linked.checked_sub(segment.address).is_some_and(|skip| skip < segment.memory_size)
        };
        self.headers.segments.iter().filter(covers).any(|segment| segment.flags & object::elf::PF_W != 0)
    }

    /// The build ID, from the notes that are mapped or else from the section.
    pub fn build_id(&self) -> Option<BuildId> {
        let mapped = self.headers.segments.iter().filter(|segment| segment.kind == object::elf::PT_NOTE);
        let mapped = mapped.filter_map(|note| {
            let bytes = self.contents.get(elf::range(note.offset, note.file_size)?)?;
            BuildId::in_notes(bytes, note.align)
        });
        let section = || BuildId::in_notes(&self.section(".note.gnu.build-id")?, 4);
        mapped.into_iter().next().or_else(section)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Image").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl Contents {
    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) | Self::Partial(bytes, _) => bytes,
        }
    }

    /// These bytes, if they are known.
    fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        if let Self::Partial(_, known) = self {
            let after = known.partition_point(|part| part.start <= range.start);
            known.get(after.checked_sub(1)?).filter(|part| range.end <= part.end)?;
        }
        self.all().get(range)
    }

    /// The known bytes from `start` on, up to `end`.
    fn up_to(&self, start: usize, end: usize) -> Option<&[u8]> {
        let end = match self {
            Self::Partial(_, known) => {
                let after = known.partition_point(|part| part.start <= start);
                known.get(after.checked_sub(1)?)?.end.min(end)
            }
            _ => end.min(self.all().len()),
        };
        self.all().get(start..end)
    }
}

/// Maps a file.
pub(crate) fn map(path: &Path) -> Result<Mmap, Error> {
    let refused = |source| Error::Read { path: path.to_owned(), source };
    // Whoever names the file may be a core: a pipe in its place is not waited for.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refused)?;
    if !file.metadata().map_err(refused)?.is_file() {
        return Err(refused(std::io::Error::other("it is not a regular file")));
    }
    // SAFETY: the mapping is private and read-only, and only ever seen as bytes; a file that somebody rewrites meanwhile
    // yields other bytes, which every parser here takes as hostile anyway.
    let map = unsafe { Mmap::map(&file) };
    map.map_err(refused)
}

/// The bytes of the file at their linked addresses.
impl Memory for Image {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), surestack_walk::Error> {
        let bytes = self.at(address, into.len()).ok_or(surestack_walk::Error::Unreadable { address })?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// The build ID of an ELF file (`NT_GNU_BUILD_ID`), of any length.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BuildId(pub Vec<u8>);

impl BuildId {
    /// The build ID among these notes.
    pub(crate) fn in_notes(bytes: &[u8], align: u64) -> Option<Self> {
        let build_id = |note: &elf::Note<'_>| {
            note.kind == object::elf::NT_GNU_BUILD_ID && note.owner == b"GNU" && !note.contents.is_empty()
        };
        elf::notes(bytes, align).find(build_id).map(|note| Self(note.contents.to_vec()))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
