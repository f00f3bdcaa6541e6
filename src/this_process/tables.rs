//! Unwind information compiled to tables.

use std::collections::HashMap;
use std::ops::ControlFlow;
use surestack_capture::ARCH;
use surestack_cfi::{Function, Header};
use surestack_fast::{PAGE, Packed, Ruled, Table};
use surestack_walk::{Section, UnwindSections};

/// Why a module has no table. Its frames are found by the unwind information itself, as long as that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTable {
    /// There is no unwind information, or none with a search table.
    Nothing,
    /// The search table is not sorted.
    Unsorted,
    /// It covers more code, or has more rows or rules, than a table has room for.
    TooLarge,
    /// Its file is gone or is another one, so that nobody can look for the code that is known by its bytes.
    NoFile,
}

/// A row of a table in the making: from where on, and what.
struct Begins {
    at: u64,
    ruled: Ruled,
}

/// Compiles unwind information. `asks` says of a range of linked addresses whether code in it is known by its bytes. The
/// table is never given back.
///
/// # Errors
/// Why there is none.
pub fn compile(unwind: &UnwindSections<'_>, asks: impl Fn(u64, u64) -> bool) -> Result<Table<'static>, NoTable> {
    let section = unwind.eh_frame.ok_or(NoTable::Nothing)?;
    let header = unwind.eh_frame_hdr.and_then(Header::parse).ok_or(NoTable::Nothing)?;
    let pairs: Vec<(u64, u64)> = header.pairs().collect();
    if !pairs.is_sorted_by_key(|(start, _)| *start) {
        return Err(NoTable::Unsorted);
    }
    let mut rows = Rows { rows: vec![] };
    for (index, &(start, fde)) in pairs.iter().enumerate() {
        // The search finds the last entry that begins at or below an address, whatever else covers it.
        let next = pairs.get(index + 1).map_or(u64::MAX, |(next, _)| *next);
        if start < next {
            rows.of_entry(section, (start, fde), next, &asks);
        }
    }
    rows.packed()
}

struct Rows {
    rows: Vec<Begins>,
}

impl Rows {
    /// The rows of the entry at `fde`, which the search finds from `start` to `next`.
    fn of_entry(&mut self, section: Section<'_>, (start, fde): (u64, u64), next: u64, asks: impl Fn(u64, u64) -> bool) {
        let Ok(function) = Function::at(section, fde) else {
            return self.push(start, Ruled::Ask);
        };
        // What an entry does not cover that the search leads to it for is nobody's, but gimli's `.debug_frame`, which no
        // module of ours has in memory.
        let nobodys = |from, to| if asks(from, to) { Ruled::Ask } else { Ruled::Nothing };
        let (from, to) = (function.start.max(start), function.end.min(next));
        // An entry without code ends the one before it all the same.
        if from > start || from >= to {
            self.push(start, nobodys(start, if from < to { from } else { next }));
        }
        if from >= to {
            return;
        }
        let before = self.rows.len();
        let followed = function.rows(&mut |row| {
            if row.end > from && row.start < to {
                let rule = Packed::of_compact(row, &function, section.bytes, ARCH);
                self.push(row.start.max(from), Ruled::Rule(rule));
            }
            ControlFlow::Continue(())
        });
        if followed.is_err() || asks(function.start, function.end) {
            self.rows.truncate(before);
            self.push(from, Ruled::Ask);
        }
        if to < next {
            self.push(to, nobodys(to, next));
        }
    }

    fn push(&mut self, at: u64, ruled: Ruled) {
        match self.rows.last_mut() {
            Some(last) if last.at == at => last.ruled = ruled,
            Some(last) if last.ruled == ruled => {}
            _ => self.rows.push(Begins { at, ruled }),
        }
    }

    fn packed(self) -> Result<Table<'static>, NoTable> {
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else { return Err(NoTable::Nothing) };
        let base = first.at & !(PAGE - 1);
        let count = usize::try_from((last.at - base) / PAGE + 1).map_err(|_| NoTable::TooLarge)?;
        // As much as the largest libraries have, and not what a broken table says.
        if count > 1 << 22 {
            return Err(NoTable::TooLarge);
        }
        let (mut pages, mut starts, mut rules, mut distinct) = (vec![], vec![], vec![], vec![]);
        let mut places: HashMap<Ruled, u16> = HashMap::new();
        for Begins { at, ruled } in &self.rows {
            let offset = at - base;
            let page = usize::try_from(offset / PAGE).map_err(|_| NoTable::TooLarge)?;
            let row = u32::try_from(starts.len()).map_err(|_| NoTable::TooLarge)?;
            pages.resize(pages.len().max(page + 1), row);
            starts.push(u8::try_from(offset % PAGE).map_err(|_| NoTable::TooLarge)?);
            let next = u16::try_from(places.len()).map_err(|_| NoTable::TooLarge)?;
            rules.push(*places.entry(*ruled).or_insert_with(|| {
                distinct.push(ruled.bits());
                next
            }));
        }
        pages.push(u32::try_from(starts.len()).map_err(|_| NoTable::TooLarge)?);
        Ok(Table { base, pages: pages.leak(), starts: starts.leak(), rules: rules.leak(), distinct: distinct.leak() })
    }
}
