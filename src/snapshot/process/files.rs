//! The file of a mapping: the very one, though it was deleted or replaced since or lies in another mount namespace.

use super::maps::Map;
use crate::image::elf::Headers;
use crate::image::{Image, Segment};
use crate::snapshot::placement::{PAGE, Placement};
use object::elf::{PF_W, PT_LOAD};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use surestack_walk::Memory;

/// The file of `map`, mapped by the process that `task` belongs to.
pub(super) fn image(task: u32, map: &Map) -> Option<Image> {
    // The mapping's own link needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; the rest does with the owner's rights.
    let own = PathBuf::from(format!("/proc/{task}/map_files/{:x}-{:x}", map.start, map.end));
    Image::open(&own).ok().or_else(|| others(task, map).iter().find_map(|path| same_file(path, map)))
}

/// Where else that file may be: the program, and its path as the process sees it.
fn others(task: u32, map: &Map) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(format!("/proc/{task}/exe"))];
    if let Some(path) = map.path.as_deref().and_then(|path| path.strip_prefix("/").ok()) {
        paths.push(Path::new(&format!("/proc/{task}/root")).join(path));
    }
    paths
}

/// The file at `path`, if it is the one that is mapped, by device and inode.
fn same_file(path: &Path, map: &Map) -> Option<Image> {
    let is_it = || {
        let found = std::fs::metadata(path).ok()?;
        Some(found.ino() == map.inode && device(found.dev()) == map.device)
    };
    // Looked at before and after it is opened: the path may lead elsewhere meanwhile.
    let image = is_it()?.then(|| Image::open(path).ok())??;
    is_it()?.then_some(image)
}

/// A device number as `/proc/PID/maps` writes it.
fn device(number: u64) -> String {
    format!("{:02x}:{:02x}", libc::major(number), libc::minor(number))
}

/// What memory holds of the file whose beginning is mapped by the first of `maps`: its segments that are not written to.
pub(super) fn from_memory(memory: &dyn Memory, maps: &[Map]) -> Option<Image> {
    let first = maps.first()?;
    let own = maps.iter().take_while(|map| map.inode == first.inode || map.inode == 0);
    let end = own.filter(|map| map.inode == first.inode).last()?.end;
    let mut page = vec![0; usize::try_from(PAGE).ok()?];
    memory.read(first.start, &mut page).ok()?;
    let headers = Headers::parse(&page).ok()?;
    let bias = Placement::at_base(&headers.segments, first.start)?.bias;
    let is_constant = |segment: &&Segment| segment.kind == PT_LOAD && segment.flags & PF_W == 0;
    let (mut bytes, mut known) = (vec![], vec![]);
    for segment in headers.segments.iter().filter(is_constant) {
        let start = bias.wrapping_add(segment.address);
        let is_mapped = start >= first.start && start.checked_add(segment.file_size)? <= end;
        let offset = usize::try_from(segment.offset).ok()?;
        // No linker leaves more room in a file than between its mappings.
        if !is_mapped || segment.offset > end - first.start || offset < bytes.len() {
            return None;
        }
        bytes.resize(offset.checked_add(usize::try_from(segment.file_size).ok()?)?, 0);
        memory.read(start, bytes.get_mut(offset..)?).ok()?;
        known.push(offset..bytes.len());
    }
    Image::from_parts(bytes, known, "memory of the process").ok()
}
