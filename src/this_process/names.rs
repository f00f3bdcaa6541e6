//! Function, file, line and inlined calls for the addresses of a backtrace of our own.

mod held;
mod named;

use crate::error::Error;
use crate::image::{BuildId, Find};
use crate::snapshot::{Identity, LoadedModule};
use held::Held;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use surestack_module_map::Record;
use surestack_walk::CodeAddress;

pub use named::Named;

/// Names code of this process, and remembers what it learned.
///
/// ```
/// use surestack::this_process::{Names, Trace, refresh};
///
/// refresh();
/// let trace: Trace = Trace::capture();
/// let pcs: Vec<_> = trace.frames().map(|frame| frame.pc).collect();
/// let mut names = Names::new();
/// for named in names.of(&pcs) {
///     println!("{named}");
/// }
/// ```
///
/// What it says is what a report on a core of the same program says. A module's files are opened when one of its addresses
/// is asked for the first time, and of its debug information only the units that cover such addresses are parsed; whoever
/// asks again is answered from memory. At most some thousand answers a module are kept.
///
/// Allocates, opens files, takes locks: not for signal handlers. An address is named by the module that is loaded there
/// when it is asked for; a module that was unloaded meanwhile is nobody's, and what was known of it is forgotten.
#[derive(Default)]
pub struct Names {
    find: Find,
    modules: HashMap<u64, Held>,
    generation: Option<u64>,
}

impl Names {
    /// Knowing nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, separate debug files being looked for where `find` says.
    pub fn with_files(find: Find) -> Self {
        Self { find, ..Self::default() }
    }

    /// The names of these addresses, in their order.
    pub fn of(&mut self, pcs: &[CodeAddress]) -> Vec<Named> {
        super::refresh();
        self.forget_unloaded();
        pcs.iter().map(|pc| self.name(*pc)).collect()
    }

    /// What speaks against files of modules that were asked for: they are gone, cannot be read, or are others than those
    /// that are mapped. Such a module has names only where a separate debug file is proven to be its own.
    pub fn refused(&self) -> impl Iterator<Item = &Error> {
        self.modules.values().filter_map(Held::refused)
    }

    fn name(&mut self, pc: CodeAddress) -> Named {
        let Ok((Some(found), _)) = super::modules().look_up(pc.lookup()) else { return Named::unknown(pc) };
        let record = found.record;
        let held = self.modules.entry(key(record)).or_insert_with(|| Held::open(loaded(record), &self.find));
        Named::new(pc, held.symbol(pc), Arc::clone(held.module()))
    }

    /// Drops what is known of modules that are not loaded any more.
    fn forget_unloaded(&mut self) {
        let modules = super::modules();
        let generation = modules.generation();
        if self.generation == Some(generation) {
            return;
        }
        let loaded = (0..).map_while(|index| modules.at(index).ok()?);
        // Of a module without a build ID another file may have come in its place.
        let kept: Vec<u64> = loaded.filter(|record| !record.build_id.is_empty()).map(key).collect();
        self.modules.retain(|module, _| kept.contains(module));
        self.generation = Some(generation);
    }
}

/// Records live as long as the process: where one lies is its module's identity.
fn key(record: &'static Record) -> u64 {
    std::ptr::from_ref(record).addr().try_into().unwrap_or(0)
}

/// A module as the loader knows it.
fn loaded(record: &Record) -> LoadedModule {
    LoadedModule {
        start: record.start,
        end: record.end,
        bias: record.bias,
        path: PathBuf::from(OsStr::from_bytes(record.path)),
        build_id: (!record.build_id.is_empty()).then(|| BuildId(record.build_id.to_vec())),
        image: None,
        debug: None,
        identity: Identity::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_not_loaded_any_more_is_dropped_and_the_others_stay() {
        let here = u64::try_from((Names::new as fn() -> Names as *const ()).addr()).unwrap();
        let mut names = Names::new();
        assert!(names.of(&[CodeAddress::Exact(here)])[0].function().is_some());
        let own = *names.modules.keys().next().unwrap();
        let gone = Held::open(names.modules[&own].module().as_ref().clone(), &names.find);
        names.modules.insert(16, gone);
        names.generation = None;
        assert!(names.of(&[]).is_empty());
        assert_eq!(names.modules.keys().copied().collect::<Vec<_>>(), [own]);
    }
}
