//! Address → function, file, line, inlined calls.
//!
//! ```text
//!   address ─► module ─► linked address ─► DWARF of the image or of its debug file ─► functions, lines
//!                                      └─► symbol tables, where DWARF says nothing  ─► name + offset
//! ```
//!
//! A file is asked only when it is proven to be the one that was mapped. What is found about an address is kept, and a
//! module's files are not looked into before an address in it is asked for.

mod demangle;
mod dwarf;
mod inlined;
mod qualify;
mod sections;
mod split;
mod store;
mod table;

use crate::image::Image;
use crate::kept::Kept;
use crate::snapshot::{AddressSpace, Identity, LoadedModule, Snapshot};
use dwarf::{Debug, Found};
use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use surestack_walk::CodeAddress;
use table::Table;

pub use demangle::demangle;
pub use inlined::{Host, Inlined, Source, Wanted};
pub use store::Store;

/// Names for the addresses of one snapshot.
pub struct Symbols<'s> {
    space: &'s AddressSpace,
    modules: Vec<OnceCell<Names<'s>>>,
    store: &'s Store,
    known: RefCell<Kept<u64, Arc<Symbol>>>,
}

/// What can name the code of one module.
#[derive(Default)]
struct Names<'s> {
    debug: Option<Debug<'s>>,
    images: Vec<&'s Image>,
    table: OnceCell<Table<'s>>,
}

impl<'s> Symbols<'s> {
    /// Names from the files of `snapshot`; what has to be unpacked for them is kept in `store`.
    pub fn new(snapshot: &'s Snapshot, store: &'s Store) -> Self {
        Self::of(&snapshot.space, store)
    }

    fn of(space: &'s AddressSpace, store: &'s Store) -> Self {
        let modules = space.modules.iter().map(|_| OnceCell::new()).collect();
        Self { space, modules, store, known: RefCell::default() }
    }

    /// What is known of the name of the code at `pc`.
    pub fn symbol(&self, pc: CodeAddress) -> Arc<Symbol> {
        let address = pc.lookup();
        let mut known = self.known.borrow_mut();
        self.relative_to(known.get_or_find(address, || Arc::new(self.find(address).unwrap_or_default())), pc)
    }

    /// The symbol with its offset counted to the pc itself: a return address is one byte behind what is looked up.
    fn relative_to(&self, symbol: &Arc<Symbol>, pc: CodeAddress) -> Arc<Symbol> {
        let skip = pc.value().wrapping_sub(pc.lookup());
        match symbol.offset {
            Some(offset) if skip != 0 => Arc::new(Symbol { offset: offset.checked_add(skip), ..Symbol::clone(symbol) }),
            _ => Arc::clone(symbol),
        }
    }

    /// Into which functions of the module with this number others were inlined; none where it has no debug information.
    pub fn inlined(&self, module: usize, wanted: &Wanted) -> Option<Inlined> {
        let loaded = self.space.modules.get(module)?;
        let names = self.modules.get(module)?.get_or_init(|| Names::of(loaded, self.store));
        Some(inlined::find(names.debug.as_ref()?, wanted))
    }

    fn find(&self, address: u64) -> Option<Symbol> {
        let (index, module) = self.space.module(address)?;
        let linked = address.wrapping_sub(module.bias);
        let names = self.modules.get(index)?.get_or_init(|| Names::of(module, self.store));
        let table = || names.table.get_or_init(|| Table::of(&names.images)).find(linked);
        let Some(Found { mut symbol, unscoped }) = names.debug.as_ref().and_then(|debug| debug.find(linked)) else {
            return table();
        };
        let outer = symbol.functions.last_mut()?;
        if !unscoped && !outer.name.is_empty() {
            return Some(symbol);
        }
        // A line without a function, as assemblers write it, or a function without its scopes.
        if let Some(named) = table()
            && let Some(function) = named.functions.into_iter().next()
            && (outer.name.is_empty() || named.offset == symbol.offset)
        {
            outer.name = function.name;
            symbol.offset = named.offset;
            if !unscoped {
                symbol.origin = named.origin;
            }
        }
        Some(symbol)
    }
}

impl<'s> Names<'s> {
    fn of(module: &'s LoadedModule, store: &'s Store) -> Self {
        // An image beside `Replaced` and the like was made from the target's memory, and can be believed like `Memory`.
        if module.identity == Identity::Unchecked {
            return Self::default();
        }
        let images: Vec<&Image> = [&module.image, &module.debug].into_iter().flatten().map(Arc::as_ref).collect();
        let debug = images.iter().rev().find_map(|image| Debug::of(image, &module.path, store));
        Self { debug, images, table: OnceCell::new() }
    }
}

/// What is known of the name of a place in code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// The function whose code this is, and the calls inlined there: innermost first, the function itself last. Empty
    /// when nothing is known.
    pub functions: Vec<Function>,
    /// Distance from the function's first byte.
    pub offset: Option<u64>,
    /// Where the names came from.
    pub origin: Origin,
}

/// A function, inlined or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// The place in it: where the pc is, or where it calls the function inlined into it.
    pub location: Option<Location>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, as the compiler wrote it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
}

/// Where a name came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    #[default]
    None,
    /// Debug information.
    Dwarf,
    /// A symbol table: the nearest symbol at or below the address, whose size covers it.
    SymbolTable,
    /// A symbol table: the nearest symbol below, which has no size.
    Nearest,
}

#[cfg(test)]
mod tests;
