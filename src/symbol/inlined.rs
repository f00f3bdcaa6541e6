//! Into which functions others were inlined, by the debug information of one file.
//!
//! ```text
//!   subprogram "host", with code          ◄── is reported
//!     inlined_subroutine ─► subprogram "middle"
//!       inlined_subroutine ─► subprogram "wanted"
//! ```

use super::dwarf::Debug;
use super::sections::Slice;
use gimli::{AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, Unit, UnitOffset, UnitRef};
use std::collections::HashMap;
use std::ops::Range;

/// More references from entry to entry than this are not believed.
const HOPS: usize = 8;

type Entry<'s> = DebuggingInformationEntry<Slice<'s>>;

/// Which functions are looked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Linked addresses of their code.
    pub bodies: Vec<Range<u64>>,
    /// Their names, as compilers write them, of those that have no code of their own.
    pub names: Vec<String>,
    /// What debug information of another file says of them.
    pub sources: Vec<Source>,
}

/// A function as debug information knows it, in whichever file and unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    linkage_name: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    /// Source file, without directories, and line.
    place: Option<(Vec<u8>, u64)>,
    /// Whether it stands in a file that other units may have included.
    pub shared: bool,
}

/// What debug information says of the functions that are looked for.
#[derive(Clone, Debug, Default)]
pub struct Inlined {
    /// Functions with a copy of them in their code. Linked addresses.
    pub hosts: Vec<Host>,
    /// The code of those that are looked for.
    pub own: Vec<Range<u64>>,
    /// What the functions that are looked for are called here.
    pub sources: Vec<Source>,
    /// Code that is described, ascending.
    pub described: Vec<Range<u64>>,
    /// Why something may have been missed.
    pub missed: Option<&'static str>,
}

/// A function with the copy of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its code, in all its parts.
    pub ranges: Vec<Range<u64>>,
    /// Its name, as the source has it.
    pub name: String,
}

/// An entry's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Own(usize),
    /// In the file that several files share (dwz).
    Shared(usize),
}

/// The units of a file, and of the one it shares with others.
struct Units<'d, 's> {
    own: &'d Dwarf<Slice<'s>>,
    units: Vec<(usize, Unit<Slice<'s>>)>,
    shared: Vec<(usize, Unit<Slice<'s>>)>,
}

/// Looks for `wanted` in all units.
pub(super) fn find(debug: &Debug<'_>, wanted: &Wanted) -> Inlined {
    let dwarf = debug.whole();
    let mut found = Inlined::default();
    let (units, whole) = units_of(&dwarf);
    let (shared, shared_whole) = dwarf.sup().map_or((vec![], true), units_of);
    if !whole || !shared_whole {
        found.missed = Some("its debug information is damaged");
    }
    let units = Units { own: &dwarf, units, shared };
    found.sources.clone_from(&wanted.sources);
    units.identify(wanted, &mut found);
    units.find_hosts(&mut found);
    found.described.sort_unstable_by_key(|range| range.start);
    found
}

/// The units of `.debug_info`, ascending, and whether those are all.
fn units_of<'s>(dwarf: &Dwarf<Slice<'s>>) -> (Vec<(usize, Unit<Slice<'s>>)>, bool) {
    let (mut units, mut headers) = (vec![], dwarf.units());
    loop {
        match headers.next() {
            Ok(Some(header)) => {
                let offset = header.debug_info_offset();
                match (offset, dwarf.unit(header)) {
                    (Some(offset), Ok(unit)) => units.push((offset.0, unit)),
                    _ => return (units, false),
                }
            }
            Ok(None) => return (units, true),
            Err(_) => return (units, false),
        }
    }
}

impl<'s> Units<'_, 's> {
    /// Learns what the wanted functions are called, and which code is described.
    fn identify(&self, wanted: &Wanted, found: &mut Inlined) {
        for (start, unit) in &self.units {
            let unit = unit.unit_ref(self.own);
            if unit.dwo_id.is_some() {
                found.missed = Some("its debug information is split into further files");
            }
            if is_assembly(unit) {
                found.described.extend(ranges(unit.unit_ranges().ok()));
            }
            let mut entries = unit.entries();
            while let Some(entry) = next(&mut entries, found) {
                if entry.tag() != gimli::DW_TAG_subprogram {
                    continue;
                }
                let code = ranges(unit.die_ranges(entry).ok());
                let meets = |own: &Range<u64>| wanted.bodies.iter().any(|b| b.start < own.end && own.start < b.end);
                let has_body = code.iter().any(meets);
                let source = || self.source(Place::Own(start.saturating_add(entry.offset().0)));
                let is_wanted = has_body || {
                    !wanted.names.is_empty() && source().is_some_and(|source| source.is_named(&wanted.names))
                };
                if is_wanted
                    && let Some(source) = source()
                    && !found.sources.contains(&source)
                {
                    found.sources.push(source);
                }
                if is_wanted {
                    found.own.extend(code.iter().cloned());
                }
                found.described.extend(code);
            }
        }
    }

    fn find_hosts(&self, found: &mut Inlined) {
        let mut known: HashMap<Place, bool> = HashMap::new();
        for (start, unit) in &self.units {
            let unit = unit.unit_ref(self.own);
            // Functions with code around the entry being looked at: depth, place, whether it is a host.
            let mut around: Vec<(isize, UnitOffset, bool)> = vec![];
            let mut entries = unit.entries();
            while let Some(entry) = next(&mut entries, found) {
                while let Some((depth, function, is_host)) = around.pop() {
                    if depth < entry.depth() {
                        around.push((depth, function, is_host));
                        break;
                    }
                    self.report(unit, *start, function, is_host, found);
                }
                match entry.tag() {
                    gimli::DW_TAG_subprogram if has_code(entry) => {
                        around.push((entry.depth(), entry.offset(), false));
                    }
                    gimli::DW_TAG_inlined_subroutine if around.last().is_some_and(|(_, _, is_host)| !is_host) => {
                        let Some(origin) = place(entry.attr_value(gimli::DW_AT_abstract_origin), *start) else {
                            found.missed = Some("its debug information does not say what was inlined");
                            continue;
                        };
                        let is_wanted = *known.entry(origin).or_insert_with(|| match self.source(origin) {
                            Some(source) => found.sources.iter().any(|wanted| wanted.is(&source)),
                            None => {
                                found.missed = Some("its debug information refers to a file that is not here");
                                false
                            }
                        });
                        if let Some((_, _, is_host)) = around.last_mut() {
                            *is_host |= is_wanted;
                        }
                    }
                    _ => {}
                }
            }
            for (_, function, is_host) in around {
                self.report(unit, *start, function, is_host, found);
            }
        }
    }

    fn report(
        &self,
        unit: UnitRef<'_, Slice<'s>>,
        start: usize,
        function: UnitOffset,
        is_host: bool,
        found: &mut Inlined,
    ) {
        if !is_host {
            return;
        }
        let ranges = ranges(unit.entry(function).ok().and_then(|entry| unit.die_ranges(&entry).ok()));
        let source = self.source(Place::Own(start.saturating_add(function.0))).unwrap_or_default();
        let name = source.linkage_name.or(source.name).unwrap_or_default();
        found.hosts.push(Host { ranges, name: super::demangle(&String::from_utf8_lossy(&name)) });
    }

    /// The function whose entry, or a reference to it, is at `at`.
    fn source(&self, mut at: Place) -> Option<Source> {
        let mut source = Source::default();
        for _ in 0..HOPS {
            let (units, dwarf, offset) = match at {
                Place::Own(offset) => (&self.units, self.own, offset),
                Place::Shared(offset) => (&self.shared, self.own.sup()?, offset),
            };
            let after = units.partition_point(|(start, _)| *start <= offset);
            let (start, unit) = units.get(after.checked_sub(1)?)?;
            let unit = unit.unit_ref(dwarf);
            let entry = unit.entry(UnitOffset(offset.checked_sub(*start)?)).ok()?;
            source.complete(unit, &entry);
            let mut references = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification].into_iter();
            let Some(next) = references.find_map(|name| entry.attr_value(name)) else {
                return Some(source);
            };
            at = match (place(Some(next), *start)?, at) {
                (Place::Own(offset), Place::Shared(_)) => Place::Shared(offset),
                (next, _) => next,
            };
        }
        None
    }
}

impl Source {
    /// Adds what an entry says and those before it did not.
    fn complete<'s>(&mut self, unit: UnitRef<'_, Slice<'s>>, entry: &Entry<'s>) {
        let text = |name| Some(unit.attr_string(entry.attr_value(name)?).ok()?.slice().to_vec());
        if self.linkage_name.is_none() {
            self.linkage_name = text(gimli::DW_AT_linkage_name).or_else(|| text(gimli::DW_AT_MIPS_linkage_name));
        }
        if self.name.is_none() {
            self.name = text(gimli::DW_AT_name);
        }
        if self.place.is_none() {
            self.place =
                file(unit, entry).zip(entry.attr_value(gimli::DW_AT_decl_line).and_then(|line| line.udata_value()));
            let own = unit.name.map(|name| last_part(name.slice()));
            self.shared = own.is_none() || self.place.as_ref().map(|(file, _)| &**file) != own;
        }
    }

    fn is_named(&self, names: &[String]) -> bool {
        let Some(own) = self.linkage_name.as_ref().or(self.name.as_ref()) else { return false };
        let is = |name: &String| {
            name.as_bytes() == own
                || (name.contains("::") || name.contains('('))
                    && super::demangle(&String::from_utf8_lossy(own)) == *name
        };
        names.iter().any(is)
    }

    /// Whether both are the same function, as far as can be told.
    fn is(&self, other: &Self) -> bool {
        if let (Some(own), Some(other)) = (&self.linkage_name, &other.linkage_name) {
            return own == other;
        }
        let differ = self.place.as_ref().zip(other.place.as_ref()).is_some_and(|(own, other)| own != other);
        self.name.is_some() && self.name == other.name && !differ
    }
}

/// The next entry; what cannot be read is missed.
fn next<'c, 's>(entries: &'c mut gimli::EntriesCursor<'_, Slice<'s>>, found: &mut Inlined) -> Option<&'c Entry<'s>> {
    entries.next_dfs().unwrap_or_else(|_| {
        found.missed = Some("its debug information is damaged");
        None
    })
}

/// The entry that a reference in the unit at `start` leads to.
fn place(reference: Option<AttributeValue<Slice<'_>>>, start: usize) -> Option<Place> {
    match reference? {
        AttributeValue::UnitRef(UnitOffset(offset)) => Some(Place::Own(start.checked_add(offset)?)),
        AttributeValue::DebugInfoRef(DebugInfoOffset(offset)) => Some(Place::Own(offset)),
        AttributeValue::DebugInfoRefSup(DebugInfoOffset(offset)) => Some(Place::Shared(offset)),
        _ => None,
    }
}

fn has_code(entry: &Entry<'_>) -> bool {
    [gimli::DW_AT_low_pc, gimli::DW_AT_ranges].into_iter().any(|name| entry.attr_value(name).is_some())
}

/// Whether a unit was written in assembly language, into which nothing is inlined.
fn is_assembly(unit: UnitRef<'_, Slice<'_>>) -> bool {
    let Ok(root) = unit.entry(unit.header.root_offset()) else { return false };
    let language = root.attr_value(gimli::DW_AT_language);
    language == Some(AttributeValue::Language(gimli::DW_LANG_Mips_Assembler))
}

fn ranges(found: Option<gimli::RangeIter<Slice<'_>>>) -> Vec<Range<u64>> {
    let mut ranges = vec![];
    let Some(mut found) = found else { return ranges };
    while let Ok(Some(gimli::Range { begin, end })) = found.next() {
        // What the linker dropped begins at 0, or at its mark for that.
        if begin != 0 && begin < end {
            ranges.push(begin..end);
        }
    }
    ranges
}

/// The source file that an entry names, without directories.
fn file<'s>(unit: UnitRef<'_, Slice<'s>>, entry: &Entry<'s>) -> Option<Vec<u8>> {
    let AttributeValue::FileIndex(index) = entry.attr_value(gimli::DW_AT_decl_file)? else { return None };
    let file = unit.line_program.as_ref()?.header().file(index)?;
    let name = unit.attr_string(file.path_name()).ok()?;
    Some(last_part(name.slice()).to_vec())
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
