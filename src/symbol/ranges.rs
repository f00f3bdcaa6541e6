//! Which unit of a file's debug information an address belongs to.

use super::sections::Slice;
use gimli::DebugAranges;

/// Code, and where the unit it belongs to begins in `.debug_info`.
pub(super) struct UnitRange {
    pub start: u64,
    pub end: u64,
    pub unit: usize,
}

/// The code of units, ascending by its start.
#[derive(Default)]
pub(super) struct Ranges {
    ranges: Vec<UnitRange>,
    /// The highest end of each range and those before it.
    reach: Vec<u64>,
}

/// Who covers an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Covering {
    /// No unit.
    Nobody,
    /// The one that begins there.
    Unit(usize),
    /// More than one says so.
    Several,
}

impl Ranges {
    pub fn new(mut ranges: Vec<UnitRange>) -> Self {
        ranges.retain(|range| range.start < range.end);
        ranges.sort_unstable_by_key(|range| range.start);
        let mut highest = 0;
        let reach = ranges.iter().map(|range| {
            highest = range.end.max(highest);
            highest
        });
        Self { reach: reach.collect(), ranges }
    }

    /// What `.debug_aranges` says.
    pub fn of_aranges(aranges: DebugAranges<Slice<'_>>) -> Self {
        let mut ranges = Vec::new();
        let mut headers = aranges.headers();
        while let Ok(Some(header)) = headers.next() {
            let unit = header.debug_info_offset().0;
            let mut entries = header.entries();
            while let Ok(Some(entry)) = entries.next() {
                let gimli::Range { begin: start, end } = entry.range();
                ranges.push(UnitRange { start, end, unit });
            }
        }
        Self::new(ranges)
    }

    /// The unit that covers `linked`.
    pub fn covering(&self, linked: u64) -> Covering {
        let after = self.ranges.partition_point(|range| range.start <= linked);
        let below = self.ranges.iter().zip(&self.reach).take(after).rev();
        let mut found = Covering::Nobody;
        for (range, _) in below.take_while(|(_, reach)| linked < **reach) {
            match found {
                _ if linked >= range.end => {}
                Covering::Nobody => found = Covering::Unit(range.unit),
                Covering::Unit(unit) if unit == range.unit => {}
                _ => return Covering::Several,
            }
        }
        found
    }

    /// Where the units begin whose code is known, some more than once.
    pub fn units(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().map(|range| range.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(u64, u64, usize)]) -> Ranges {
        Ranges::new(of.iter().map(|&(start, end, unit)| UnitRange { start, end, unit }).collect())
    }

    #[test]
    fn a_range_inside_another_does_not_hide_it() {
        let ranges = ranges(&[(0x10, 0x100, 1), (0x20, 0x30, 2), (0x200, 0x210, 3)]);
        assert_eq!(ranges.covering(0x18), Covering::Unit(1));
        assert_eq!(ranges.covering(0x28), Covering::Several);
        assert_eq!(ranges.covering(0x30), Covering::Unit(1));
        assert_eq!(ranges.covering(0x100), Covering::Nobody);
        assert_eq!(ranges.covering(0x20f), Covering::Unit(3));
    }

    #[test]
    fn two_ranges_of_one_unit_are_one_answer_and_empty_ones_none() {
        let ranges = ranges(&[(0x10, 0x20, 1), (0x18, 0x28, 1), (0x30, 0x30, 2), (0x40, 0x38, 2)]);
        assert_eq!(ranges.covering(0x1a), Covering::Unit(1));
        assert_eq!(ranges.covering(0x30), Covering::Nobody);
        assert_eq!(ranges.covering(0x9), Covering::Nobody);
    }
}
