//! Mappings from several sources, of which the better one has each address.

use super::contents::RecordedMapping;
use crate::snapshot::Mapped;
use std::ops::Range;
use surestack_walk::Stack;

/// The mappings that the kernel's list gave.
pub(super) fn known(recorded: Vec<RecordedMapping>) -> Vec<Mapped> {
    const WRITE: u8 = 2;
    const EXECUTE: u8 = 4;
    let mapped = |mapping: RecordedMapping| Mapped {
        start: mapping.low,
        end: mapping.high,
        executable: Some(mapping.permissions & EXECUTE != 0),
        writable: Some(mapping.permissions & WRITE != 0),
        file: mapping.has_file.then_some((mapping.path, mapping.offset)),
        probe: None,
    };
    apart(recorded.into_iter().map(mapped).collect())
}

/// What a stack is mapped as.
pub(super) fn stack(stack: Stack) -> Mapped {
    let (executable, writable) = (Some(false), Some(true));
    Mapped { start: stack.low, end: stack.high, executable, writable, file: None, probe: None }
}

/// `over`, which are ascending and do not overlap, and what of `below` they leave free.
pub(super) fn under(over: Vec<Mapped>, below: Vec<Mapped>) -> Vec<Mapped> {
    let mut free = vec![];
    for mapped in apart(below) {
        let mut at = mapped.start;
        let first = over.partition_point(|upper| upper.end <= at);
        let uppers = over.get(first..).unwrap_or_default().iter().take_while(|upper| upper.start < mapped.end);
        for upper in uppers {
            free.extend(part(&mapped, at, upper.start));
            at = upper.end;
        }
        free.extend(part(&mapped, at, mapped.end));
    }
    let mut all = over;
    all.append(&mut free);
    all.sort_by_key(|mapped| mapped.start);
    all
}

/// Ranges, ascending, those that touch as one.
pub(super) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| range.start);
    let mut all: Vec<Range<u64>> = vec![];
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

/// Ascending; of two that overlap the lower one has it.
fn apart(mut mappings: Vec<Mapped>) -> Vec<Mapped> {
    mappings.sort_by_key(|mapped| (mapped.start, mapped.end));
    let mut last = 0;
    let parts = mappings.into_iter().filter_map(|mapped| {
        let free = part(&mapped, mapped.start.max(last), mapped.end)?;
        last = free.end;
        Some(free)
    });
    parts.collect()
}

/// A part of a mapping; nothing where it is empty.
fn part(mapped: &Mapped, start: u64, end: u64) -> Option<Mapped> {
    let skipped = start.checked_sub(mapped.start)?;
    let file = mapped.file.clone().map(|(path, offset)| (path, offset.saturating_add(skipped)));
    (start < end).then(|| Mapped { start, end, file, ..mapped.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(start: u64, end: u64, name: &str) -> Mapped {
        let file = Some((name.into(), 0));
        Mapped { start, end, executable: None, writable: None, file, probe: None }
    }

    fn drawn(mappings: &[Mapped]) -> Vec<String> {
        let name = |mapped: &Mapped| mapped.file.as_ref().map(|(path, offset)| format!("{}+{offset}", path.display()));
        mappings.iter().map(|one| format!("{}-{} {}", one.start, one.end, name(one).unwrap())).collect()
    }

    #[test]
    fn what_is_above_has_the_address_and_the_rest_shows_around_it() {
        let over = apart(vec![mapped(20, 30, "over"), mapped(50, 60, "over")]);
        let all = under(over, vec![mapped(10, 55, "under"), mapped(60, 70, "under")]);
        assert_eq!(drawn(&all), ["10-20 under+0", "20-30 over+0", "30-50 under+20", "50-60 over+0", "60-70 under+0"]);
    }

    #[test]
    fn of_two_that_overlap_the_lower_one_has_it() {
        let all = apart(vec![mapped(15, 30, "b"), mapped(10, 20, "a"), mapped(12, 14, "c"), mapped(9, 9, "d")]);
        assert_eq!(drawn(&all), ["10-20 a+0", "20-30 b+5"]);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(joined(vec![5..7, 1..3, 3..4, 6..9, 8..8]), [1..4, 5..9]);
    }
}
