//! One unit of debug information, read as far as an address needs.
//!
//! ```text
//!   address ─► subprogram with code there ─► inlined subroutines in it with code there ─► their names, by references
//!          └─► row of the line program
//! ```

use super::Location;
use super::lines::{self, Lines};
use super::sections::Slice;
use gimli::{
    Abbreviation, Abbreviations, AttributeValue, DebugInfoOffset, DwLang, Dwarf, EntriesRaw, Range, UnitHeader,
    UnitOffset, UnitRef,
};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

/// More references from entry to entry than this are not believed.
const HOPS: usize = 16;

type Entries<'a, 's> = EntriesRaw<'a, Slice<'s>>;

/// A unit.
pub(super) struct Unit<'s> {
    dwarf: Rc<Dwarf<Slice<'s>>>,
    unit: gimli::Unit<Slice<'s>>,
    language: Option<DwLang>,
    parts: OnceCell<Option<Vec<Part>>>,
    lines: OnceCell<Option<Lines>>,
}

/// Code of a function.
struct Part {
    start: u64,
    end: u64,
    function: UnitOffset,
}

/// A function at an address, inlined or not.
pub(super) struct Call<'s> {
    /// Its entry, if there is one.
    pub entry: Option<UnitOffset>,
    /// Its name, mangled where it has such a name.
    pub name: Option<Slice<'s>>,
    /// The place in it.
    pub location: Option<Location>,
}

/// Finds another unit of the same file: the one that covers an offset in `.debug_info`.
pub(super) type Others<'a, 's> = &'a dyn Fn(DebugInfoOffset) -> Option<Rc<Unit<'s>>>;

impl<'s> Unit<'s> {
    /// The unit with this header; none when its code is described in another file.
    pub fn of(
        dwarf: Rc<Dwarf<Slice<'s>>>,
        header: UnitHeader<Slice<'s>>,
        abbreviations: Arc<Abbreviations>,
    ) -> Option<Self> {
        let unit = gimli::Unit::new_with_abbreviations(&dwarf, header, abbreviations).ok()?;
        if unit.dwo_id.is_some() {
            return None;
        }
        let root = unit.entry(unit.header.root_offset()).ok()?;
        let language = match root.attr_value(gimli::DW_AT_language) {
            Some(AttributeValue::Language(language)) => Some(language),
            _ => None,
        };
        Some(Self { dwarf, unit, language, parts: OnceCell::new(), lines: OnceCell::new() })
    }

    /// The unit, to be read by others.
    pub fn entries(&self) -> UnitRef<'_, Slice<'s>> {
        self.unit.unit_ref(&self.dwarf)
    }

    /// The language it is written in.
    pub fn language(&self) -> Option<DwLang> {
        self.language
    }

    /// The functions at a linked address: innermost first, each but the first where it calls the one before. Only a place,
    /// where there is no function.
    pub fn find(&self, linked: u64, others: Others<'_, 's>) -> Option<Vec<Call<'s>>> {
        let parts = self.parts.get_or_init(|| self.read_parts().ok()).as_deref()?;
        let lines = self.lines.get_or_init(|| Lines::read(self.entries()).ok()).as_ref()?;
        let mut location = lines.find(self.entries(), linked);
        let after = parts.partition_point(|part| part.start <= linked);
        let part = after.checked_sub(1).and_then(|last| parts.get(last)).filter(|part| linked < part.end);
        let Some(part) = part else {
            return Some(
                location
                    .map(|location| Call { entry: None, name: None, location: Some(location) })
                    .into_iter()
                    .collect(),
            );
        };
        let chain = self.chain(part.function, linked).ok()?;
        let mut calls = Vec::new();
        for entry in chain.into_iter().rev() {
            let caller = entry.called_from(self.entries());
            calls.push(Call { entry: Some(entry.at), name: self.name(&entry, others, HOPS), location });
            location = caller;
        }
        Some(calls)
    }

    /// The code of all functions, ascending.
    fn read_parts(&self) -> Result<Vec<Part>, gimli::Error> {
        let mut parts = Vec::new();
        let mut entries = self.unit.entries_raw(None)?;
        while !entries.is_empty() {
            let at = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            if abbreviation.tag() != gimli::DW_TAG_subprogram {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let entry = Entry::read(at, &mut entries, abbreviation)?;
            entry.code(self.entries(), |range| {
                parts.push(Part { start: range.begin, end: range.end, function: at });
            })?;
        }
        parts.sort_unstable_by_key(|part| part.start);
        Ok(parts)
    }

    /// The function and the inlined calls in it that have code at `linked`, outermost first.
    fn chain(&self, function: UnitOffset, linked: u64) -> Result<Vec<Entry<'s>>, gimli::Error> {
        let mut entries = self.unit.entries_raw(Some(function))?;
        let top = entries.next_depth();
        let mut chain = Vec::new();
        // The depth of the last one found, and of one whose children are nobody's business.
        let (mut last, mut hidden) = (top, None);
        while !entries.is_empty() {
            let (at, depth) = (entries.next_offset(), entries.next_depth());
            // Behind what covers it: nothing else does.
            if depth <= last && !chain.is_empty() {
                break;
            }
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            if hidden.is_some_and(|hidden| depth > hidden) {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            hidden = None;
            let (is_function, is_inlined) = (depth == top, abbreviation.tag() == gimli::DW_TAG_inlined_subroutine);
            if !is_function && !is_inlined {
                hidden = (abbreviation.tag() == gimli::DW_TAG_subprogram).then_some(depth);
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let entry = Entry::read(at, &mut entries, abbreviation)?;
            let mut covers = is_function;
            entry.code(self.entries(), |range| covers |= range.begin <= linked && linked < range.end)?;
            if covers {
                chain.push(entry);
                last = depth;
            } else {
                hidden = Some(depth);
            }
        }
        Ok(chain)
    }

    /// The name of a function: its own, or else that of the entry it refers to.
    fn name(&self, entry: &Entry<'s>, others: Others<'_, 's>, hops: usize) -> Option<Slice<'s>> {
        let text = |value: Option<AttributeValue<Slice<'s>>>| self.entries().attr_string(value?).ok();
        if let Some(name) = text(entry.linkage_name).or_else(|| text(entry.name)) {
            return Some(name);
        }
        let hops = hops.checked_sub(1)?;
        match entry.origin? {
            AttributeValue::UnitRef(at) => self.name(&self.entry(at)?, others, hops),
            AttributeValue::DebugInfoRef(at) => {
                let other = others(at)?;
                let at = at.to_unit_offset(&other.unit.header)?;
                other.name(&other.entry(at)?, others, hops)
            }
            _ => None,
        }
    }

    fn entry(&self, at: UnitOffset) -> Option<Entry<'s>> {
        let mut entries = self.unit.entries_raw(Some(at)).ok()?;
        let abbreviation = entries.read_abbreviation().ok()??;
        Entry::read(at, &mut entries, abbreviation).ok()
    }
}

/// What the entry of a function or of an inlined call says.
struct Entry<'s> {
    at: UnitOffset,
    low: Option<AttributeValue<Slice<'s>>>,
    high: Option<AttributeValue<Slice<'s>>>,
    ranges: Option<AttributeValue<Slice<'s>>>,
    linkage_name: Option<AttributeValue<Slice<'s>>>,
    name: Option<AttributeValue<Slice<'s>>>,
    origin: Option<AttributeValue<Slice<'s>>>,
    call_file: Option<u64>,
    call_line: u32,
    call_column: u32,
}

impl<'s> Entry<'s> {
    /// That says nothing.
    fn at(at: UnitOffset) -> Self {
        Self {
            at,
            low: None,
            high: None,
            ranges: None,
            linkage_name: None,
            name: None,
            origin: None,
            call_file: None,
            call_line: 0,
            call_column: 0,
        }
    }

    fn read(at: UnitOffset, entries: &mut Entries<'_, 's>, abbreviation: &Abbreviation) -> Result<Self, gimli::Error> {
        let mut entry = Self::at(at);
        let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            let value = Some(attribute.value());
            match attribute.name() {
                gimli::DW_AT_low_pc => entry.low = value,
                gimli::DW_AT_high_pc => entry.high = value,
                gimli::DW_AT_ranges => entry.ranges = value,
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => entry.linkage_name = value,
                gimli::DW_AT_name => entry.name = value,
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => entry.origin = value,
                gimli::DW_AT_call_file => {
                    if let AttributeValue::FileIndex(file) = attribute.value() {
                        entry.call_file = Some(file);
                    }
                }
                gimli::DW_AT_call_line => entry.call_line = small(attribute.udata_value()),
                gimli::DW_AT_call_column => entry.call_column = small(attribute.udata_value()),
                _ => {}
            }
        }
        Ok(entry)
    }

    /// Hands out where its code lies.
    fn code(&self, unit: UnitRef<'_, Slice<'s>>, mut each: impl FnMut(Range)) -> Result<(), gimli::Error> {
        if let Some(ranges) = self.ranges {
            let Some(at) = unit.attr_ranges_offset(ranges)? else { return Ok(()) };
            let mut ranges = unit.ranges(at)?;
            while let Some(range) = ranges.next()? {
                if range.begin < range.end {
                    each(range);
                }
            }
            return Ok(());
        }
        let address = |value: AttributeValue<Slice<'s>>| unit.attr_address(value);
        let Some(begin) = self.low.map(address).transpose()?.flatten() else { return Ok(()) };
        let end = match self.high {
            // Code that the linker left out may lie at the very end of the address space.
            Some(AttributeValue::Udata(size)) => begin.wrapping_add(size),
            Some(high) => address(high)?.unwrap_or(begin),
            None => begin,
        };
        if begin < end {
            each(Range { begin, end });
        }
        Ok(())
    }

    /// Where it was called, before it was inlined.
    fn called_from(&self, unit: UnitRef<'_, Slice<'s>>) -> Option<Location> {
        // Before DWARF 5 file 0 was none.
        let file = self.call_file.filter(|file| *file > 0 || unit.header.version() >= 5)?;
        lines::place(unit, file, self.call_line, self.call_column)
    }
}
