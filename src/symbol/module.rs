//! Names from the files of one module.

use super::Symbol;
use super::dwarf::{Debug, Found};
use super::inlined::{self, Inlined, Wanted};
use super::store::Store;
use super::table::Table;
use crate::image::Image;
use crate::snapshot::{Identity, LoadedModule};
use std::cell::OnceCell;
use std::sync::Arc;

/// What can name the code of one module.
#[derive(Default)]
pub(crate) struct ModuleNames<'s> {
    debug: Option<Debug<'s>>,
    images: Vec<&'s Image>,
    table: OnceCell<Table<'s>>,
}

impl<'s> ModuleNames<'s> {
    /// From the files of `module`, as far as they are proven to be its own.
    pub fn of(module: &'s LoadedModule, store: &'s Store) -> Self {
        // An image beside `Replaced` and the like was made from the target's memory, and can be believed like `Memory`.
        if module.identity == Identity::Unchecked {
            return Self::default();
        }
        let images: Vec<&Image> = [&module.image, &module.debug].into_iter().flatten().map(Arc::as_ref).collect();
        let debug = images.iter().rev().find_map(|image| Debug::of(image, &module.path, store));
        Self { debug, images, table: OnceCell::new() }
    }

    /// What is known of the name of the code at a linked address.
    pub fn find(&self, linked: u64) -> Option<Symbol> {
        let table = || self.table.get_or_init(|| Table::of(&self.images)).find(linked);
        let Some(Found { mut symbol, unscoped }) = self.debug.as_ref().and_then(|debug| debug.find(linked)) else {
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

    /// Into which functions others were inlined; none where there is no debug information.
    pub fn inlined(&self, wanted: &Wanted) -> Option<Inlined> {
        Some(inlined::find(self.debug.as_ref()?, wanted))
    }
}
