//! The linked file: what its words hold once the loader is done, and which of them nobody changes afterwards.

use super::symbols::{self, Symbols};
use crate::error::Error;
use crate::image::{Image, elf};
use object::elf::{
    DF_1_NOW, DF_BIND_NOW, DT_BIND_NOW, DT_FLAGS, DT_FLAGS_1, DT_JMPREL, DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_RELR,
    DT_RELRSZ, DT_STRSZ, DT_STRTAB, DT_SYMTAB, EM_X86_64, PF_W, PT_GNU_RELRO, PT_LOAD, R_X86_64_64, R_X86_64_COPY,
    R_X86_64_DTPMOD64, R_X86_64_DTPOFF64, R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE,
    R_X86_64_TLSDESC, R_X86_64_TPOFF64, STT_OBJECT, STT_TLS,
};
use std::collections::BTreeMap;
use std::path::Path;
use surestack_walk::Memory;

const RELA: usize = 24;
const SYMBOL: u64 = 24;
/// Addresses from here on stand for what other modules define; no program's own address is there.
const OTHERS: u64 = 0xffff_8000_0000_0000;

/// What a word holds when the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A number; in a file that is not relocatable it may be an address.
    Number(u64),
    /// A linked address.
    Address(u64),
    /// The address of something that another module defines, by its stand-in.
    Import(u64),
    /// The address that this function chooses.
    Chosen(u64),
    /// Something about thread-local storage.
    Thread,
    /// Nobody knows.
    Unknown,
}

/// A symbol that another module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// As the compiler mangled it.
    pub symbol: String,
    /// Whether it is known to be no function.
    pub data: bool,
}

/// An x86_64 file.
pub(super) struct Binary {
    /// The file.
    pub image: Image,
    /// Its names.
    pub symbols: Symbols,
    /// What the loader writes, by the word's address.
    relocations: BTreeMap<u64, Relocated>,
    imports: Vec<Import>,
    /// Whether the loader binds every call before the program starts.
    bound: bool,
}

#[derive(Clone, Copy, Debug)]
struct Relocated {
    word: Word,
    kind: Kind,
}

/// What the loader does with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Writes it once, and it is no variable of the program.
    Linkage,
    /// Writes it when it is first called through.
    Late,
    /// Writes its first value.
    Initial,
}

impl Binary {
    /// The file at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let image = Image::open(path)?;
        let not = |why| Error::NotElf { what: path.display().to_string(), why };
        if image.machine() != EM_X86_64 {
            return Err(not("only x86_64 code can be verified"));
        }
        if image.segments().iter().all(|segment| segment.kind != PT_LOAD) {
            return Err(not("it is not linked: the final program or library is what is verified"));
        }
        if image.has_text_relocations() {
            return Err(not("the loader changes its code (DT_TEXTREL): what it executes is not in the file"));
        }
        let symbols = Symbols::of(&image);
        if symbols.is_empty() {
            return Err(not("it is stripped, and calls are followed by their names: verify it before it is stripped"));
        }
        let flag = |tag: i64, bit: u32| image.dynamic_value(tag).is_some_and(|value| value & u64::from(bit) != 0);
        let bound =
            flag(DT_FLAGS, DF_BIND_NOW) || flag(DT_FLAGS_1, DF_1_NOW) || image.dynamic_value(DT_BIND_NOW).is_some();
        let mut binary = Self { image, symbols, relocations: BTreeMap::new(), imports: Vec::new(), bound };
        binary.relocate();
        Ok(binary)
    }

    fn relocate(&mut self) {
        let tables = [(DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)];
        let table = |(at, size): (i64, i64)| {
            let size = usize::try_from(self.image.dynamic_value(size)?).ok()?;
            Some(self.image.at(self.image.dynamic_value(at)?, size)?.to_vec())
        };
        let mut all: Vec<Vec<u8>> = tables.into_iter().filter_map(table).collect();
        // A static program relocates itself, and says where only by its sections.
        let sections = [".rela.dyn", ".rela.plt", ".rela.iplt"];
        if all.is_empty() {
            all.extend(sections.into_iter().filter_map(|name| Some(self.image.section(name)?.into_owned())));
        }
        for bytes in all {
            for entry in bytes.as_chunks::<RELA>().0 {
                self.add(entry);
            }
        }
        self.packed();
    }

    fn add(&mut self, entry: &[u8; RELA]) {
        let word = |from: usize| {
            let bytes = entry.get(from..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(0, |word| u64::from_le_bytes(*word))
        };
        let (at, info, addend) = (word(0), word(8), word(16));
        let kind = u32::try_from(info & 0xffff_ffff).unwrap_or(0);
        let how = match kind {
            R_X86_64_JUMP_SLOT if !self.bound => Kind::Late,
            R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT | R_X86_64_IRELATIVE => Kind::Linkage,
            _ => Kind::Initial,
        };
        let value = match kind {
            R_X86_64_RELATIVE => Word::Address(addend),
            R_X86_64_IRELATIVE => Word::Chosen(addend),
            R_X86_64_64 => self.named(info >> 32, addend),
            R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT => self.named(info >> 32, 0),
            R_X86_64_DTPMOD64 | R_X86_64_DTPOFF64 | R_X86_64_TPOFF64 | R_X86_64_TLSDESC => Word::Thread,
            R_X86_64_COPY => return,
            _ => Word::Unknown,
        };
        self.relocations.insert(at, Relocated { word: value, kind: how });
        if kind == R_X86_64_TLSDESC {
            self.relocations.insert(at.wrapping_add(8), Relocated { word: value, kind: how });
        }
    }

    /// The dynamic symbol `index`, plus `addend`.
    fn named(&mut self, index: u64, addend: u64) -> Word {
        let read = || {
            let table = self.image.dynamic_value(DT_SYMTAB)?;
            let entry = self.image.at(table.checked_add(index.checked_mul(SYMBOL)?)?, 24)?;
            let size = usize::try_from(self.image.dynamic_value(DT_STRSZ)?).ok()?;
            let names = self.image.at(self.image.dynamic_value(DT_STRTAB)?, size)?;
            let name = elf::text(names, u32::from_le_bytes(*entry.first_chunk()?))?;
            let section = u16::from_le_bytes(*entry.get(6..)?.first_chunk()?);
            let value = u64::from_le_bytes(*entry.get(8..)?.first_chunk()?);
            Some((name, entry.get(4)? & 15, section, value))
        };
        let Some((name, kind, section, value)) = read() else { return Word::Unknown };
        if section != 0 {
            let is_chosen = kind == object::elf::STT_GNU_IFUNC;
            return if is_chosen { Word::Chosen(value) } else { Word::Address(value.wrapping_add(addend)) };
        }
        let import = Import { symbol: symbols::name(name), data: matches!(kind, STT_OBJECT | STT_TLS) };
        let known = self.imports.iter().position(|known| *known == import);
        let index = known.unwrap_or_else(|| {
            self.imports.push(import);
            self.imports.len().saturating_sub(1)
        });
        u64::try_from(index).ok().and_then(|index| OTHERS.checked_add(index)).map_or(Word::Unknown, Word::Import)
    }

    /// `DT_RELR`: relative relocations, whose addends are in place.
    fn packed(&mut self) {
        let table = || {
            let size = usize::try_from(self.image.dynamic_value(DT_RELRSZ)?).ok()?;
            self.image.at(self.image.dynamic_value(DT_RELR)?, size)
        };
        let words = table().map(|bytes| bytes.as_chunks::<8>().0.to_vec()).unwrap_or_default();
        let mut next = 0u64;
        let mut places = Vec::new();
        for word in words.into_iter().map(u64::from_le_bytes) {
            if word & 1 == 0 {
                places.push(word);
                next = word.wrapping_add(8);
                continue;
            }
            places.extend((0..63u64).filter(|bit| (word >> (bit + 1)) & 1 != 0).map(|bit| next.wrapping_add(bit * 8)));
            next = next.wrapping_add(63 * 8);
        }
        for at in places {
            let word = self.image.word(at).map_or(Word::Unknown, Word::Address);
            self.relocations.insert(at, Relocated { word, kind: Kind::Initial });
        }
    }

    /// What the word at `address` holds when the program starts; `None` where nothing is.
    pub fn word(&self, address: u64) -> Option<Word> {
        if let Some(found) = self.relocations.get(&address) {
            return Some(found.word);
        }
        let overlaps = self.relocations.range(address.saturating_sub(7)..address.saturating_add(8)).next().is_some();
        if overlaps {
            return Some(Word::Unknown);
        }
        Some(Word::Number(self.image.word(address).ok()?))
    }

    /// What the word at `address` holds, if it never changes once the program runs.
    pub fn constant(&self, address: u64) -> Option<Word> {
        let linkage = self.relocations.get(&address).is_some_and(|found| found.kind != Kind::Initial);
        let covers = |start: u64, size: u64| address.checked_sub(start).is_some_and(|skip| skip < size);
        let mut segments = self.image.segments().iter();
        let protected =
            segments.any(|segment| segment.kind == PT_GNU_RELRO && covers(segment.address, segment.memory_size));
        let in_got = || {
            let sections = [".got", ".got.plt"].into_iter().filter_map(|name| self.image.section_range(name));
            sections.into_iter().any(|(start, size)| covers(start, size))
        };
        let mut loaded = self.image.segments().iter().filter(|segment| segment.kind == PT_LOAD);
        let mut fixed =
            || loaded.any(|segment| segment.flags & PF_W == 0 && covers(segment.address, segment.memory_size));
        if linkage || protected || fixed() || in_got() { self.word(address) } else { None }
    }

    /// Whether the loader looks for the callee only when the word at `slot` is first called through.
    pub fn is_late(&self, slot: u64) -> bool {
        self.relocations.get(&slot).is_some_and(|found| found.kind == Kind::Late)
    }

    /// What another module defines, by its stand-in.
    pub fn import(&self, address: u64) -> Option<&Import> {
        self.imports.get(usize::try_from(address.checked_sub(OTHERS)?).ok()?)
    }

    /// The address in a word, if it is one.
    pub fn pointer(&self, word: Word) -> Option<u64> {
        match word {
            Word::Address(address) | Word::Import(address) | Word::Chosen(address) => Some(address),
            Word::Number(number) if !self.image.is_relocatable() && self.is_mapped(number) => Some(number),
            _ => None,
        }
    }

    /// Whether something of the file lies at `address`.
    pub fn is_mapped(&self, address: u64) -> bool {
        let mut loaded = self.image.segments().iter().filter(|segment| segment.kind == PT_LOAD);
        loaded.any(|segment| address.checked_sub(segment.address).is_some_and(|skip| skip < segment.memory_size))
    }

    /// Words in `[from, to)` that hold addresses, with where they lie.
    pub fn pointers(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        if self.image.is_relocatable() {
            let words = self.relocations.range(from..to.max(from));
            found.extend(words.filter_map(|(at, found)| Some((*at, self.pointer(found.word)?))));
            return found;
        }
        let mut at = from.checked_next_multiple_of(8).unwrap_or(u64::MAX);
        while at < to {
            // An object may claim to be larger than the file.
            let Some(word) = self.word(at) else { break };
            found.extend(self.pointer(word).map(|pointer| (at, pointer)));
            let Some(next) = at.checked_add(8) else { break };
            at = next;
        }
        found
    }

    /// Where pointers in the file's data lead.
    pub fn pointed_at(&self) -> impl Iterator<Item = u64> {
        self.relocations.values().filter_map(|found| self.pointer(found.word))
    }

    /// The bytes of the instruction at `address`, with those that follow.
    pub fn code(&self, address: u64) -> Option<&[u8]> {
        /// Longest x86 instruction.
        const LONGEST: usize = 15;
        if !self.symbols.is_code(address) {
            return None;
        }
        (1..=LONGEST).rev().find_map(|length| self.image.at(address, length))
    }

    /// What is at `address`, for people: a function and how far into it, an import, or the bare address.
    pub fn describe(&self, address: u64) -> String {
        if let Some(import) = self.import(address) {
            return crate::symbol::demangle(&import.symbol);
        }
        if let Some(function) = self.symbols.function(address) {
            return match address - function.start {
                0 => function.name(),
                offset => format!("{}+{offset:#x}", function.name()),
            };
        }
        match self.symbols.object(address) {
            Some(object) => crate::symbol::demangle(&object.symbol),
            None => format!("{address:#x}"),
        }
    }
}

/// Words as the loader leaves them, other bytes as the file has them.
impl Memory for Binary {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), surestack_walk::Error> {
        let unreadable = surestack_walk::Error::Unreadable { address };
        if into.len() == 8 && self.relocations.contains_key(&address) {
            let word = self.word(address).and_then(|word| self.pointer(word)).ok_or(unreadable)?;
            into.copy_from_slice(&word.to_le_bytes());
            return Ok(());
        }
        self.image.read(address, into)
    }
}
