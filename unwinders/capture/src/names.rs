//! Names of functions from the modules' symbol tables, which were mapped when the modules were registered. Read with care:
//! a table is a file's, and files are cut short.

use crate::text::Text;
use surestack_module_map::{ModuleMap, Symbols};
use surestack_walk::Memory;

/// Functions that are looked for at once.
pub const MOST: usize = 64;
/// Longest name that is shown.
const LONGEST: usize = 512;
/// `Elf64_Sym`.
const ENTRY: u64 = 24;

/// A place in code, and what is found out about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The address to look up.
    pub address: u64,
    /// Address of the function's name; 0 while none is known.
    pub name: u64,
    /// First address of the function.
    pub function: u64,
    /// One past the last byte that a name may have.
    limit: u64,
}

/// Places to find names for.
pub struct Names {
    places: [Place; MOST],
    used: usize,
}

impl Names {
    /// None so far.
    pub const fn new() -> Self {
        Self { places: [Place { address: 0, name: 0, function: 0, limit: 0 }; MOST], used: 0 }
    }

    /// Adds a place, if there is room for it. It is not added twice.
    pub fn want(&mut self, address: u64) {
        if self.at(address).is_none()
            && let Some(place) = self.places.get_mut(self.used)
        {
            *place = Place { address, ..Place::default() };
            self.used = self.used.saturating_add(1);
        }
    }

    /// What is known of a place that was added.
    pub fn at(&self, address: u64) -> Option<&Place> {
        self.places.iter().take(self.used).find(|place| place.address == address)
    }

    /// Looks through the symbol table of each module that a place is in, once.
    pub fn find(&mut self, modules: &ModuleMap, memory: &dyn Memory) {
        let wanted = self.places.get_mut(..self.used).unwrap_or_default();
        for first in 0..wanted.len() {
            let Some(place) = wanted.get(first) else { return };
            let Ok((Some(found), _)) = modules.look_up(place.address) else { continue };
            let (start, end) = (found.record.start, found.record.end);
            let here = |place: &Place| (start..end).contains(&place.address);
            let (before, after) = wanted.split_at_mut_checked(first).unwrap_or_default();
            // Done with the first place of the module.
            if before.iter().any(here) {
                continue;
            }
            if let Some(symbols) = &found.record.symbols {
                search(symbols, found.record.bias, memory, after);
            }
        }
    }

    /// Adds the name of a place and the distance from the function's beginning. Says whether it has one.
    pub fn show(&self, address: u64, shown: u64, memory: &dyn Memory, text: &mut Text) -> bool {
        let Some(place) = self.at(address).filter(|place| place.name != 0) else { return false };
        let mut at = place.name;
        for _ in 0..LONGEST {
            let mut byte = [0];
            if at >= place.limit || memory.read(at, &mut byte).is_err() || byte == [0] {
                break;
            }
            text.bytes(&byte);
            at = at.saturating_add(1);
        }
        text.text("+").hex(shown.wrapping_sub(place.function), 1);
        true
    }
}

/// Looks for the functions of places, those of other modules among them.
fn search(symbols: &Symbols, bias: u64, memory: &dyn Memory, places: &mut [Place]) {
    let Symbols { table, size, strings, strings_size } = *symbols;
    let end = table.saturating_add(size);
    let mut at = table;
    while at.saturating_add(ENTRY) <= end {
        // st_name, st_info, st_other, st_shndx; st_value; st_size
        let Ok(head) = memory.word(at) else { return };
        let [n0, n1, n2, n3, info, _, s0, s1] = head.to_le_bytes();
        // STT_FUNC, STT_GNU_IFUNC; not SHN_UNDEF.
        if matches!(info & 15, 2 | 10) && [s0, s1] != [0, 0] {
            let value = memory.word(at.saturating_add(8));
            let length = memory.word(at.saturating_add(16));
            let (Ok(value), Ok(length)) = (value, length) else { return };
            let function = value.wrapping_add(bias);
            let name = u64::from(u32::from_le_bytes([n0, n1, n2, n3]));
            for place in places.iter_mut() {
                let inside = place.address.checked_sub(function).is_some_and(|offset| offset < length);
                // Of several names the first will do, but not one that is empty.
                if inside && place.name == 0 && name < strings_size && name != 0 {
                    *place = Place {
                        name: strings.saturating_add(name),
                        function,
                        limit: strings.saturating_add(strings_size),
                        ..*place
                    };
                }
            }
        }
        at = at.saturating_add(ENTRY);
    }
}
