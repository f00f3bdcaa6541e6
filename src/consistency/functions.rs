//! The functions of a process by their symbols: which have a name, which are parts of one, which share their code.

use crate::image::{Image, ImageSymbol};
use crate::snapshot::{Identity, LoadedModule, Snapshot};
use crate::symbol::demangle;
use std::ops::Range;

const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
/// A function that is chosen at load time; the symbol's address is that of the code which chooses.
pub(super) const STT_GNU_IFUNC: u8 = 10;
/// Sections from here on are no sections: absolute values, common blocks.
const SHN_LORESERVE: u16 = 0xff00;
/// Near misses that are named in an error.
const NEAR: usize = 5;

/// The function symbols of one module, ascending by address; linked addresses.
pub(super) struct Functions<'s> {
    pub index: usize,
    pub module: &'s LoadedModule,
    list: Vec<Function<'s>>,
}

/// A function symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Function<'s> {
    pub start: u64,
    /// 0 when the symbol does not say.
    pub size: u64,
    pub kind: u8,
    /// As compilers write it, without its version.
    pub name: &'s str,
}

impl<'s> Functions<'s> {
    /// Those of every module whose file is known to be the right one.
    pub fn of_all(snapshot: &'s Snapshot) -> Vec<Self> {
        let known = |(_, module): &(usize, &LoadedModule)| module.identity != Identity::Unchecked;
        let modules = snapshot.space.modules.iter().enumerate().filter(known);
        modules.map(|(index, module)| Self { index, module, list: functions(module) }).collect()
    }

    /// Those with this name, as compilers write it or as the source does; of those that share code, one.
    pub fn named(&self, name: &str) -> Vec<Function<'s>> {
        let mut found: Vec<_> = self.list.iter().filter(|function| function.is_named(name)).copied().collect();
        found.dedup_by_key(|function| function.start);
        found
    }

    /// Those that the compiler split off `function`, and the variants it made of it.
    pub fn variants(&self, function: &str) -> impl Iterator<Item = Function<'s>> {
        let is_variant = move |found: &&Function<'_>| {
            found.name.strip_prefix(function).is_some_and(|suffix| suffix.starts_with('.'))
        };
        self.list.iter().filter(is_variant).copied()
    }

    /// Two functions, and no mere aliases, that begin at one address in a range.
    pub fn folded(&self, range: &Range<u64>) -> Option<(&'s str, &'s str)> {
        let functions = || self.within(range).filter(|function| function.kind == STT_FUNC);
        let pairs = functions().zip(functions().skip(1));
        let folded = |(one, other): &(Function<'_>, Function<'_>)| {
            one.start == other.start && bare(one.name) != bare(other.name)
        };
        pairs.into_iter().find(folded).map(|(one, other)| (one.name, other.name))
    }

    /// The functions that begin in a range.
    pub fn within(&self, range: &Range<u64>) -> impl Iterator<Item = Function<'s>> {
        let first = self.list.partition_point(|function| function.start < range.start);
        let end = range.end;
        let rest = self.list.get(first..).unwrap_or_default();
        rest.iter().take_while(move |function| function.start < end).copied()
    }

    /// Its code, in the file's addresses; up to the next symbol where it does not say how long it is.
    pub fn range(&self, function: &Function<'_>) -> Range<u64> {
        let end = match function.size {
            0 => {
                let after = self.list.partition_point(|other| other.start <= function.start);
                self.list.get(after).map_or(function.start.saturating_add(1), |next| next.start)
            }
            size => function.start.saturating_add(size),
        };
        function.start..end
    }

    /// Functions whose code lies in none of these ranges, which ascend by their start.
    pub fn outside(&self, described: &[Range<u64>]) -> Vec<&'s str> {
        // Ranges may nest; those before the last that begins below an address can still cover it.
        let mut reach = Vec::with_capacity(described.len());
        let mut furthest = 0;
        for range in described {
            furthest = range.end.max(furthest);
            reach.push(furthest);
        }
        let covered = |address: u64| {
            let after = described.partition_point(|range| range.start <= address);
            after.checked_sub(1).and_then(|last| reach.get(last)).is_some_and(|end| address < *end)
        };
        let is_function = |function: &&Function<'_>| function.kind != STT_NOTYPE;
        let outside = self.list.iter().filter(is_function).filter(|function| !covered(function.start));
        outside.map(|function| function.name).filter(|name| !START_UP.contains(name)).collect()
    }

    /// Names that are almost this one.
    pub fn near(&self, name: &str) -> Vec<&'s str> {
        let close = |function: &&Function<'_>| {
            let shorter = name.len().min(function.name.len());
            shorter >= 3 && (function.name.contains(name) || name.contains(function.name))
                || distance(name, function.name) <= 2
        };
        self.list.iter().filter(close).map(|function| function.name).take(NEAR).collect()
    }
}

/// What the linker adds to every program: nothing is inlined there.
const START_UP: [&str; 9] = [
    "_start",
    "_init",
    "_fini",
    "deregister_tm_clones",
    "register_tm_clones",
    "__do_global_dtors_aux",
    "frame_dummy",
    "_dl_relocate_static_pie",
    "_dl_start_user",
];

impl Function<'_> {
    fn is_named(&self, name: &str) -> bool {
        if self.name == name {
            return true;
        }
        // The last word of the name is part of the mangled one: demangling is slow.
        let word = name.split('(').next().unwrap_or(name).rsplit("::").next().unwrap_or(name);
        if !(self.name.starts_with("_Z") || self.name.starts_with("_R")) || !self.name.contains(word) {
            return false;
        }
        let plain = demangle(self.name);
        plain == name || plain.split('(').next() == Some(name)
    }
}

/// The name without what tells aliases of one function apart.
fn bare(name: &str) -> String {
    if name.starts_with("_Z") {
        // Complete and base constructors are one.
        return demangle(name);
    }
    let name = name.trim_start_matches('_');
    let name = ["GI_", "libc_", "IO_", "new_", "pthread_"]
        .into_iter()
        .fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name).trim_start_matches('_'));
    name.to_owned()
}

fn functions(module: &LoadedModule) -> Vec<Function<'_>> {
    let images = [&module.image, &module.debug].into_iter().flatten();
    let code = module.image.as_ref().map(|image| image.code()).unwrap_or_default();
    let in_code = |symbol: &ImageSymbol<'_>| code.iter().any(|range| range.contains(&symbol.address));
    let mut list: Vec<_> =
        images.flat_map(|image: &std::sync::Arc<Image>| image.symbols()).filter(in_code).filter_map(function).collect();
    list.sort_unstable_by_key(|function| (function.start, function.name, std::cmp::Reverse(function.size)));
    list.dedup_by_key(|function| (function.start, function.name));
    list
}

fn function<'s>(symbol: ImageSymbol<'s>) -> Option<Function<'s>> {
    let is_code = matches!(symbol.kind, STT_NOTYPE | STT_FUNC | STT_GNU_IFUNC)
        && (1..SHN_LORESERVE).contains(&symbol.section)
        && !matches!(symbol.name.first(), None | Some(b'$'));
    let name = std::str::from_utf8(symbol.name).ok()?;
    let name = name.split('@').next().filter(|bare| !bare.is_empty()).unwrap_or(name);
    is_code.then_some(Function { start: symbol.address, size: symbol.size, kind: symbol.kind, name })
}

/// Insertions, deletions and replacements from one name to the other; 3 for any more.
fn distance(left: &str, right: &str) -> usize {
    const MANY: usize = 3;
    if left.len().abs_diff(right.len()) >= MANY {
        return MANY;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.bytes().enumerate() {
        let mut diagonal = above;
        let mut before = above.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal.saturating_add(usize::from(from != to));
            diagonal = *cell;
            *cell = replaced.min(before.saturating_add(1)).min(diagonal.saturating_add(1));
            before = *cell;
        }
    }
    row.last().copied().unwrap_or(MANY).min(MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slips_are_near_and_three_are_not() {
        assert_eq!((distance("work_fn", "wrok_fn"), distance("work_fn", "worked_fn")), (2, 2));
        assert_eq!((distance("work", "work"), distance("work", "play")), (0, 3));
    }

    #[test]
    fn aliases_are_one_function_and_folded_ones_are_two() {
        assert_eq!((bare("__GI___read"), bare("__libc_read")), (bare("read"), bare("_read")));
        assert_eq!(bare("_ZN1AC1Ev"), bare("_ZN1AC2Ev"));
        assert_ne!(bare("add_one"), bare("increment"));
    }
}
