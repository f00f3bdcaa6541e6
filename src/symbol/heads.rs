//! The code of units by their first entries alone.
//!
//! `addr2line`'s index of a file reads of each unit all abbreviations and the head of its line program, which is most of
//! what it costs. Here one abbreviation is read, that of the unit itself, and of the unit nothing but its ranges.

use super::ranges::{Ranges, UnitRange};
use super::sections::Slice;
use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugAddrBase, DebugAddrIndex, DebugLineOffset,
    DebugRngListsBase, DebugRngListsIndex, Dwarf, LittleEndian, RangeListsOffset, Reader, Section, UnitHeader,
    UnitType,
};
use std::collections::HashSet;

/// The code of all units of `dwarf`; of those that have no ranges of their own, what `aranges` and the line program say.
/// `None` when a unit cannot be understood.
pub(super) fn read(dwarf: &Dwarf<Slice<'_>>, aranges: &Ranges) -> Option<Ranges> {
    let told: HashSet<usize> = aranges.units().collect();
    let mut ranges = Vec::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next().ok()? {
        let unit = header.debug_info_offset()?.0;
        if matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_)) {
            let head = Head::read(dwarf, &header)?;
            let code = head.code(dwarf, &header, told.contains(&unit))?;
            ranges.extend(code.into_iter().map(|range| UnitRange { start: range.begin, end: range.end, unit }));
        }
    }
    Some(Ranges::new(ranges))
}

/// What a unit's first entry says of its code.
#[derive(Default)]
struct Head {
    low: Option<Place>,
    high: Option<High>,
    ranges: Option<List>,
    lines: Option<DebugLineOffset>,
    addresses: Option<DebugAddrBase>,
    lists: Option<DebugRngListsBase>,
}

/// An address.
enum Place {
    Address(u64),
    Index(DebugAddrIndex),
}

/// Where code ends.
enum High {
    At(Place),
    Size(u64),
}

/// Where ranges are listed.
enum List {
    At(RangeListsOffset),
    Index(DebugRngListsIndex),
}

/// Where a unit's line program begins.
pub(super) fn lines(header: &UnitHeader<Slice<'_>>, abbreviations: &Abbreviations) -> Option<DebugLineOffset> {
    Head::decode(header, abbreviations)?.lines
}

impl Head {
    fn read(dwarf: &Dwarf<Slice<'_>>, header: &UnitHeader<Slice<'_>>) -> Option<Self> {
        let table = dwarf.debug_abbrev.reader().slice().get(header.debug_abbrev_offset().0..)?;
        let code = header.range_from(header.root_offset()..).ok()?.read_uleb128().ok()?;
        Self::decode(header, &abbreviation(table, code)?)
    }

    fn decode(header: &UnitHeader<Slice<'_>>, abbreviations: &Abbreviations) -> Option<Self> {
        let mut entries = header.entries_raw(abbreviations, None).ok()?;
        let mut head = Self::default();
        let abbreviation = entries.read_abbreviation().ok()??;
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification).ok()?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_low_pc, value) => head.low = Place::of(value),
                (gimli::DW_AT_high_pc, AttributeValue::Udata(size)) => head.high = Some(High::Size(size)),
                (gimli::DW_AT_high_pc, value) => head.high = Place::of(value).map(High::At),
                (gimli::DW_AT_ranges, AttributeValue::RangeListsRef(at)) => {
                    head.ranges = Some(List::At(RangeListsOffset(at.0)));
                }
                (gimli::DW_AT_ranges, AttributeValue::DebugRngListsIndex(index)) => {
                    head.ranges = Some(List::Index(index))
                }
                (gimli::DW_AT_ranges, _) => return None,
                (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(at)) => head.lines = Some(at),
                (_, AttributeValue::DebugAddrBase(base)) => head.addresses = Some(base),
                (_, AttributeValue::DebugRngListsBase(base)) => head.lists = Some(base),
                _ => {}
            }
        }
        Some(head)
    }

    /// Where the unit's code lies. `told` says that `.debug_aranges` knows, which counts for more than one range.
    fn code(&self, dwarf: &Dwarf<Slice<'_>>, header: &UnitHeader<Slice<'_>>, told: bool) -> Option<Vec<gimli::Range>> {
        let encoding = header.encoding();
        let addresses = self.addresses.unwrap_or(DebugAddrBase(0));
        let address = |place: &Place| match place {
            Place::Address(address) => Some(*address),
            Place::Index(index) => dwarf.debug_addr.get_address(encoding.address_size, addresses, *index).ok(),
        };
        let low = match &self.low {
            Some(place) => Some(address(place)?),
            None => None,
        };
        if let Some(list) = &self.ranges {
            let at = match list {
                List::At(at) => *at,
                List::Index(index) => dwarf.ranges.get_offset(encoding, self.lists?, *index).ok()?,
            };
            let mut listed = dwarf.ranges.ranges(at, encoding, low.unwrap_or(0), &dwarf.debug_addr, addresses).ok()?;
            let mut code = Vec::new();
            while let Some(range) = listed.next().ok()? {
                code.push(range);
            }
            return Some(code);
        }
        if told {
            return Some(Vec::new());
        }
        if let Some((low, high)) = low.zip(self.high.as_ref()) {
            let end = match high {
                High::At(place) => address(place)?,
                High::Size(size) => low.checked_add(*size)?,
            };
            return Some(vec![gimli::Range { begin: low, end }]);
        }
        let Some(at) = self.lines else { return Some(Vec::new()) };
        sequences(dwarf, at, encoding.address_size)
    }
}

impl Place {
    fn of(value: AttributeValue<Slice<'_>>) -> Option<Self> {
        match value {
            AttributeValue::Addr(address) => Some(Self::Address(address)),
            AttributeValue::DebugAddrIndex(index) => Some(Self::Index(index)),
            _ => None,
        }
    }
}

/// One abbreviation of a table, alone.
fn abbreviation(table: &[u8], wanted: u64) -> Option<Abbreviations> {
    let mut rest = Slice::new(table, LittleEndian);
    loop {
        let start = table.len().checked_sub(rest.len())?;
        let code = rest.read_uleb128().ok().filter(|code| *code != 0)?;
        let (_tag, _children) = (rest.read_uleb128().ok()?, rest.read_u8().ok()?);
        loop {
            let (name, form) = (rest.read_uleb128().ok()?, rest.read_uleb128().ok()?);
            if name == 0 && form == 0 {
                break;
            }
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                rest.read_sleb128().ok()?;
            }
        }
        if code == wanted {
            let mut alone = table.get(start..table.len().checked_sub(rest.len())?)?.to_vec();
            alone.push(0);
            return DebugAbbrev::new(&alone, LittleEndian).abbreviations(DebugAbbrevOffset(0)).ok();
        }
    }
}

/// The code that a line program has lines for.
fn sequences(dwarf: &Dwarf<Slice<'_>>, at: DebugLineOffset, address_size: u8) -> Option<Vec<gimli::Range>> {
    let program = dwarf.debug_line.program(at, address_size, None, None).ok()?;
    let mut rows = program.rows();
    let (mut code, mut begin) = (Vec::new(), None);
    while let Some((_, row)) = rows.next_row().ok()? {
        let begun = *begin.get_or_insert(row.address());
        if row.end_sequence() {
            code.push(gimli::Range { begin: begun, end: row.address() });
            begin = None;
        }
    }
    Some(code)
}
