//! Modules that the loader has mapped since the map was last brought up to date: a handler may have interrupted `dlopen`, or
//! nobody may have told us.
//!
//! The loader's own list (`_r_debug`, as debuggers read it: glibc's and musl's `link.h`) is followed with checked loads. What
//! a walk needs of a module is copied from its memory to room that was made at install, so that no table is read where it may
//! go away. Modules of the map that are on the list no more are named as well: what the map says of their addresses is old.

use crate::memory::{OwnMemory, Range};
use surestack_cfi::Header;
use surestack_module_map::{ModuleMap, Record};
use surestack_walk::{Memory, Module, Section, UnwindSections};

/// Modules for which there is room.
const MOST: usize = 16;
/// Modules that a loader's list may have.
const LONGEST: usize = 1 << 16;
/// `.eh_frame_hdr` and `.eh_frame` are read in pieces of this size.
const PIECE: usize = 4096;
/// Bytes kept of a path.
const PATH: usize = 256;

/// Where the loader keeps its list, and room for copies.
#[derive(Clone, Copy, Debug)]
pub struct Loader {
    /// Address of `_r_debug`.
    pub list: usize,
    /// Writable memory that nobody else uses.
    pub room: Range,
}

/// Modules that the map does not have.
pub(crate) struct Late {
    modules: [Option<Record>; MOST],
    paths: [[u8; PATH]; MOST],
    code: [[(u64, u64); 1]; MOST],
    count: usize,
    /// How many modules of the map are not loaded any more, or have no room here.
    pub gone: u64,
}

impl Late {
    pub const fn new() -> Self {
        Self { modules: [None; MOST], paths: [[0; PATH]; MOST], code: [[(0, 0)]; MOST], count: 0, gone: 0 }
    }

    /// The late module at an address.
    pub fn find(&self, address: u64) -> Option<(usize, &Record)> {
        let covers = |record: &Record| (record.start..record.end).contains(&address);
        self.all().find(|(_, record)| covers(record))
    }

    /// All of them, with their positions.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.modules.iter().enumerate().filter_map(|(index, module)| Some((index, module.as_ref()?)))
    }

    /// Whether a late module is where this one of the map was.
    pub fn replaces(&self, module: &Record) -> bool {
        self.all().any(|(_, late)| late.start < module.end && module.start < late.end)
    }

    /// The bytes of a late module's path.
    pub fn path(&self, index: usize) -> &[u8] {
        let path = self.paths.get(index).map_or(&[][..], |path| &path[..]);
        path.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Its executable pages.
    pub fn code(&self, index: usize) -> &[(u64, u64)] {
        self.code.get(index).map_or(&[], |code| &code[..])
    }

    /// Looks through the loader's list.
    pub fn learn(&mut self, loader: &Loader, map: &ModuleMap) {
        // SAFETY: nothing is promised: every load is a checked one.
        let memory = unsafe { OwnMemory::new(&[]) };
        let Ok(list) = u64::try_from(loader.list) else { return };
        let mut room = loader.room;
        let mut seen = 0_u64;
        // struct r_debug { int r_version; struct link_map *r_map; … }
        let mut entry = memory.word(list.wrapping_add(8)).unwrap_or(0);
        for _ in 0..LONGEST {
            if entry == 0 {
                break;
            }
            // struct link_map { l_addr; l_name; l_ld; l_next; l_prev; … }
            let word = |offset: u64| memory.word(entry.wrapping_add(offset));
            let (Ok(bias), Ok(name), Ok(dynamic), Ok(next)) = (word(0), word(8), word(16), word(24)) else { break };
            let is_it = |record: &Record| {
                record.bias == bias
                    && is_text(&memory, name, record.path)
                    && build_id_is(&memory, bias, record.build_id) != Some(false)
            };
            let known = map.look_up(dynamic).is_ok_and(|(found, _)| found.is_some_and(|found| is_it(found.record)));
            if known {
                seen = seen.saturating_add(1);
            } else if let Some(copied) = copy(&memory, bias, &mut room) {
                self.keep(&memory, copied, name);
            }
            entry = next;
        }
        let modules = map.count().ok().and_then(|count| u64::try_from(count).ok()).unwrap_or(seen);
        self.gone = modules.saturating_sub(seen);
    }

    fn keep(&mut self, memory: &OwnMemory<'_>, copied: Copied, name: u64) {
        let index = self.count;
        let (Some(place), Some(path), Some(code)) =
            (self.modules.get_mut(index), self.paths.get_mut(index), self.code.get_mut(index))
        else {
            self.gone = self.gone.saturating_add(1);
            return;
        };
        // The last byte stays 0.
        for (at, byte) in (name..).zip(path.iter_mut().take(PATH - 1)) {
            let mut one = [0];
            if memory.read(at, &mut one).is_err() || one == [0] {
                break;
            }
            let [value] = one;
            *byte = value;
        }
        *code = [copied.code];
        let Copied { start, end, bias, unwind, .. } = copied;
        *place =
            Some(Record { start, end, bias, unwind, code: &[], path: &[], build_id: &[], symbols: None, table: None });
        self.count = index.saturating_add(1);
    }
}

/// What unwinders want to know of a late module.
pub(crate) fn module(index: usize, record: &Record) -> Module<'_> {
    let Record { start, end, bias, unwind, .. } = *record;
    Module { index: usize::MAX.saturating_sub(index), start, end, bias, unwind }
}

/// Whether this text, which ends with a zero, lies there.
fn is_text(memory: &OwnMemory<'_>, mut at: u64, text: &[u8]) -> bool {
    for byte in text.iter().chain(&[0]) {
        if memory.value(at, 1).ok() != Some(u64::from(*byte)) {
            return false;
        }
        at = at.wrapping_add(1);
    }
    true
}

/// Whether the module with this bias has this build ID: another may have come to where one was. Nothing where its file
/// header does not lie at its first address, or it has none.
fn build_id_is(memory: &OwnMemory<'_>, bias: u64, expected: &[u8]) -> Option<bool> {
    const PT_NOTE: u64 = 4;
    const GNU_BUILD_ID: u64 = 3;
    const HEADERS: u64 = 64;
    const NOTES: u64 = 64;
    let mut magic = [0; 4];
    memory.read(bias, &mut magic).ok().filter(|()| magic == *b"\x7fELF")?;
    let headers = bias.checked_add(memory.word(bias.checked_add(32)?).ok()?)?;
    let (size, count) = (memory.value(bias.checked_add(54)?, 2).ok()?, memory.value(bias.checked_add(56)?, 2).ok()?);
    for index in 0..count.min(HEADERS) {
        let header = headers.checked_add(index.checked_mul(size)?)?;
        if memory.value(header, 4).ok()? != PT_NOTE {
            continue;
        }
        let mut at = bias.wrapping_add(memory.word(header.checked_add(16)?).ok()?);
        let end = at.checked_add(memory.word(header.checked_add(40)?).ok()?)?;
        for _ in 0..NOTES {
            if at >= end {
                break;
            }
            let [owner, length, kind] = [0, 4, 8].map(|offset| memory.value(at.wrapping_add(offset), 4).ok());
            let value = at.checked_add(12)?.checked_add(owner?.next_multiple_of(4))?;
            if kind? == GNU_BUILD_ID && owner? == 4 {
                let same = |(at, byte): (u64, &u8)| memory.value(at, 1).ok() == Some(u64::from(*byte));
                let is_as_long = u64::try_from(expected.len()) == Ok(length?);
                return Some(is_as_long && (value..).zip(expected).all(same));
            }
            at = value.checked_add(length?.next_multiple_of(4))?;
        }
    }
    None
}

struct Copied {
    start: u64,
    end: u64,
    bias: u64,
    code: (u64, u64),
    unwind: UnwindSections<'static>,
}

/// Copies what is needed of the module with this bias, whose file header lies at its first address.
fn copy(memory: &OwnMemory<'_>, bias: u64, room: &mut Range) -> Option<Copied> {
    const PT_LOAD: u64 = 1;
    const PT_GNU_EH_FRAME: u64 = 0x6474_e550;
    const EXECUTABLE: u64 = 1;
    const PAGE: u64 = 4096;
    const HEADERS: u64 = 64;
    let mut magic = [0; 4];
    memory.read(bias, &mut magic).ok()?;
    if magic != *b"\x7fELF" {
        return None;
    }
    let headers = bias.checked_add(memory.word(bias.checked_add(32)?).ok()?)?;
    let (size, count) = (memory.value(bias.checked_add(54)?, 2).ok()?, memory.value(bias.checked_add(56)?, 2).ok()?);
    let (mut low, mut high, mut code, mut hdr) = (u64::MAX, 0, (0, 0), None);
    let mut loads = [(0_u64, 0_u64); 16];
    let mut used = 0_usize;
    for index in 0..count.min(HEADERS) {
        let at = headers.checked_add(index.checked_mul(size)?)?;
        let (kind, flags) = (memory.value(at, 4).ok()?, memory.value(at.checked_add(4)?, 4).ok()?);
        let (address, in_file) = (memory.word(at.checked_add(16)?).ok()?, memory.word(at.checked_add(32)?).ok()?);
        let in_memory = memory.word(at.checked_add(40)?).ok()?;
        let end = address.checked_add(in_memory)?;
        match kind {
            PT_LOAD => {
                (low, high) = (low.min(address), high.max(end));
                if flags & EXECUTABLE != 0 {
                    let end = end.checked_next_multiple_of(PAGE)?;
                    code = (bias.wrapping_add(address & !(PAGE - 1)), bias.wrapping_add(end));
                }
                if let Some(place) = loads.get_mut(used) {
                    *place = (address, address.checked_add(in_file)?);
                    used = used.saturating_add(1);
                }
            }
            PT_GNU_EH_FRAME => hdr = Some((address, in_memory)),
            _ => {}
        }
    }
    let (start, end) = (bias.wrapping_add(low & !(PAGE - 1)), bias.wrapping_add(high));
    let unwind = hdr.and_then(|(address, length)| {
        let hdr = section(memory, bias, address, length, room)?;
        let eh_frame = Header::parse(hdr)?.eh_frame();
        let (_, end) = loads.iter().find(|(low, high)| (*low..*high).contains(&eh_frame))?;
        let eh_frame = section(memory, bias, eh_frame, end.saturating_sub(eh_frame), room)?;
        Some(UnwindSections { eh_frame_hdr: Some(hdr), eh_frame: Some(eh_frame), ..UnwindSections::default() })
    });
    (start < end).then_some(Copied { start, end, bias, code, unwind: unwind.unwrap_or_default() })
}

/// Copies bytes to the room, if they are there and it is large enough.
fn section(memory: &OwnMemory<'_>, bias: u64, address: u64, length: u64, room: &mut Range) -> Option<Section<'static>> {
    let begin = room.low;
    let next = begin.checked_add(length)?.checked_next_multiple_of(8)?;
    if next > room.high {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let place = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(begin).ok()?);
    // SAFETY: from what whoever made the loader lends for this, and no two sections share a byte of it.
    let bytes: &'static mut [u8] = unsafe { core::slice::from_raw_parts_mut(place, length) };
    let mut from = bias.wrapping_add(address);
    for piece in bytes.chunks_mut(PIECE) {
        memory.read(from, piece).ok()?;
        from = from.wrapping_add(u64::try_from(piece.len()).ok()?);
    }
    room.low = next;
    Some(Section { address, bytes })
}
