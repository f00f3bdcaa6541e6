//! Our own modules, kept where a signal handler can read them.
//!
//! The loader says what is loaded (`dl_iterate_phdr`) and counts what came and went; [`refresh`] asks it, outside of any
//! handler. What unwinding needs of a module is copied: `dlclose` takes the original away under whoever reads it. Copies are
//! never given back, and shared by all loads of the same bytes at the same distances, so that a library that comes and goes
//! is copied once.

mod backtrace;
mod compiler;
mod copies;
mod known_code;
mod names;
pub(crate) mod room;
pub(crate) mod stacks;
mod symbols;
mod tables;
mod trace;

use copies::{Copied, Copies};
use findshlibs::{SharedLibrary, TargetSharedLibrary};
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use surestack_capture::Range;
use surestack_fast::Compiled;
use surestack_module_map::{Block, ModuleMap, Record, Slots, Symbols};

pub use backtrace::{Backtrace, Layers};
pub use compiler::CompiledModule;
pub use known_code::KnownCode;
pub use stacks::{KnownThread, know_this_thread};
pub use tables::{NoTable, compile};

pub use names::{Named, Names};
pub use trace::{Judged, Trace};

/// Blocks of modules that there is room for without making more.
const ROOM: usize = 256 / Block::MODULES;

static PLACES: [[Block; ROOM]; 2] = [const { [const { Block::empty() }; ROOM] }; 2];
static LISTS: [Slots; 2] = [Slots(&PLACES[0]), Slots(&PLACES[1])];
static MAP: ModuleMap = ModuleMap::new([&LISTS[0], &LISTS[1]]);
static REGISTRAR: Mutex<Option<Registrar>> = Mutex::new(None);

/// The map of our own modules: empty before the first [`refresh`].
pub fn modules() -> &'static ModuleMap {
    &MAP
}

/// What [`refresh`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// Whether anything was loaded or unloaded since the last time.
    pub changed: bool,
    /// How many modules there are.
    pub modules: usize,
}

/// Brings the map up to date with the loader. Takes the loader's lock and allocates: not for signal handlers.
pub fn refresh() -> Refreshed {
    let mut registrar = registrar();
    registrar.get_or_insert_default().refresh()
}

/// What [`prepare`] did.
#[derive(Debug)]
#[must_use = "this thread is forgotten when this is dropped"]
pub struct Prepared {
    /// The thread that prepared.
    pub thread: KnownThread,
    /// Whether tables are being compiled, or why not: then rules are found one by one.
    pub compiling: io::Result<()>,
}

/// Makes [`Backtrace`]s fast from the first on: modules, the memory they need, this thread's stacks; and tables, compiled by
/// a thread of their own. Not for signal handlers.
pub fn prepare() -> Prepared {
    refresh();
    touch_memory();
    let compiling = compiler::begin((0..).map_while(|index| MAP.at(index).ok()?));
    Prepared { thread: know_this_thread(), compiling }
}

/// Touches the memory that traces need: the first of them may be that of a process that gets no more.
pub(crate) fn touch_memory() {
    surestack_capture::CACHE.clear();
}

/// Waits until the modules that are known are compiled, and says what became of each. Nobody need do that.
pub fn tables() -> Vec<CompiledModule> {
    compiler::finished()
}

/// The same, but not where somebody else is at it: for places that must not wait, as in a child of `fork`, where that one
/// may be gone.
#[cfg(feature = "threads")]
pub(crate) fn refresh_if_free() {
    if let Ok(mut registrar) = REGISTRAR.try_lock() {
        registrar.get_or_insert_default().refresh();
    }
}

/// Where another enumeration of what is loaded (`findshlibs`) differs from the map: nowhere, right after a [`refresh`] and
/// while nothing is loaded. Each difference is a sentence.
pub fn differences() -> Vec<String> {
    let mut theirs: Vec<(u64, String)> = Vec::new();
    TargetSharedLibrary::each(|library| {
        let bias = u64::try_from(library.virtual_memory_bias().0).unwrap_or_default();
        theirs.push((bias, library.name().to_string_lossy().into_owned()));
    });
    let ours: Vec<(u64, &[u8])> =
        (0..).map_while(|index| MAP.at(index).ok()?).map(|record| (record.bias, record.path)).collect();
    let unknown = theirs.iter().filter(|(bias, _)| !ours.iter().any(|(own, _)| own == bias));
    let unknown = unknown.map(|(bias, name)| format!("{name}, with load bias {bias:#x}, is not in the map"));
    let gone = ours.iter().filter(|(own, _)| !theirs.iter().any(|(bias, _)| bias == own));
    let gone = gone.map(|(bias, path)| format!("{}, with load bias {bias:#x}, is not loaded", path.escape_ascii()));
    unknown.chain(gone).collect()
}

fn registrar() -> MutexGuard<'static, Option<Registrar>> {
    // Whoever panicked in between left the map whole.
    REGISTRAR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was registered so far.
#[derive(Default)]
struct Registrar {
    /// The loader's counts of what it loaded and unloaded.
    counts: Option<Counts>,
    /// What was loaded then, in the loader's order.
    loaded: Vec<Loaded>,
    records: HashMap<Key, &'static Record>,
    copies: Copies,
    symbols: HashMap<(Vec<u8>, &'static [u8]), Option<Symbols>>,
    tables: HashMap<Copied, &'static Compiled>,
}

/// How many modules the loader loaded and unloaded so far. It changes both under the lock that it enumerates under.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counts {
    loaded: u64,
    unloaded: u64,
}

impl Counts {
    /// Whether a module of this enumeration is the one that had its place in an `earlier` one. If none was loaded since,
    /// whoever is there was there then; if none was unloaded, whoever was there still has its place. Where both happened,
    /// another module may lie where one was.
    fn know_by_place(self, earlier: Self) -> bool {
        self.loaded == earlier.loaded || self.unloaded == earlier.unloaded
    }
}

/// A module of the last enumeration.
#[derive(Clone, Copy)]
struct Loaded {
    /// Where its program headers are: in memory of its own, as long as it is loaded.
    headers: *const libc::Elf64_Phdr,
    bias: u64,
    record: Option<&'static Record>,
}

// SAFETY: the pointer is only compared.
unsafe impl Send for Loaded {}

/// What makes two loads of a module the same for a reader.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    path: Vec<u8>,
    bias: u64,
    copied: Copied,
}

impl Registrar {
    fn refresh(&mut self) -> Refreshed {
        let mut visit = Visit { registrar: self, loaded: Vec::new(), counts: None };
        // SAFETY: the callback is called before this returns, with a pointer to `visit`, which nothing else uses meanwhile.
        unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut visit).cast::<c_void>()) };
        let Visit { loaded, counts, .. } = visit;
        if counts.is_some() && counts == self.counts {
            return Refreshed { changed: false, modules: MAP.count().unwrap_or(0) };
        }
        let mut found: Vec<&'static Record> = loaded.iter().filter_map(|module| module.record).collect();
        found.sort_by_key(|record| record.start);
        if found.len() > MAP.room() {
            MAP.move_to([(), ()].map(|()| longer(found.len())));
        }
        (self.counts, self.loaded) = (counts, loaded);
        let modules = MAP.write(&found);
        surestack_capture::CACHE.changed(MAP.generation());
        find_lasting(&found);
        Refreshed { changed: true, modules }
    }

    /// What the last enumeration had at this place, if that is the same module still. Modules keep their order: the search
    /// begins where the one before would have ended.
    fn known(
        &self,
        now: Option<Counts>,
        position: usize,
        headers: *const libc::Elf64_Phdr,
        bias: u64,
    ) -> Option<Loaded> {
        if !now?.know_by_place(self.counts?) {
            return None;
        }
        let (before, after) = self.loaded.split_at(position.min(self.loaded.len()));
        after.iter().chain(before).find(|module| module.headers == headers && module.bias == bias).copied()
    }

    /// The record of a module that is loaded now.
    fn record(&mut self, path: &[u8], bias: u64, headers: &[libc::Elf64_Phdr]) -> Option<&'static Record> {
        // SAFETY: the loader calls back for modules that are mapped, and unloads none until it is answered.
        let copied = unsafe { self.copies.of(bias, headers) }?;
        let key = Key { path: path.to_owned(), bias, copied };
        let record = self.records.entry(key).or_insert_with_key(|key| {
            let file = (path.to_owned(), key.copied.build_id());
            let symbols = *self.symbols.entry(file).or_insert_with_key(|(path, build_id)| symbols::of(path, build_id));
            let path = Box::leak(key.path.clone().into_boxed_slice());
            let table = self.tables.entry(key.copied.clone()).or_insert_with(|| Box::leak(Box::default()));
            let record: &'static Record =
                Box::leak(Box::new(Record { symbols, table: Some(table), ..key.copied.record(bias, path) }));
            compiler::wants(record);
            record
        });
        Some(record)
    }
}

/// Makes the C library's code known as code that is never unmapped: we need it ourselves.
fn find_lasting(modules: &[&'static Record]) {
    let sigaction: unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int = libc::sigaction;
    let Ok(at) = u64::try_from((sigaction as *const ()).addr()) else { return };
    let code = modules.iter().flat_map(|record| record.code).find(|(low, high)| (*low..*high).contains(&at));
    if let Some(&(low, high)) = code {
        // SAFETY: the segment that has `sigaction`, which this code is linked to.
        unsafe { surestack_capture::lasts(Range { low, high }) };
    }
}

/// Lists for twice as many modules.
fn longer(modules: usize) -> &'static Slots {
    let blocks = modules.saturating_mul(2).div_ceil(Block::MODULES);
    let blocks: Vec<Block> = (0..blocks).map(|_| Block::empty()).collect();
    Box::leak(Box::new(Slots(Box::leak(blocks.into_boxed_slice()))))
}

/// One enumeration of the loader's.
struct Visit<'r> {
    registrar: &'r mut Registrar,
    loaded: Vec<Loaded>,
    counts: Option<Counts>,
}

/// Takes one module. Returns whether that was enough.
unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, size: usize, visit: *mut c_void) -> c_int {
    // SAFETY: as `Registrar::refresh` passes them.
    let (info, visit) = unsafe { (&*info, &mut *visit.cast::<Visit<'_>>()) };
    // Older loaders do not count.
    if size >= size_of::<libc::dl_phdr_info>() && visit.counts.is_none() {
        visit.counts = Some(Counts { loaded: info.dlpi_adds, unloaded: info.dlpi_subs });
        if visit.counts == visit.registrar.counts {
            return 1;
        }
    }
    let (headers, bias) = (info.dlpi_phdr, info.dlpi_addr);
    if headers.is_null() {
        return 0;
    }
    if let Some(known) = visit.registrar.known(visit.counts, visit.loaded.len(), headers, bias) {
        visit.loaded.push(known);
        return 0;
    }
    // SAFETY: the loader says where the headers are, and how many.
    let listed = unsafe { std::slice::from_raw_parts(headers, usize::from(info.dlpi_phnum)) };
    // SAFETY: null or a string of the loader's.
    let path = if info.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(info.dlpi_name) } };
    let record = visit.registrar.record(path.to_bytes(), bias, listed);
    visit.loaded.push(Loaded { headers, bias, record });
    0
}
