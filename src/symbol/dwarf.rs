//! Names and lines from the debug information of one file.
//!
//! Building the whole of `addr2line`'s index parses the head of every unit, thousands in a C library. Where
//! `.debug_aranges`, or else the units' first entries, say which one an address belongs to, that unit alone is looked at.

use super::heads;
use super::qualify::qualified;
use super::ranges::{Covering, Ranges};
use super::sections::{Sections, Slice};
use super::split::Split;
use super::store::Store;
use super::unit::{Call, Unit};
use super::{Function, Location, Origin, Symbol, demangle};
use crate::image::Image;
use addr2line::{Context, LookupContinuation, LookupResult};
use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugAranges, DebugInfoOffset, DwLang, Dwarf,
    DwarfFileType, LittleEndian, SectionId, UnitHeader, UnitOffset, UnitRef,
};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// More calls inlined into each other than this are not believed.
const INLINED: usize = 256;

/// How long a table of abbreviations is taken to be at first.
const ABBREVIATIONS: usize = 4 << 10;

/// What it takes to read a unit.
struct Readable<'s> {
    dwarf: Rc<Dwarf<Slice<'s>>>,
    header: UnitHeader<Slice<'s>>,
    abbreviations: Arc<Abbreviations>,
}

/// The debug information of one file.
pub(super) struct Debug<'s> {
    sections: Sections<'s>,
    split: Split<'s>,
    aranges: OnceCell<Ranges>,
    /// Where `aranges` say nothing; none where not every unit can be understood by its head.
    heads: OnceCell<Option<Ranges>>,
    units: RefCell<HashMap<usize, Option<Rc<Unit<'s>>>>>,
    /// Where the units begin, and all of them to be read.
    whole: OnceCell<(Vec<usize>, Rc<Dwarf<Slice<'s>>>)>,
    index: OnceCell<Option<Rc<Context<Slice<'s>>>>>,
}

/// What debug information says about an address.
pub(super) struct Found {
    pub symbol: Symbol,
    /// Whether the function's own name lacks the scopes it is in: gcc gives functions that no other file can call no
    /// mangled name, but they have one in the symbol table.
    pub unscoped: bool,
}

impl<'s> Debug<'s> {
    /// The debug information in `image`, if it has any; `path` is where the module is.
    pub fn of(image: &'s Image, path: &Path, store: &'s Store) -> Option<Self> {
        let (_, size) = image.section_range(SectionId::DebugInfo.name())?;
        (size != 0).then(|| Self {
            sections: Sections::of(image, store),
            split: Split::of(path, store),
            aranges: OnceCell::new(),
            heads: OnceCell::new(),
            units: RefCell::default(),
            whole: OnceCell::new(),
            index: OnceCell::new(),
        })
    }

    /// The same, with everything indexed at once.
    #[cfg(test)]
    pub fn without_ranges(self) -> Self {
        Self { aranges: OnceCell::from(Ranges::default()), heads: OnceCell::from(None), ..self }
    }

    /// Whether everything had to be indexed.
    #[cfg(test)]
    pub fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    /// The functions and lines at a linked address.
    pub fn find(&self, linked: u64) -> Option<Found> {
        match self.covering(linked) {
            Some(Covering::Nobody) => return None,
            Some(Covering::Unit(unit)) => {
                if let Some(unit) = self.unit(unit) {
                    let calls = unit.find(linked, &|at| self.unit_around(at))?;
                    return named(calls, Some(unit.entries()), unit.language(), linked);
                }
            }
            Some(Covering::Several) | None => {}
        }
        let index = self.index.get_or_init(|| {
            let aranges = self.sections.bytes(SectionId::DebugAranges.name());
            let mut dwarf = self.whole();
            dwarf.debug_aranges = DebugAranges::new(aranges, LittleEndian);
            Context::from_dwarf(dwarf).ok().map(Rc::new)
        });
        self.look_up(index.as_ref()?, linked)
    }

    /// Which unit covers an address; none where only the whole can tell.
    fn covering(&self, linked: u64) -> Option<Covering> {
        let aranges = || DebugAranges::new(self.sections.bytes(SectionId::DebugAranges.name()), LittleEndian);
        let aranges = self.aranges.get_or_init(|| Ranges::of_aranges(aranges()));
        match aranges.covering(linked) {
            Covering::Nobody => {
                let heads = self.heads.get_or_init(|| heads::read(&self.whole(), aranges));
                heads.as_ref().map(|heads| heads.covering(linked))
            }
            covering => Some(covering),
        }
    }

    /// The unit that begins there, if it can be understood without the index of the whole file.
    fn unit(&self, offset: usize) -> Option<Rc<Unit<'s>>> {
        if let Some(known) = self.units.borrow().get(&offset) {
            return known.clone();
        }
        let unit = self.read_unit(offset).map(Rc::new);
        self.units.borrow_mut().insert(offset, unit.clone());
        unit
    }

    fn read_unit(&self, offset: usize) -> Option<Unit<'s>> {
        let Readable { dwarf, header, abbreviations } = if self.sections.is_unpacked_by_parts() {
            self.part(offset)?
        } else {
            let (_, dwarf) = self.all_units();
            let header = dwarf.debug_info.header_from_offset(DebugInfoOffset(offset)).ok()?;
            Readable { dwarf: Rc::clone(dwarf), header, abbreviations: dwarf.abbreviations(&header).ok()? }
        };
        // What the file shares with others is not looked up here, and a unit of DWARF 2 tells only one of its ranges: the
        // index of the whole file knows the others.
        if dwarf.sup().is_some() || header.version() < 3 {
            return None;
        }
        Unit::of(dwarf, header, abbreviations)
    }

    /// One unit, and no more of the large sections than it needs, if it does not refer to others.
    fn part(&self, offset: usize) -> Option<Readable<'s>> {
        let info = Slice::new(self.sections.unit(offset)?, LittleEndian);
        let mut dwarf = self.load(|id| match id {
            SectionId::DebugInfo => info,
            SectionId::DebugAbbrev | SectionId::DebugLine => Slice::default(),
            id => self.sections.needed(id),
        });
        let header = dwarf.units().next().ok()??;
        let table = header.debug_abbrev_offset().0;
        let mut size = ABBREVIATIONS;
        let abbreviations = loop {
            let end = table.checked_add(size)?;
            let section = self.sections.abbreviations_before(end)?;
            let read = DebugAbbrev::from(section).abbreviations(DebugAbbrevOffset(table));
            // Cut short, or broken.
            match read {
                Ok(read) => break read,
                Err(_) if section.len() >= end => size = size.checked_mul(2)?,
                Err(_) => return None,
            }
        };
        if refers_to_others(&dwarf, &abbreviations) {
            return None;
        }
        if let Some(at) = heads::lines(&header, &abbreviations) {
            dwarf.debug_line = self.sections.lines_with(at.0)?.into();
        }
        Some(Readable { dwarf: Rc::new(dwarf), header, abbreviations: Arc::new(abbreviations) })
    }

    /// The unit with the entry at an offset in `.debug_info`.
    fn unit_around(&self, at: DebugInfoOffset) -> Option<Rc<Unit<'s>>> {
        let (starts, _) = self.all_units();
        let after = starts.partition_point(|start| *start <= at.0);
        self.unit(*starts.get(after.checked_sub(1)?)?)
    }

    fn all_units(&self) -> &(Vec<usize>, Rc<Dwarf<Slice<'s>>>) {
        self.whole.get_or_init(|| {
            let dwarf = self.whole();
            let (mut starts, mut units) = (Vec::new(), dwarf.units());
            while let Ok(Some(header)) = units.next() {
                starts.extend(header.debug_info_offset().map(|offset| offset.0));
            }
            (starts, Rc::new(dwarf))
        })
    }

    /// All of it.
    pub fn whole(&self) -> Dwarf<Slice<'s>> {
        self.load(|id| self.sections.needed(id))
    }

    fn load(&self, section: impl Fn(SectionId) -> Slice<'s>) -> Dwarf<Slice<'s>> {
        let Ok(mut dwarf) = Dwarf::load::<_, std::convert::Infallible>(|id| Ok(section(id)));
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
        let (mut calls, mut language) = (Vec::new(), None);
        while calls.len() < INLINED
            && let Ok(Some(frame)) = frames.next()
        {
            language = frame.function.as_ref().and_then(|name| name.language).or(language);
            let name = frame.function.as_ref().map(|function| function.name);
            calls.push(Call { entry: frame.dw_die_offset, name, location: frame.location.as_ref().and_then(location) });
        }
        named(calls, unit, language, linked)
    }
}

/// What debug information says, from the entries of the functions at an address, innermost first.
fn named<'s>(
    calls: Vec<Call<'s>>,
    unit: Option<UnitRef<'_, Slice<'s>>>,
    language: Option<DwLang>,
    linked: u64,
) -> Option<Found> {
    let outermost = calls.last()?.entry;
    let (mut functions, mut unscoped) = (Vec::new(), false);
    for Call { entry, name, location } in calls.into_iter().take(INLINED) {
        let raw = name.map(|name| name.to_string_lossy());
        let plain = raw.as_deref().filter(|raw| language.is_some_and(is_scoped) && !raw.starts_with('_'));
        let scoped = plain.zip(entry).zip(unit);
        let scoped = scoped.and_then(|((raw, die), unit)| qualified(unit, die, raw));
        unscoped = plain.is_some() && scoped.is_none();
        // Assemblers describe functions too, and glibc's go by their internal names.
        let own = || raw.as_ref().map(|raw| demangle(raw.strip_prefix("__GI_").unwrap_or(raw)));
        functions.push(Function { name: scoped.or_else(own).unwrap_or_default(), location });
    }
    let start = unit.zip(outermost).and_then(|(unit, die)| first_byte(unit, die));
    let offset = start.and_then(|start| linked.checked_sub(start));
    Some(Found { symbol: Symbol { functions, offset, origin: Origin::Dwarf }, unscoped })
}

/// Whether functions of a language lie in namespaces.
fn is_scoped(language: DwLang) -> bool {
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
fn refers_to_others(dwarf: &Dwarf<Slice<'_>>, abbreviations: &Abbreviations) -> bool {
    if dwarf.file_type != DwarfFileType::Main || dwarf.sup().is_some() {
        return true;
    }
    // Compilers number them from 1 without gaps; with a gap the rest is not seen, so the unit is not taken alone.
    let mut codes = 1..;
    let mut seen = 0;
    while let Some(abbreviation) = codes.next().and_then(|code| abbreviations.get(code)) {
        seen += 1;
        if abbreviation.attributes().iter().any(|attribute| attribute.form() == gimli::DW_FORM_ref_addr) {
            return true;
        }
    }
    seen == 0
}
