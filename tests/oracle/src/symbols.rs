//! Names for code addresses, so that causes can be counted by function.

use crate::maps::Module;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// A place in the code: module, function if it has a name, and the offset in the module's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file's last name, or `[vdso]`, or `?`.
    pub module: String,
    /// The function, or the section, or nothing.
    pub function: String,
    /// The linked address in the module.
    pub offset: u64,
}

impl Place {
    /// Module and function.
    pub fn in_function(&self) -> String {
        format!("{}!{}", self.module, self.function)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}+{:#x}", self.module, self.function, self.offset)
    }
}

/// Looks names up, reading each file once.
#[derive(Default)]
pub struct Symbols {
    files: HashMap<String, Table>,
}

#[derive(Default)]
struct Table {
    low: u64,
    sections: Vec<(u64, u64, String)>,
    /// Start, size (0 if unknown), name; sorted.
    functions: Vec<(u64, u64, String)>,
}

impl Symbols {
    /// Where `address` lies.
    pub fn place(&mut self, modules: &[Module], address: u64) -> Place {
        let Some(module) = modules.iter().find(|m| (m.base..m.end).contains(&address)) else {
            return Place { module: "?".to_owned(), function: String::new(), offset: address };
        };
        let table = self.files.entry(module.name.clone()).or_insert_with(|| Table::read(&module.name));
        let offset = address - module.base + table.low;
        let name = Path::new(&module.name).file_name().map(|n| n.to_string_lossy().into_owned());
        Place { module: name.unwrap_or_else(|| module.name.clone()), function: table.name(offset), offset }
    }
}

impl Table {
    fn read(path: &str) -> Table {
        let mut table = Table::default();
        let Ok(bytes) = fs::read(path) else {
            return table;
        };
        let Ok(file) = object::File::parse(&*bytes) else {
            return table;
        };
        table.low = file.segments().map(|s| s.address()).min().unwrap_or(0) & !0xfff;
        for section in file.sections() {
            let name = section.name().unwrap_or_default().to_owned();
            table.sections.push((section.address(), section.size(), name));
        }
        table.add(file.symbols());
        table.add(file.dynamic_symbols());
        if let Ok(Some(id)) = file.build_id() {
            let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
            let (first, rest) = hex.split_at(2.min(hex.len()));
            if let Ok(bytes) = fs::read(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug"))
                && let Ok(file) = object::File::parse(&*bytes)
            {
                table.add(file.symbols());
            }
        }
        table.functions.sort();
        table
    }

    fn add<'d>(&mut self, symbols: impl Iterator<Item = impl ObjectSymbol<'d>>) {
        for symbol in symbols {
            let names_code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
            if let (true, true, Ok(name)) = (names_code, symbol.is_definition(), symbol.name()) {
                self.functions.push((symbol.address(), symbol.size(), name.to_owned()));
            }
        }
    }

    fn name(&self, offset: u64) -> String {
        let i = self.functions.partition_point(|(start, _, _)| *start <= offset);
        let before = self.functions.get(..i).unwrap_or_default();
        let holds = |&&(start, size, _): &&(u64, u64, String)| offset < start + size;
        if let Some((_, _, name)) = before.iter().rev().take(8).find(holds) {
            return name.clone();
        }
        let section = self.sections.iter().find(|(start, size, _)| *start != 0 && offset.wrapping_sub(*start) < *size);
        section.map(|(_, _, name)| name.clone()).unwrap_or_default()
    }
}
