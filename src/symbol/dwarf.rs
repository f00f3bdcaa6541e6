//! Names and lines from the debug information of one file.
//!
//! Building the whole of `addr2line`'s index parses the head of every unit, thousands in a C library. Where
//! `.debug_aranges` says which unit an address belongs to, that unit alone is looked at.

use super::qualify::qualified;
use super::sections::{Sections, Slice};
use super::split::Split;
use super::store::Store;
use super::{Function, Location, Origin, Symbol, demangle};
use crate::image::Image;
use addr2line::{Context, LookupContinuation, LookupResult};
use gimli::{AttributeValue, DebugAranges, Dwarf, DwarfFileType, LittleEndian, SectionId, UnitOffset, UnitRef};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// More calls inlined into each other than this are not believed.
const INLINED: usize = 256;

/// The debug information of one file.
pub(super) struct Debug<'s> {
    sections: Sections<'s>,
    split: Split<'s>,
    ranges: OnceCell<Vec<UnitRange>>,
    units: RefCell<HashMap<usize, Option<Rc<Context<Slice<'s>>>>>>,
    index: OnceCell<Option<Rc<Context<Slice<'s>>>>>,
}

/// What debug information says about an address.
pub(super) struct Found {
    pub symbol: Symbol,
    /// Whether the function's own name lacks the scopes it is in: gcc gives functions that no other file can call no
    /// mangled name, but they have one in the symbol table.
    pub unscoped: bool,
}

/// Code, and where the unit it belongs to begins in `.debug_info`.
struct UnitRange {
    start: u64,
    end: u64,
    unit: usize,
}

impl<'s> Debug<'s> {
    /// The debug information in `image`, if it has any; `path` is where the module is.
    pub fn of(image: &'s Image, path: &Path, store: &'s Store) -> Option<Self> {
        let (_, size) = image.section_range(SectionId::DebugInfo.name())?;
        (size != 0).then(|| Self {
            sections: Sections::of(image, store),
            split: Split::of(path, store),
            ranges: OnceCell::new(),
            units: RefCell::default(),
            index: OnceCell::new(),
        })
    }

    /// The same, with everything indexed at once.
    #[cfg(test)]
    pub fn without_ranges(self) -> Self {
        Self { ranges: OnceCell::from(Vec::new()), ..self }
    }

    /// The functions and lines at a linked address.
    pub fn find(&self, linked: u64) -> Option<Found> {
        let ranges = self.ranges.get_or_init(|| self.read_ranges());
        let after = ranges.partition_point(|range| range.start <= linked);
        let covering = after.checked_sub(1).and_then(|last| ranges.get(last)).filter(|range| linked < range.end);
        if let Some(context) = covering.and_then(|range| self.unit(range.unit)) {
            return self.look_up(&context, linked);
        }
        let index = self.index.get_or_init(|| {
            let aranges = self.sections.bytes(SectionId::DebugAranges.name());
            let mut dwarf = self.whole();
            dwarf.debug_aranges = DebugAranges::new(aranges, LittleEndian);
            Context::from_dwarf(dwarf).ok().map(Rc::new)
        });
        self.look_up(index.as_ref()?, linked)
    }

    /// The index of `.debug_aranges`; ranges that overlap are left to the whole.
    fn read_ranges(&self) -> Vec<UnitRange> {
        let aranges = DebugAranges::new(self.sections.bytes(SectionId::DebugAranges.name()), LittleEndian);
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
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// The index of one unit, if it can be understood without the others.
    fn unit(&self, offset: usize) -> Option<Rc<Context<Slice<'s>>>> {
        if let Some(known) = self.units.borrow().get(&offset) {
            return known.clone();
        }
        let build = || {
            let dwarf = self.dwarf(Slice::new(self.sections.unit(offset)?, LittleEndian));
            let header = dwarf.units().next().ok()??;
            // A unit of DWARF 2 tells only one of its ranges; the index of the whole file knows the others.
            if header.version() < 3 || refers_to_others(&dwarf, &header)? {
                return None;
            }
            Context::from_dwarf(dwarf).ok().map(Rc::new)
        };
        let context = build();
        self.units.borrow_mut().insert(offset, context.clone());
        context
    }

    /// All of it.
    pub fn whole(&self) -> Dwarf<Slice<'s>> {
        self.dwarf(Slice::new(self.sections.bytes(SectionId::DebugInfo.name()), LittleEndian))
    }

    fn dwarf(&self, info: Slice<'s>) -> Dwarf<Slice<'s>> {
        let section = |id| Ok(if id == SectionId::DebugInfo { info } else { self.sections.needed(id) });
        let Ok(mut dwarf) = Dwarf::load::<_, std::convert::Infallible>(section);
        if let Some(shared) = self.split.shared(self.sections.image) {
            dwarf.set_sup(shared);
        }
        dwarf
    }

    fn look_up(&self, context: &Context<Slice<'s>>, linked: u64) -> Option<Found> {
        let mut result = context.find_frames(linked);
        let mut frames = loop {
            match result {
                LookupResult::Output(frames) => break frames.ok()?,
                LookupResult::Load { load, continuation } => result = continuation.resume(self.split.load(&load)),
            }
        };
        let unit = context.find_dwarf_and_unit(linked).skip_all_loads();
        let mut functions = Vec::new();
        let (mut outermost, mut unscoped) = (None, false);
        while functions.len() < INLINED
            && let Ok(Some(frame)) = frames.next()
        {
            outermost = frame.dw_die_offset;
            let raw = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            let language = frame.function.as_ref().and_then(|name| name.language);
            let plain = raw.as_deref().filter(|raw| language.is_some_and(is_scoped) && !raw.starts_with('_'));
            let scoped = plain.zip(frame.dw_die_offset).zip(unit);
            let scoped = scoped.and_then(|((raw, die), unit)| qualified(unit, die, raw));
            unscoped = plain.is_some() && scoped.is_none();
            // Assemblers describe functions too, and glibc's go by their internal names.
            let own = || raw.as_ref().map(|raw| demangle(raw.strip_prefix("__GI_").unwrap_or(raw)));
            let name = scoped.or_else(own).unwrap_or_default();
            functions.push(Function { name, location: frame.location.as_ref().and_then(location) });
        }
        if functions.is_empty() {
            return None;
        }
        let start = unit.zip(outermost).and_then(|(unit, die)| first_byte(unit, die));
        let offset = start.and_then(|start| linked.checked_sub(start));
        Some(Found { symbol: Symbol { functions, offset, origin: Origin::Dwarf }, unscoped })
    }
}

/// Whether functions of a language lie in namespaces.
fn is_scoped(language: gimli::DwLang) -> bool {
    use gimli as dw;
    matches!(
        language,
        dw::DW_LANG_C_plus_plus
            | dw::DW_LANG_C_plus_plus_03
            | dw::DW_LANG_C_plus_plus_11
            | dw::DW_LANG_C_plus_plus_14
            | dw::DW_LANG_C_plus_plus_17
            | dw::DW_LANG_C_plus_plus_20
    )
}

fn location(found: &addr2line::Location<'_>) -> Option<Location> {
    // 0 says that there is none.
    let known = |number: &u32| *number != 0;
    let (line, column) = (found.line.filter(known), found.column.filter(known));
    Some(Location { file: PathBuf::from(found.file?), line, column })
}

/// Where a function begins; none for a part of it that lies elsewhere (`.cold`).
fn first_byte(unit: UnitRef<'_, Slice<'_>>, die: UnitOffset) -> Option<u64> {
    let entry = unit.entry(die).ok()?;
    let value = [gimli::DW_AT_entry_pc, gimli::DW_AT_low_pc].into_iter().find_map(|name| entry.attr_value(name));
    match value {
        Some(AttributeValue::Addr(address)) => Some(address),
        Some(AttributeValue::DebugAddrIndex(index)) => unit.address(index).ok(),
        // The first range is the one with the entry.
        _ => unit.die_ranges(&entry).ok()?.next().ok()?.map(|range| range.begin),
    }
}

/// Whether a unit may refer to entries of another one, by the forms in its abbreviations.
fn refers_to_others(dwarf: &Dwarf<Slice<'_>>, header: &gimli::UnitHeader<Slice<'_>>) -> Option<bool> {
    if dwarf.file_type != DwarfFileType::Main || dwarf.sup().is_some() {
        return Some(true);
    }
    let abbreviations = dwarf.abbreviations(header).ok()?;
    // Compilers number them from 1 without gaps; with a gap the rest is not seen, so the unit is not taken alone.
    let mut codes = 1..;
    let mut seen = 0;
    while let Some(abbreviation) = codes.next().and_then(|code| abbreviations.get(code)) {
        seen += 1;
        if abbreviation.attributes().iter().any(|attribute| attribute.form() == gimli::DW_FORM_ref_addr) {
            return Some(true);
        }
    }
    Some(seen == 0)
}
