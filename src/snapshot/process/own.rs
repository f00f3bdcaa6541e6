//! The files of our own modules.

use super::maps::{self, Map};
use super::memory::ProcessMemory;
use super::{AT_SYSINFO_EHDR, files};
use crate::error::Error;
use crate::image::{BuildId, Find, Image, own_vdso};
use crate::snapshot::{Identity, LoadedModule};
use std::path::PathBuf;
use std::sync::Arc;

/// Finds the files of a module of this process: the one it was loaded from, or else what memory holds of it, and its
/// debug file. The module says where it is, its path as the loader knows it (nothing for the program), and its build ID.
///
/// What speaks against the file at its path is returned; such a file is not used.
pub(crate) fn find_files(module: &mut LoadedModule, find: &Find) -> Option<Error> {
    // The files of the process that this thread sees: those of its first thread are gone once that has exited.
    let task = surestack_capture::syscall::thread_id();
    // SAFETY: it only looks.
    if unsafe { libc::getauxval(AT_SYSINFO_EHDR) } == module.start {
        let image = own_vdso().and_then(|bytes| Image::from_bytes(bytes.to_vec(), "[vdso]").ok());
        (module.path, module.identity, module.image) = (PathBuf::from("[vdso]"), Identity::Memory, image.map(Arc::new));
        return None;
    }
    let mut refused = None;
    let file = if module.path.as_os_str().is_empty() {
        let program = PathBuf::from(format!("/proc/{task}/exe"));
        module.path = std::fs::read_link(&program).unwrap_or_else(|_| program.clone());
        program
    } else {
        module.path.clone()
    };
    let wanted = module.build_id.clone();
    let image = match (Image::open(&file), &wanted) {
        (Ok(image), Some(wanted)) if image.build_id().as_ref() == Some(wanted) => Some((image, Identity::BuildId)),
        (Ok(image), Some(wanted)) => {
            let found = image.build_id();
            let text = found.as_ref().map(BuildId::to_string);
            refused = Some(Error::OtherFile { path: file, wanted: wanted.to_string(), found: text });
            module.identity = Identity::Replaced { wanted: Some(wanted.clone()), found };
            None
        }
        (Ok(_), None) => None,
        (Err(error), _) => {
            refused = Some(error);
            None
        }
    };
    let Some((image, identity)) = image.or_else(|| mapped(task, module)) else { return refused };
    match (&module.identity, identity) {
        // What memory holds of a file that was replaced.
        (Identity::Replaced { .. }, Identity::Memory) => {}
        (_, identity) => module.identity = identity,
    }
    module.debug = find.debug_file(&image, &module.path).map(Arc::new);
    module.image = Some(Arc::new(image));
    // The very file was found all the same.
    refused.filter(|_| module.identity != Identity::Mapped)
}

/// The file that is mapped where the module begins, by its device and inode, or else what memory holds of it.
fn mapped(task: u32, module: &LoadedModule) -> Option<(Image, Identity)> {
    let maps = maps::parse(&std::fs::read(format!("/proc/{task}/maps")).ok()?);
    let covers = |map: &Map| map.start <= module.start && module.start < map.end;
    let maps = maps.get(maps.iter().position(covers)?..)?;
    let is_it = |image: &Image| module.build_id.is_none() || image.build_id() == module.build_id;
    let image = maps.first().and_then(|map| files::image(task, map)).filter(is_it);
    image.map(|image| (image, Identity::Mapped)).or_else(|| {
        let memory = ProcessMemory::open(task, None).ok()?;
        Some((files::from_memory(&memory, maps)?, Identity::Memory))
    })
}
