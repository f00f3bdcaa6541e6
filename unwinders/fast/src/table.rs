//! Unwind information compiled: the packed rule of each address of a module.
//!
//! ```text
//!   linked address - base   │ page      │ in page │
//!                             │           └► starts[first..after]: the rows that begin in the page, ascending
//!                             └► pages[page], pages[page + 1]: first, after
//!   row ─► rules[row] ─► distinct[…]: the packed rule
//! ```
//!
//! A row takes three bytes, and a page of 256 bytes of code four.

use crate::Packed;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of code in a page.
pub const PAGE: u64 = 256;

/// The rules of one module.
#[derive(Clone, Copy, Debug)]
pub struct Table<'t> {
    /// Linked address of the first page, a multiple of [`PAGE`].
    pub base: u64,
    /// For each page the first row that begins in it; one more for the end.
    pub pages: &'t [u32],
    /// For each row where in its page it begins.
    pub starts: &'t [u8],
    /// For each row its place among the distinct rules.
    pub rules: &'t [u16],
    /// Distinct rules, as [`Ruled::bits`] gives them.
    pub distinct: &'t [u32],
}

/// What a table says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruled {
    /// The rule.
    Rule(Packed),
    /// There is none.
    Nothing,
    /// Only the unwind information, or the code, can tell.
    Ask,
}

impl Ruled {
    /// As a word of a table.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Rule(packed) => packed.bits(),
            Self::Nothing => u32::MAX,
            Self::Ask => u32::MAX - 1,
        }
    }

    const fn of(bits: u32) -> Self {
        match bits {
            u32::MAX => Self::Nothing,
            ASK => Self::Ask,
            bits => Self::Rule(Packed::from_bits(bits)),
        }
    }
}

const ASK: u32 = u32::MAX - 1;

impl Table<'_> {
    /// What it says of a linked address.
    pub fn look_up(&self, linked: u64) -> Ruled {
        let inside = || {
            let offset = linked.checked_sub(self.base)?;
            let page = usize::try_from(offset / PAGE).ok()?;
            let at = u8::try_from(offset % PAGE).ok()?;
            let &[first, after] = self.pages.get(page..)?.first_chunk::<2>()?;
            let (first, after) = (usize::try_from(first).ok()?, usize::try_from(after).ok()?);
            // The last one that begins at or before it; or the last one of the pages before.
            let before = self.starts.get(first..after)?.iter().filter(|start| **start <= at).count();
            let row = first.checked_add(before)?.checked_sub(1)?;
            let rule = usize::from(*self.rules.get(row)?);
            self.distinct.get(rule).copied()
        };
        inside().map_or(Ruled::Nothing, Ruled::of)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rules.len()
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        size_of_val(self.pages) + size_of_val(self.starts) + size_of_val(self.rules) + size_of_val(self.distinct)
    }
}

/// A table that is, or will be, compiled.
#[derive(Debug)]
pub struct Compiled(AtomicPtr<Table<'static>>);

impl Default for Compiled {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiled {
    /// Not yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// It is there now, for ever.
    pub fn publish(&self, table: &'static Table<'static>) {
        // Release: whoever sees the pointer sees the table.
        self.0.store(core::ptr::from_ref(table).cast_mut(), Ordering::Release);
    }

    /// The table, if it is there.
    #[inline]
    pub fn table(&self) -> Option<&'static Table<'static>> {
        let table = self.0.load(Ordering::Acquire);
        // SAFETY: null, or what `publish` was given, which lives for ever.
        unsafe { table.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Special;

    const A: Ruled = Ruled::Rule(Packed::special(Special::Signal));
    const B: Ruled = Ruled::Rule(Packed::special(Special::Outermost));

    /// Rows at 0x1010 (A), 0x1080 (B), 0x1300 (nothing), 0x1310 (ask).
    fn table() -> Table<'static> {
        static DISTINCT: [u32; 4] = [A.bits(), B.bits(), Ruled::Nothing.bits(), Ruled::Ask.bits()];
        Table {
            base: 0x1000,
            pages: &[0, 2, 2, 2, 4],
            starts: &[0x10, 0x80, 0, 0x10],
            rules: &[0, 1, 2, 3],
            distinct: &DISTINCT,
        }
    }

    #[test]
    fn a_row_holds_until_the_next_begins_over_pages_in_which_none_does() {
        let table = table();
        let expected = [
            (0x0fff, Ruled::Nothing),
            (0x1000, Ruled::Nothing),
            (0x1010, A),
            (0x107f, A),
            (0x1080, B),
            (0x10ff, B),
            (0x1200, B),
            (0x12ff, B),
            (0x1300, Ruled::Nothing),
            (0x1310, Ruled::Ask),
            (0x13ff, Ruled::Ask),
            (0x1400, Ruled::Nothing),
            (u64::MAX, Ruled::Nothing),
        ];
        for (address, ruled) in expected {
            assert_eq!(table.look_up(address), ruled, "{address:#x}");
        }
    }

    #[test]
    fn a_table_whose_parts_do_not_fit_says_nothing() {
        let table = Table { rules: &[9, 9], ..table() };
        assert!((0x1000..0x1400).all(|address| table.look_up(address) == Ruled::Nothing));
    }
}
