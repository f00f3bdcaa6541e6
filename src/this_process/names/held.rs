//! The files of one module, kept with what was learned from them.

use crate::error::Error;
use crate::image::Find;
use crate::kept::Kept;
use crate::snapshot::LoadedModule;
use crate::snapshot::process::find_files;
use crate::symbol::{ModuleNames, Store, Symbol};
use std::rc::Rc;
use std::sync::Arc;
use surestack_walk::CodeAddress;

/// A module, its files open.
pub(super) struct Held {
    /// Borrows from `store` and `module`, which are dropped after it. It never leaves this file.
    names: ModuleNames<'static>,
    known: Kept<CodeAddress, Arc<Symbol>>,
    _store: Rc<Store>,
    module: Arc<LoadedModule>,
    refused: Option<Error>,
}

impl Held {
    /// Opens the files of a module of this process.
    pub fn open(mut module: LoadedModule, find: &Find) -> Self {
        let refused = find_files(&mut module, find);
        let (module, store) = (Arc::new(module), Rc::new(Store::default()));
        // SAFETY: it stays where it is, unchanged, while anybody holds it, and one is kept longer than `names`.
        let lent: &'static LoadedModule = unsafe { &*Arc::as_ptr(&module) };
        // SAFETY: as above.
        let room: &'static Store = unsafe { &*Rc::as_ptr(&store) };
        Self { names: ModuleNames::of(lent, room), known: Kept::default(), _store: store, module, refused }
    }

    /// What is known of the name of the code at `pc`, an address in this module.
    pub fn symbol(&mut self, pc: CodeAddress) -> Arc<Symbol> {
        let linked = pc.lookup().wrapping_sub(self.module.bias);
        let find = || Symbol::relative_to(&Arc::new(self.names.find(linked).unwrap_or_default()), pc);
        Arc::clone(self.known.get_or_find(pc, find))
    }

    /// The module.
    pub fn module(&self) -> &Arc<LoadedModule> {
        &self.module
    }

    /// What speaks against the file at its path.
    pub fn refused(&self) -> Option<&Error> {
        self.refused.as_ref()
    }
}
