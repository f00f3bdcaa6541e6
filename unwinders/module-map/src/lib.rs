//! Which module an address belongs to, readable from a signal handler whatever it interrupted.
//!
//! There are two copies of the table and a sequence number, whose lowest bit says which copy is read (a *latch*, as
//! `Documentation/locking/seqlock.rst` of Linux has it). The writer always changes the copy that nobody begins to read:
//!
//! ```text
//!   sequence   readers use     the writer
//!   2n         copy 0          is away
//!   2n + 1     copy 1          changes copy 0
//!   2n + 2     copy 0          changes copy 1, and is away
//! ```
//!
//! Whoever interrupts the writer for ever, at any instruction, finds a copy that stands still. A reader that was itself
//! overtaken by two changes begins anew, three times at most; then it says so ([`Race`]).
//!
//! What a table leads to ([`Record`], the bytes of its unwind information) lives as long as the process: a module that is
//! unloaded takes nothing along that a reader may be in the middle of. The numbers that a reader saw may be of two tables
//! until the sequence number is read again; none of them is used before, but that no list is read beyond its end.
#![no_std]

mod atomic;
mod table;

use atomic::{AtomicU64, Ordering, constant, fence};
use surestack_fast::Compiled;
use surestack_walk::{Mapping, Module, Modules, UnwindSections};
use table::Table;
pub use table::{Block, Slots};

/// How often a look-up is begun.
const TRIES: usize = 3;

/// A module as it was when it was registered. Lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// First mapped address.
    pub start: u64,
    /// One past the last mapped address.
    pub end: u64,
    /// Load bias: mapped address minus linked address.
    pub bias: u64,
    /// Its unwind information: copies in storage that is never given back.
    pub unwind: UnwindSections<'static>,
    /// Its executable segments, ascending: first address and one past the last.
    pub code: &'static [(u64, u64)],
    /// Its path.
    pub path: &'static [u8],
    /// Its build ID; empty where it has none.
    pub build_id: &'static [u8],
    /// Its symbol table, where it has one that could be mapped.
    pub symbols: Option<Symbols>,
    /// Where its unwind information will be found compiled, if somebody does that.
    pub table: Option<&'static Compiled>,
}

impl Record {
    /// Of no module, and of nothing in it.
    pub const EMPTY: Self = Self {
        start: 0,
        end: 0,
        bias: 0,
        unwind: UnwindSections {
            eh_frame_hdr: None,
            eh_frame: None,
            debug_frame: None,
            debug_frame_hdr: None,
            text: None,
            got: None,
        },
        code: &[],
        path: &[],
        build_id: &[],
        symbols: None,
        table: None,
    };
}

/// Where a symbol table and its strings lie in our memory: mapped from a file, which may be cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Symbols {
    /// Address of the `Elf64_Sym` entries.
    pub table: u64,
    /// Bytes of them.
    pub size: u64,
    /// Address of their names.
    pub strings: u64,
    /// Bytes of them.
    pub strings_size: u64,
}

/// The map was changed again and again during a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race;

/// The map. One writer changes it, anybody may read it at any time.
#[derive(Debug)]
pub struct ModuleMap {
    sequence: AtomicU64,
    copies: [Table; 2],
}

impl ModuleMap {
    constant! {
        /// A map of nothing, in two lists of the same length.
        pub fn new(lists: [&'static Slots; 2]) -> Self {
            let [first, second] = lists;
            Self { sequence: AtomicU64::new(0), copies: [Table::new(first), Table::new(second)] }
        }
    }

    /// The module that covers `address`, and the generation of the map that says so.
    ///
    /// # Errors
    /// [`Race`] where the map was changed during each of three tries.
    #[inline]
    pub fn look_up(&self, address: u64) -> Result<(Option<Found>, u64), Race> {
        self.read(move |copy| copy.find(address))
    }

    /// How many modules there are.
    ///
    /// # Errors
    /// As [`ModuleMap::look_up`].
    pub fn count(&self) -> Result<usize, Race> {
        Ok(self.read(Table::count)?.0)
    }

    /// The module at a position, if there are so many.
    ///
    /// # Errors
    /// As [`ModuleMap::look_up`].
    pub fn at(&self, index: usize) -> Result<Option<&'static Record>, Race> {
        Ok(self.read(move |copy| copy.at(index))?.0)
    }

    /// Which list this is: another number after each change. One load.
    #[inline]
    pub fn generation(&self) -> u64 {
        // Acquire: who sees the number of a list that was written sees what was done before that.
        self.sequence.load(Ordering::Acquire)
    }

    /// Reads a copy that stood still meanwhile, and says in which generation.
    #[inline(always)]
    fn read<T>(&self, read: impl Fn(&Table) -> T + Copy) -> Result<(T, u64), Race> {
        match self.read_once(read) {
            Some(found) => Ok(found),
            None => self.read_again(read),
        }
    }

    #[inline(always)]
    fn read_once<T>(&self, read: impl Fn(&Table) -> T) -> Option<(T, u64)> {
        // Acquire: what was written before the copies changed places is seen.
        let before = self.sequence.load(Ordering::Acquire);
        let found = read(self.copy(before));
        // Whoever saw a word of a later change sees in the next load that the copies changed places before that. No
        // instruction on x86-64.
        fence(Ordering::Acquire);
        (self.sequence.load(Ordering::Relaxed) == before).then_some((found, before))
    }

    #[cold]
    fn read_again<T>(&self, read: impl Fn(&Table) -> T + Copy) -> Result<(T, u64), Race> {
        (1..TRIES).find_map(|_| self.read_once(read)).ok_or(Race)
    }

    /// How many modules there is room for. Whoever wants to write more makes longer lists first ([`ModuleMap::move_to`]).
    pub fn room(&self) -> usize {
        self.copies.iter().map(Table::room).min().unwrap_or(0)
    }

    /// Writes a new list of modules, ascending by their addresses and not overlapping. Says how many of them there was room
    /// for: all, if [`ModuleMap::room`] says so.
    ///
    /// No two threads may do so at once: whoever has the map sees to that. A handler may interrupt it at any instruction,
    /// and may never come back.
    pub fn write(&self, records: &[&'static Record]) -> usize {
        self.change(|copy| copy.write(records))
    }

    /// Makes longer lists, which take over what was in the others. Under the conditions of [`ModuleMap::write`].
    pub fn move_to(&self, lists: [&'static Slots; 2]) {
        let mut lists = lists.into_iter();
        self.change(|copy| lists.next().map_or(0, |list| copy.move_to(list)));
    }

    /// Does the same to both copies, one after the other.
    fn change(&self, mut change: impl FnMut(&Table) -> usize) -> usize {
        let [first, second] = &self.copies;
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // No word of the first copy changes before readers are sent to the second.
        fence(Ordering::SeqCst);
        change(first);
        // Release: who is sent back to the first copy finds it whole.
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        fence(Ordering::SeqCst);
        change(second)
    }

    #[inline]
    fn copy(&self, sequence: u64) -> &Table {
        let [first, second] = &self.copies;
        if sequence & 1 == 0 { first } else { second }
    }
}

/// A module that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its position among all.
    pub index: usize,
    /// What is known of it.
    pub record: &'static Record,
}

impl Found {
    /// What unwinders want to know of it.
    pub fn module(&self) -> Module<'static> {
        let Record { start, end, bias, unwind, .. } = *self.record;
        Module { index: self.index, start, end, bias, unwind }
    }
}

/// The map as one walk sees it: of modules it knows all, of other mappings nothing.
impl Modules for ModuleMap {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        self.look_up(address).ok()?.0.map(|found| found.module())
    }

    fn mapping(&self, address: u64) -> Mapping {
        match self.look_up(address) {
            Ok((Some(found), _)) => {
                let is_code = found.record.code.iter().any(|(start, end)| (*start..*end).contains(&address));
                if is_code { Mapping::Code } else { Mapping::Data }
            }
            Ok((None, _)) | Err(Race) => Mapping::Unknown,
        }
    }

    fn generation(&self) -> Option<u64> {
        Some(Self::generation(self))
    }
}
