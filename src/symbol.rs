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
mod heads;
mod inlined;
mod lines;
mod module;
mod qualify;
mod ranges;
mod sections;
mod split;
mod store;
mod table;
mod unit;

use crate::kept::Kept;
use crate::snapshot::{AddressSpace, Snapshot};
use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use surestack_walk::CodeAddress;

pub use demangle::demangle;
pub use inlined::{Host, Inlined, Source, Wanted};
pub(crate) use module::ModuleNames;
pub use store::Store;

/// Names for the addresses of one snapshot.
pub struct Symbols<'s> {
    space: &'s AddressSpace,
    modules: Vec<OnceCell<ModuleNames<'s>>>,
    store: &'s Store,
    known: RefCell<Kept<u64, Arc<Symbol>>>,
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
        Symbol::relative_to(known.get_or_find(address, || Arc::new(self.find(address).unwrap_or_default())), pc)
    }

    /// Into which functions of the module with this number others were inlined; none where it has no debug information.
    pub fn inlined(&self, module: usize, wanted: &Wanted) -> Option<Inlined> {
        let loaded = self.space.modules.get(module)?;
        let names = self.modules.get(module)?.get_or_init(|| ModuleNames::of(loaded, self.store));
        names.inlined(wanted)
    }

    fn find(&self, address: u64) -> Option<Symbol> {
        let (index, module) = self.space.module(address)?;
        let names = self.modules.get(index)?.get_or_init(|| ModuleNames::of(module, self.store));
        names.find(address.wrapping_sub(module.bias))
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

impl Symbol {
    /// The symbol of `pc.lookup()` with its offset counted to the pc itself: a return address is one byte behind what is
    /// looked up.
    pub(crate) fn relative_to(symbol: &Arc<Self>, pc: CodeAddress) -> Arc<Self> {
        let skip = pc.value().wrapping_sub(pc.lookup());
        match symbol.offset {
            Some(offset) if skip != 0 => Arc::new(Self { offset: offset.checked_add(skip), ..Self::clone(symbol) }),
            _ => Arc::clone(symbol),
        }
    }
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
