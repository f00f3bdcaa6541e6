//! The file of a mapping: the very one, though it was deleted or replaced since or lies in another mount namespace.

use super::maps::Map;
use crate::image::Image;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
