//! Names of C++ functions that have no linkage name: those of anonymous namespaces, by the entries around them.

use super::sections::Slice;
use gimli::{AttributeValue, UnitOffset, UnitRef};

/// More references from entry to entry than this are not believed.
const HOPS: usize = 8;

/// `outer::(anonymous namespace)::name` for the function whose code `die` describes; none where nothing is around it.
pub(super) fn qualified(unit: UnitRef<'_, Slice<'_>>, die: UnitOffset, name: &str) -> Option<String> {
    let declared = declaration(unit, die)?;
    // The names around the entry being looked at, with their depths.
    let mut around: Vec<(isize, String)> = Vec::new();
    let mut entries = unit.entries();
    while let Ok(Some(entry)) = entries.next_dfs() {
        while around.last().is_some_and(|(depth, _)| *depth >= entry.depth()) {
            around.pop();
        }
        if entry.offset() == declared {
            let mut path: Vec<&str> = around.iter().map(|(_, name)| name.as_str()).collect();
            path.push(name);
            return (path.len() > 1).then(|| path.join("::"));
        }
        let own = || {
            let name = unit.attr_string(entry.attr_value(gimli::DW_AT_name)?).ok()?;
            Some(String::from_utf8_lossy(name.slice()).into_owned())
        };
        match entry.tag() {
            gimli::DW_TAG_namespace => {
                around.push((entry.depth(), own().unwrap_or_else(|| "(anonymous namespace)".to_owned())));
            }
            gimli::DW_TAG_class_type | gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                around.push((entry.depth(), own().unwrap_or_else(|| "(anonymous class)".to_owned())));
            }
            _ => {}
        }
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
