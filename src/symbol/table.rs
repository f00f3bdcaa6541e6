//! Names from symbol tables: the image's, its debug file's, and that in `.gnu_debugdata`.

use super::{Function, Origin, Symbol, demangle};
use crate::image::{Image, ImageSymbol};
use std::cmp::Reverse;
use std::ops::Range;

const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const STB_LOCAL: u8 = 0;
const STB_GLOBAL: u8 = 1;
/// Sections from here on are no sections: absolute values, common blocks.
const SHN_LORESERVE: u16 = 0xff00;
/// How many symbols below the nearest one may still be the one that covers: functions with labels inside.
const LABELS: usize = 64;

/// The symbols of a module's code, ascending by address.
pub(super) struct Table<'s> {
    symbols: Vec<ImageSymbol<'s>>,
    code: Vec<Range<u64>>,
}

impl<'s> Table<'s> {
    pub fn of(images: &[&'s Image]) -> Self {
        let is_code = |symbol: &ImageSymbol<'_>| {
            matches!(symbol.kind, STT_NOTYPE | STT_FUNC | STT_GNU_IFUNC)
                && (1..SHN_LORESERVE).contains(&symbol.section)
                // `$x` and `$d` on aarch64 say where code and data begin.
                && !matches!(symbol.name.first(), None | Some(b'$'))
        };
        let mut symbols: Vec<_> = images.iter().flat_map(|image| image.symbols()).filter(is_code).collect();
        symbols.sort_unstable_by_key(|symbol| symbol.address);
        Self { symbols, code: images.first().map(|image| image.code()).unwrap_or_default() }
    }

    /// The symbol whose size covers `linked`; or else the nearest below, when it has no size.
    pub fn find(&self, linked: u64) -> Option<Symbol> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= linked);
        let below = self.symbols.get(..after)?;
        let below = below.get(after.saturating_sub(LABELS)..)?;
        let mut groups = below.chunk_by(|one, other| one.address == other.address).rev();
        let covers = |symbol: &&ImageSymbol<'_>| linked.wrapping_sub(symbol.address) < symbol.size;
        if let Some(symbol) = groups.clone().find_map(|group| best(group.iter().filter(covers))) {
            return Some(named(symbol, linked, Origin::SymbolTable));
        }
        let nearest = best(groups.next()?.iter())?;
        let is_near = nearest.size == 0 && self.in_one_part(nearest.address, linked);
        is_near.then(|| named(nearest, linked, Origin::Nearest))
    }

    fn in_one_part(&self, low: u64, high: u64) -> bool {
        self.code.iter().any(|part| part.contains(&low) && part.contains(&high))
    }
}

/// The best name of symbols at one address.
fn best<'t, 's>(symbols: impl Iterator<Item = &'t ImageSymbol<'s>>) -> Option<&'t ImageSymbol<'s>>
where
    's: 't,
{
    symbols.max_by_key(|symbol| (rank(symbol), Reverse(symbol.name)))
}

/// Which of several symbols at one address is the better name: a function, with a size, that others may call, and
/// without the underscores of its aliases.
fn rank(symbol: &ImageSymbol<'_>) -> (bool, bool, u8, Reverse<usize>, Reverse<usize>) {
    let binding = match symbol.binding {
        STB_GLOBAL => 2,
        STB_LOCAL => 0,
        _ => 1,
    };
    let underscores = symbol.name.iter().take_while(|byte| **byte == b'_').count();
    let length = symbol.name.len();
    (symbol.size != 0, symbol.kind != STT_NOTYPE, binding, Reverse(underscores), Reverse(length))
}

fn named(symbol: &ImageSymbol<'_>, linked: u64, origin: Origin) -> Symbol {
    let name = String::from_utf8_lossy(symbol.name);
    // `name@VERSION` and `name@@VERSION`.
    let bare = match name.find('@') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(&name),
        _ => &name,
    };
    let functions = vec![Function { name: demangle(bare), location: None }];
    Symbol { functions, offset: linked.checked_sub(symbol.address), origin }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &'static str, address: u64, size: u64, kind: u8, binding: u8) -> ImageSymbol<'static> {
        ImageSymbol { name: name.as_bytes(), address, size, kind, binding, section: 1 }
    }

    fn table(mut symbols: Vec<ImageSymbol<'static>>) -> Table<'static> {
        symbols.sort_unstable_by_key(|symbol| symbol.address);
        Table { symbols, code: vec![0x1000..0x1200, 0x1200..0x2000] }
    }

    fn name_of(table: &Table<'_>, linked: u64) -> Option<(String, Option<u64>, Origin)> {
        let symbol = table.find(linked)?;
        Some((symbol.functions.into_iter().next()?.name, symbol.offset, symbol.origin))
    }

    #[test]
    fn the_symbol_that_covers_is_preferred_to_a_nearer_label() {
        let table = table(vec![symbol("f", 0x1000, 0x40, 2, 1), symbol("label", 0x1010, 0, 0, 0)]);
        assert_eq!(name_of(&table, 0x1018), Some(("f".into(), Some(0x18), Origin::SymbolTable)));
    }

    #[test]
    fn of_aliases_the_global_one_without_underscores_and_version_is_shown() {
        let table = table(vec![
            symbol("__libc_raise", 0x1000, 8, 2, 1),
            symbol("raise@@GLIBC_2.2.5", 0x1000, 8, 2, 1),
            symbol("a", 0x1000, 8, 2, 0),
        ]);
        assert_eq!(name_of(&table, 0x1000), Some(("raise".into(), Some(0), Origin::SymbolTable)));
    }

    #[test]
    fn a_symbol_without_size_is_only_near_and_a_sized_one_ends_where_it_ends() {
        let table = table(vec![symbol("sized", 0x1000, 0x10, 2, 1), symbol("start", 0x1100, 0, 0, 1)]);
        assert_eq!(name_of(&table, 0x1120), Some(("start".into(), Some(0x20), Origin::Nearest)));
        assert_eq!(name_of(&table, 0x1020), None);
        assert_eq!(name_of(&table, 0x1220), None);
        assert_eq!(name_of(&table, 0x2020), None);
        assert_eq!(name_of(&table, 0xfff), None);
    }
}
