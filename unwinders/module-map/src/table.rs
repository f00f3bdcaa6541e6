//! One copy of the table: words that are each read and written whole, ascending, in blocks.
//!
//! The first block lies in the table itself, since most programs need no other. A search asks several words at once how far
//! they are below the address, and takes no branch on what it hears: addresses that nobody can foresee cost what those of
//! the last trace cost.

use crate::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, constant};
use crate::{Found, Record};
use core::hint::select_unpredictable;
use core::ptr;

/// Modules of a block: few for the model checker, which tries all orders of all loads.
const WIDTH: usize = if cfg!(loom) { 2 } else { 8 };

/// The start of no module: where a block is not full.
const NOBODY: u64 = u64::MAX;

/// Places for [`Block::MODULES`] modules. What it holds is only looked at while the latch says so.
#[derive(Debug)]
#[repr(align(64))]
pub struct Block {
    /// Ascending, [`NOBODY`] behind the last.
    starts: [AtomicU64; WIDTH],
    places: [Place; WIDTH],
}

/// What a place refers to where no module is.
static NOBODYS: Record = Record::EMPTY;

#[derive(Debug)]
struct Place {
    /// Zero where no module is.
    size: AtomicU64,
    /// A record that lives as long as the process.
    record: AtomicPtr<Record>,
}

impl Place {
    constant! {
        fn empty() -> Self {
            Self { size: AtomicU64::new(0), record: AtomicPtr::new(ptr::from_ref(&NOBODYS).cast_mut()) }
        }
    }

    #[inline]
    fn record(&self) -> &'static Record {
        let record = self.record.load(Ordering::Acquire);
        // SAFETY: only `empty` and `Block::put` write the pointer, of references that are good as long as the process.
        unsafe { &*record }
    }
}

impl Block {
    /// How many modules one has room for.
    pub const MODULES: usize = WIDTH;

    /// Room for modules, and none in it.
    #[cfg(not(loom))]
    pub const fn empty() -> Self {
        Self { starts: [const { AtomicU64::new(NOBODY) }; WIDTH], places: [const { Place::empty() }; WIDTH] }
    }

    /// Room for modules, and none in it.
    #[cfg(loom)]
    pub fn empty() -> Self {
        Self { starts: [(); WIDTH].map(|()| AtomicU64::new(NOBODY)), places: [(); WIDTH].map(|()| Place::empty()) }
    }

    /// Whether the module at a position, and with it all before, starts at or below `address`.
    #[inline]
    fn starts(&self, position: usize, address: u64) -> bool {
        self.starts.get(position % WIDTH).is_some_and(|start| start.load(Ordering::Relaxed) <= address)
    }

    /// The position of the last module that starts at or below `address`; the first where none does. The two steps wait
    /// for one word each.
    #[inline]
    fn last(&self, address: u64) -> usize {
        let at = |position| usize::from(self.starts(position, address));
        let half = if cfg!(loom) { 0 } else { 4 * at(4) };
        let others = if cfg!(loom) { 0 } else { at(half | 2) + at(half | 3) };
        half + at(half | 1) + others
    }

    /// Writes the next records, and that nobody follows. Returns how many there were.
    fn put(&self, records: &mut impl Iterator<Item = &'static Record>) -> usize {
        let mut written = 0usize;
        for (start, place) in self.starts.iter().zip(&self.places) {
            let record = records.next();
            start.store(record.map_or(NOBODY, |record| record.start), Ordering::Relaxed);
            place.size.store(record.map_or(0, |record| record.end.saturating_sub(record.start)), Ordering::Relaxed);
            if let Some(record) = record {
                // Release: the record was made before; whoever sees the pointer sees what it points at.
                place.record.store(ptr::from_ref(record).cast_mut(), Ordering::Release);
                written = written.saturating_add(1);
            }
        }
        written
    }
}

/// Places for modules beyond the first block. The length is fixed, and goes with the list: it is never read beyond its end,
/// whatever count is read beside it.
#[derive(Debug)]
pub struct Slots(pub &'static [Block]);

/// One copy.
#[derive(Debug)]
pub(crate) struct Table {
    first: Block,
    /// How many blocks hold modules, the first one too.
    used: AtomicUsize,
    more: AtomicPtr<Slots>,
    count: AtomicUsize,
}

impl Table {
    constant! {
        pub fn new(more: &'static Slots) -> Self {
            Self {
                first: Block::empty(),
                used: AtomicUsize::new(0),
                more: AtomicPtr::new(ptr::from_ref(more).cast_mut()),
                count: AtomicUsize::new(0),
            }
        }
    }

    #[inline]
    fn more(&self) -> &'static [Block] {
        let more = self.more.load(Ordering::Acquire);
        // SAFETY: only `new` and `move_to` write the pointer, of references that are good as long as the process.
        unsafe { &*more }.0
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        core::iter::once(&self.first).chain(self.more())
    }

    pub fn room(&self) -> usize {
        self.more().len().saturating_add(1).saturating_mul(WIDTH)
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed).min(self.room())
    }

    /// The module that covers `address`.
    #[inline]
    pub fn find(&self, address: u64) -> Option<Found> {
        let used = self.used.load(Ordering::Relaxed);
        let (number, block) = if used > 1 { self.block(used, address) } else { (0, &self.first) };
        let position = block.last(address) % WIDTH;
        let (start, place) = (block.starts.get(position)?, block.places.get(position)?);
        if address.wrapping_sub(start.load(Ordering::Relaxed)) >= place.size.load(Ordering::Relaxed) {
            return None;
        }
        Some(Found { index: number.wrapping_mul(WIDTH).wrapping_add(position), record: place.record() })
    }

    /// The last of the blocks that begins at or below `address`, and its number; the first where none does.
    #[inline]
    fn block(&self, used: usize, address: u64) -> (usize, &Block) {
        let more = self.more();
        let number =
            more.iter().take(used.wrapping_sub(1)).map(|block| usize::from(block.starts(0, address))).sum::<usize>();
        let block = more.get(number.saturating_sub(1)).unwrap_or(&self.first);
        (number, select_unpredictable(number == 0, &self.first, block))
    }

    /// The module at a position.
    pub fn at(&self, index: usize) -> Option<&'static Record> {
        let block = || match (index / WIDTH).checked_sub(1) {
            Some(number) => self.more().get(number),
            None => Some(&self.first),
        };
        if index < self.count() { block()?.places.get(index % WIDTH).map(Place::record) } else { None }
    }

    /// Writes as many records as there is room for.
    pub fn write(&self, records: &[&'static Record]) -> usize {
        let mut rest = records.iter().copied();
        let used = records.len().div_ceil(WIDTH).max(1);
        let written = self.blocks().take(used).map(|block| block.put(&mut rest)).sum();
        self.used.store(used, Ordering::Relaxed);
        self.count.store(written, Ordering::Relaxed);
        written
    }

    /// Takes another list, with what is in this one.
    pub fn move_to(&self, list: &'static Slots) -> usize {
        let mut kept = self
            .more()
            .iter()
            .flat_map(|block| &block.places)
            .map(Place::record)
            .take(self.count().saturating_sub(WIDTH));
        list.0.iter().for_each(|block| {
            block.put(&mut kept);
        });
        self.more.store(ptr::from_ref(list).cast_mut(), Ordering::Release);
        self.count()
    }
}
