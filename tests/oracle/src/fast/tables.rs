//! Tables of the files that are mapped, each compiled once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use surestack::image::{BuildId, Image};
use surestack::snapshot::{AddressSpace, LoadedModule};
use surestack::this_process::{KnownCode, compile};
use surestack_fast::Table;

type Compiled = Option<&'static Table<'static>>;
type File = (PathBuf, Option<BuildId>);

/// What became of each file. Tables are never given back.
static FILES: Mutex<Option<HashMap<File, Compiled>>> = Mutex::new(None);

/// Tables of one process's modules, by their positions.
#[derive(Default)]
pub struct Tables {
    modules: Vec<(u64, File)>,
    tables: Vec<Compiled>,
}

impl Tables {
    /// Those of what is mapped now.
    pub fn of(&mut self, space: &AddressSpace) -> &[Compiled] {
        let name = |module: &LoadedModule| (module.start, (module.path.clone(), module.build_id.clone()));
        if !space.modules.iter().map(name).eq(self.modules.iter().cloned()) {
            self.modules = space.modules.iter().map(name).collect();
            self.tables = space.modules.iter().map(table).collect();
        }
        &self.tables
    }
}

fn table(module: &LoadedModule) -> Compiled {
    let image = module.image.as_ref()?;
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let file = (module.path.clone(), module.build_id.clone());
    *files.get_or_insert_default().entry(file).or_insert_with(|| compiled(image))
}

fn compiled(image: &Image) -> Compiled {
    const LOADED: u32 = 1;
    const EXECUTABLE: u32 = 1;
    let code = image.segments().iter().filter(|segment| segment.kind == LOADED && segment.flags & EXECUTABLE != 0);
    let text = code.filter_map(|segment| {
        let length = usize::try_from(segment.file_size).ok()?;
        Some((segment.address, image.at(segment.address, length)?))
    });
    let known = KnownCode::in_code(text);
    let table = compile(&image.unwind(), |from, to| known.is_in(from, to)).ok()?;
    Some(Box::leak(Box::new(table)))
}
