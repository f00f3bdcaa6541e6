//! Debug information that lies in further files: `.dwo`, `.dwp`, and what several files share (dwz).

use super::sections::{Sections, Slice};
use super::store::Store;
use crate::image::Image;
use addr2line::SplitDwarfLoad;
use gimli::{Dwarf, DwarfPackage};
use std::cell::{OnceCell, RefCell};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the further files of a module are found, and those that were.
pub(super) struct Split<'s> {
    module: PathBuf,
    store: &'s Store,
    package: OnceCell<Option<DwarfPackage<Slice<'s>>>>,
    shared: RefCell<Option<Option<&'s Image>>>,
}

impl<'s> Split<'s> {
    pub fn of(module: &Path, store: &'s Store) -> Self {
        Self { module: module.to_owned(), store, package: OnceCell::new(), shared: RefCell::default() }
    }

    /// The split unit that `load` asks for: from the package beside the module, else from its own file, which must have
    /// the same id.
    pub fn load(&self, load: &SplitDwarfLoad<Slice<'s>>) -> Option<Arc<Dwarf<Slice<'s>>>> {
        let package = self.package.get_or_init(|| self.open_package()).as_ref();
        if let Some(Ok(Some(dwarf))) = package.map(|package| package.find_cu(load.dwo_id, &load.parent)) {
            return Some(Arc::new(dwarf));
        }
        self.candidates(load).into_iter().find_map(|path| {
            let sections = Sections::of(self.store.keep_image(Image::open(&path).ok()?), self.store);
            let Ok(mut dwarf) = Dwarf::load::<_, std::convert::Infallible>(|id| Ok(sections.needed_split(id)));
            dwarf.make_dwo(&load.parent);
            let header = dwarf.units().next().ok()??;
            let unit = dwarf.unit(header).ok()?;
            (unit.dwo_id == Some(load.dwo_id)).then(|| Arc::new(dwarf))
        })
    }

    /// Where the compiler put the file, and beside the module.
    fn candidates(&self, load: &SplitDwarfLoad<Slice<'s>>) -> Vec<PathBuf> {
        let text = |bytes: Option<Slice<'s>>| Some(PathBuf::from(bytes?.to_string_lossy().into_owned()));
        let Some(name) = text(load.path) else { return Vec::new() };
        let compiled = text(load.comp_dir).map_or_else(|| name.clone(), |directory| directory.join(&name));
        let beside = self.module.parent().zip(name.file_name()).map(|(home, name)| home.join(name));
        let relative = self.module.parent().map(|home| home.join(&name));
        [Some(compiled), relative, beside].into_iter().flatten().collect()
    }

    fn open_package(&self) -> Option<DwarfPackage<Slice<'s>>> {
        let mut path = OsString::from(&self.module);
        path.push(".dwp");
        let sections = Sections::of(self.store.keep_image(Image::open(Path::new(&path)).ok()?), self.store);
        DwarfPackage::load::<_, gimli::Error>(|id| Ok(sections.needed_split(id)), Slice::default()).ok()
    }

    /// The debug information that `debug` shares with other files, if it does and the file with the right build ID is
    /// there.
    pub fn shared(&self, debug: &Image) -> Option<Dwarf<Slice<'s>>> {
        let image = *self.shared.borrow_mut().get_or_insert_with(|| self.open_shared(debug));
        let sections = Sections::of(image?, self.store);
        let Ok(dwarf) = Dwarf::load::<_, std::convert::Infallible>(|id| Ok(sections.needed(id)));
        Some(dwarf)
    }

    fn open_shared(&self, debug: &Image) -> Option<&'s Image> {
        const DEBUG: &str = "/usr/lib/debug";
        let (path, id) = debug.debug_alt_link()?;
        let text = id.to_string();
        let (directory, name) = text.split_at_checked(2)?;
        let by_id = Path::new(DEBUG).join(".build-id").join(directory).join(format!("{name}.debug"));
        // Relative to the debug file, which is below this directory: `../../.dwz/…`.
        let below = Path::new(DEBUG).join(".build-id/00").join(&path);
        let beside = self.module.parent().map(|home| home.join(&path));
        let found = [Some(by_id), Some(below), beside]
            .into_iter()
            .flatten()
            .find_map(|path| Image::open(&path).ok().filter(|image| image.build_id().as_ref() == Some(&id)));
        Some(self.store.keep_image(found?))
    }
}
