//! Names of C++ functions that have no linkage name: those of anonymous namespaces, by the entries around them.

use super::sections::Slice;
use gimli::{AttributeValue, UnitOffset, UnitRef};
use std::borrow::Cow;

/// More references from entry to entry than this are not believed.
const HOPS: usize = 8;

/// `outer::(anonymous namespace)::name` for the function whose code `die` describes; none where nothing is around it.
pub(super) fn qualified<'s>(unit: UnitRef<'_, Slice<'s>>, die: UnitOffset, name: &str) -> Option<String> {
    let declared = declaration(unit, die)?;
    // The entries around the one being looked at: their depths, their names, and what is said where they have none.
    let mut around: Vec<(isize, Option<AttributeValue<Slice<'s>>>, &str)> = Vec::new();
    let mut entries = unit.entries_raw(None).ok()?;
    while !entries.is_empty() {
        let (at, depth) = (entries.next_offset(), entries.next_depth());
        let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
        while around.last().is_some_and(|(outer, ..)| *outer >= depth) {
            around.pop();
        }
        if at == declared {
            let text = |own: Option<AttributeValue<Slice<'s>>>| Some(unit.attr_string(own?).ok()?.to_string_lossy());
            let outer = around.iter().map(|(_, own, unnamed)| text(*own).unwrap_or(Cow::Borrowed(unnamed)));
            let path: Vec<_> = outer.chain([Cow::Borrowed(name)]).collect();
            return (path.len() > 1).then(|| path.join("::"));
        }
        let unnamed = match abbreviation.tag() {
            gimli::DW_TAG_namespace => "(anonymous namespace)",
            gimli::DW_TAG_class_type | gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => "(anonymous class)",
            _ => {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
        };
        let mut own = None;
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification).ok()?;
            if attribute.name() == gimli::DW_AT_name {
                own = Some(attribute.value());
            }
        }
        around.push((depth, own, unnamed));
    }
    None
}

/// The entry that stands where the function was declared.
fn declaration(unit: UnitRef<'_, Slice<'_>>, die: UnitOffset) -> Option<UnitOffset> {
    let mut at = die;
    for _ in 0..HOPS {
        let entry = unit.entry(at).ok()?;
        let mut references = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification].into_iter();
        match references.find_map(|name| entry.attr_value(name)) {
            Some(AttributeValue::UnitRef(next)) => at = next,
            // In another unit, whose entries are not these.
            Some(_) => return None,
            None => return Some(at),
        }
    }
    None
}
