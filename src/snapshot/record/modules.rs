//! The modules of a record and their files, which are all the memory there is.

use super::contents::RecordedModule;
use crate::image::find::Wanted;
use crate::image::{BuildId, Find, Image, own_vdso};
use crate::snapshot::{Identity, LoadedModule, Mapped};
use object::elf::{PF_W, PF_X, PT_LOAD};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use surestack_walk::{Arch, Error, Memory};

/// Bytes of a page: the loader maps whole ones.
const PAGE: u64 = 4096;
/// What the kernel calls its own module.
const VDSO: &str = "[vdso]";

/// Looks for the files, by path and build ID.
pub(super) fn load(
    arch: &'static Arch,
    mut recorded: Vec<RecordedModule>,
    exe: Option<&Path>,
    find: &Find,
) -> Vec<LoadedModule> {
    recorded.sort_by_key(|module| module.start);
    let mut modules: Vec<LoadedModule> = vec![];
    for module in recorded {
        let RecordedModule { start, end, bias, build_id, path } = module;
        let path = named(path, exe);
        if start >= end || modules.last().is_some_and(|last| start < last.end) {
            continue;
        }
        let build_id = Some(BuildId(build_id)).filter(|id| !id.0.is_empty());
        let (image, identity) = match path == Path::new(VDSO) {
            true => vdso(build_id.as_ref()),
            false => {
                let named = find.exe.as_deref().filter(|_| exe == Some(path.as_path()));
                let (path, build_id) = (path.as_path(), build_id.as_ref());
                // Nothing of the process is left to compare a file with.
                find.image(&Wanted { path, named, machine: arch.machine, build_id, same_bytes: &|_| Ok(0) })
            }
        };
        let image = image.map(Arc::new);
        let debug = image.as_ref().and_then(|image| find.debug_file(image, &path)).map(Arc::new);
        modules.push(LoadedModule { start, end, bias, path, build_id, image, debug, identity });
    }
    modules
}

/// The path of a module that the loader may have named: the program has no name there, and the vDSO one like a file.
fn named(path: PathBuf, exe: Option<&Path>) -> PathBuf {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.starts_with(b"linux-vdso.so") {
        return PathBuf::from(VDSO);
    }
    exe.filter(|_| bytes.is_empty()).map_or(path, Path::to_owned)
}

/// The vDSO that we have, if the process had the same.
fn vdso(wanted: Option<&BuildId>) -> (Option<Image>, Identity) {
    let ours = own_vdso().and_then(|bytes| Image::from_bytes(bytes.to_vec(), VDSO).ok());
    match ours {
        Some(image) if wanted.is_some() && image.build_id().as_ref() == wanted => (Some(image), Identity::BuildId),
        _ => (None, Identity::Missing),
    }
}

/// What is mapped of a module, by its file; where there is none, something.
pub(super) fn mappings(module: &LoadedModule) -> Vec<Mapped> {
    let LoadedModule { start, end, bias, path, image, .. } = module;
    let Some(image) = image else {
        let (executable, writable, file) = (None, None, Some((path.clone(), 0)));
        return vec![Mapped { start: *start, end: *end, executable, writable, file, probe: None }];
    };
    let loads = image.segments().iter().filter(|segment| segment.kind == PT_LOAD);
    let mapped = loads.filter_map(|segment| {
        let into_page = segment.address % PAGE;
        let low = bias.wrapping_add(segment.address.wrapping_sub(into_page));
        let size = segment.memory_size.checked_add(into_page)?.checked_next_multiple_of(PAGE)?;
        Some(Mapped {
            start: low.max(*start),
            end: low.checked_add(size)?.min(*end),
            executable: Some(segment.flags & PF_X != 0),
            writable: Some(segment.flags & PF_W != 0),
            file: Some((path.clone(), segment.offset.saturating_sub(into_page))),
            probe: None,
        })
    });
    mapped.collect()
}

/// What files hold of a process's memory: the segments that nobody writes to.
pub(super) struct FileMemory {
    modules: Vec<(u64, u64, u64, Arc<Image>)>,
}

impl FileMemory {
    /// The memory of these modules, which are ascending.
    pub fn new(modules: &[LoadedModule]) -> Self {
        let constant = |module: &LoadedModule| {
            let image = module.image.as_ref().filter(|image| !image.has_text_relocations())?;
            Some((module.start, module.end, module.bias, image.clone()))
        };
        Self { modules: modules.iter().filter_map(constant).collect() }
    }
}

impl Memory for FileMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let unreadable = Error::Unreadable { address };
        let after = self.modules.partition_point(|(start, ..)| *start <= address);
        let module = after.checked_sub(1).and_then(|at| self.modules.get(at));
        let (_, _, bias, image) = module.filter(|(_, end, ..)| address < *end).ok_or(unreadable)?;
        let linked = address.wrapping_sub(*bias);
        let last = linked.saturating_add(u64::try_from(into.len()).map_err(|_| unreadable)?.saturating_sub(1));
        if image.is_writable(linked) || image.is_writable(last) {
            return Err(unreadable);
        }
        into.copy_from_slice(image.at(linked, into.len()).ok_or(unreadable)?);
        Ok(())
    }
}
