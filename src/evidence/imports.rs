//! Whether calls from one module into another come back.
//!
//! ```text
//!   call through a word ─► the loader's? ─► its name says ─► bound: the function there ─► not yet: all functions of its name
//! ```

use super::FileEvidence;
use crate::image::Image;
use crate::proof::Return;
use crate::proof::code::Callee;
use crate::proof::imports::{Import, imports};
use crate::proof::noreturn::Returns;
use object::elf::{STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// How many modules deep calls are followed.
const DEEP: u32 = 8;

/// What was found out about calls through the loader's words.
#[derive(Default)]
pub(super) struct Imports {
    /// By the word's address.
    known: RefCell<HashMap<u64, Return>>,
    /// By the module's start: what it imports.
    names: RefCell<HashMap<u64, Rc<Names>>>,
    /// By the module's start: which of its functions return.
    returns: RefCell<HashMap<u64, Rc<Returns>>>,
    /// How many modules deep the answer is that is looked for now.
    depth: Cell<u32>,
}

/// The functions that a module imports, by their words' linked addresses.
type Names = HashMap<u64, Imported>;

/// An imported function.
#[derive(Clone, Debug)]
enum Imported {
    /// Its name says that it never returns.
    Never,
    /// Where functions of that name begin; `None` if there may be others.
    Defined(Option<Vec<u64>>),
}

impl FileEvidence<'_> {
    /// Whether a call through the word at `slot` comes back.
    pub(super) fn call_through(&self, slot: u64) -> Return {
        let Imports { known, depth, .. } = &self.answers.imports;
        if let Some(known) = known.borrow().get(&slot) {
            return *known;
        }
        if depth.get() >= DEEP {
            return Return::Unknown;
        }
        // Whoever asks in the meantime is told that nothing is known.
        known.borrow_mut().insert(slot, Return::Unknown);
        depth.set(depth.get().saturating_add(1));
        let found = self.imported(slot).unwrap_or(Return::Unknown);
        depth.set(depth.get().saturating_sub(1));
        known.borrow_mut().insert(slot, found);
        found
    }

    fn imported(&self, slot: u64) -> Option<Return> {
        let (_, module, image) = self.image(slot)?;
        let names = self.names(module.start, image);
        let import = names.get(&slot.wrapping_sub(module.bias));
        if matches!(import, Some(Imported::Never)) {
            return Some(Return::Never);
        }
        let there = self.memory.word(slot).ok().filter(|_| self.is_linkage(slot))?;
        let linked = there.wrapping_sub(module.bias);
        if !image.plts().any(|plt| (plt.start..plt.end).contains(&linked)) {
            return Some(self.function_returns(there));
        }
        let Imported::Defined(Some(functions)) = import? else { return None };
        let found: Vec<Return> = functions.iter().map(|function| self.function_returns(*function)).collect();
        let (first, rest) = found.split_first()?;
        rest.iter().all(|other| other == first).then_some(*first)
    }

    /// Whether the function that begins at an address returns.
    fn function_returns(&self, address: u64) -> Return {
        let Some(module) = self.modules.find(address) else { return Return::Unknown };
        let returns = Rc::clone(self.answers.imports.returns.borrow_mut().entry(module.start).or_default());
        let layout = self.layout(&module);
        let through = |slot: u64| self.call_through(slot.wrapping_add(module.bias));
        let source = self.source(&module, &through);
        returns.ask(&source, &layout, Callee::Function(address.wrapping_sub(module.bias)))
    }

    fn names(&self, start: u64, image: &Image) -> Rc<Names> {
        let mut names = self.answers.imports.names.borrow_mut();
        Rc::clone(names.entry(start).or_insert_with(|| Rc::new(self.find_names(image))))
    }

    /// What a module imports, with all functions of those names in whatever is loaded.
    fn find_names(&self, image: &Image) -> Names {
        let modules = self.space.map(|space| space.modules.as_slice()).unwrap_or_default();
        // The loader binds nothing to the kernel's.
        let modules: Vec<_> = modules.iter().filter(|module| self.vdso != Some(module.start)).collect();
        let loaded: Vec<_> = modules.iter().filter_map(|module| self.image(module.start)).collect();
        let all = loaded.len() == modules.len();
        let mut defined: HashMap<&[u8], Option<Vec<u64>>> =
            imports(image).map(|import| (import.name, all.then(Vec::new))).collect();
        for (_, module, image) in loaded {
            for symbol in image.symbols().filter(|symbol| symbol.section != 0) {
                let Some(functions) = defined.get_mut(symbol.name) else { continue };
                match (symbol.kind, functions.as_mut()) {
                    (STT_FUNC | STT_NOTYPE, Some(functions)) => {
                        functions.push(symbol.address.wrapping_add(module.bias));
                    }
                    (STT_GNU_IFUNC, _) => *functions = None,
                    _ => {}
                }
            }
        }
        let imported = |import: Import<'_>| {
            let defined = || Imported::Defined(defined.get(import.name).cloned().flatten());
            (import.slot, if import.never_returns() { Imported::Never } else { defined() })
        };
        imports(image).map(imported).collect()
    }
}
