//! Finding the file of a module and its separate debug file on disk, and telling whether it is the right one.
//!
//! A file is the right one when it has the build ID that the target's memory shows, or, where there is none, when every
//! byte that can be compared is the same. A path alone proves nothing.

use super::{BuildId, Image};
use crate::snapshot::Identity;
use std::path::{Path, PathBuf};

/// Where to look for files.
#[derive(Clone, Debug, Default)]
pub struct Find {
    /// The executable, when the user names it.
    pub exe: Option<PathBuf>,
    /// Directories that stand in for the target's root, tried before the real one.
    pub sysroots: Vec<PathBuf>,
    /// Directories with separate debug files; `/usr/lib/debug` when empty.
    pub debug_dirs: Vec<PathBuf>,
    /// A directory that may hold copies of the target's files under their own names: where the core itself lies. Used for
    /// what has a build ID.
    pub beside: Option<PathBuf>,
}

/// What the target tells about a module's file.
pub(crate) struct Wanted<'a> {
    /// Its path there.
    pub path: &'a Path,
    /// The path named by the user instead.
    pub named: Option<&'a Path>,
    /// `e_machine`.
    pub machine: u16,
    /// Its build ID.
    pub build_id: Option<&'a BuildId>,
    /// How many bytes of a candidate are the same in the target's memory, `Err` when one differs.
    pub same_bytes: &'a dyn Fn(&Image) -> Result<u64, Differs>,
}

/// A byte of the file is another one in the target's memory.
pub(crate) struct Differs;

impl Find {
    /// The file of a module, if it is proven to be the right one, and what was found out.
    pub(crate) fn image(&self, wanted: &Wanted<'_>) -> (Option<Image>, Identity) {
        let mut verdict = Identity::Missing;
        for path in self.candidates(wanted) {
            let Ok(image) = Image::open(&path) else { continue };
            let identity = judge(&image, wanted);
            if matches!(identity, Identity::BuildId | Identity::Bytes { .. }) {
                return (Some(image), identity);
            }
            if verdict == Identity::Missing {
                verdict = identity;
            }
        }
        (None, verdict)
    }

    /// Where a path of the target may be: in each other root, and as it is.
    pub(crate) fn anywhere(&self, path: &Path) -> Vec<PathBuf> {
        let roots = self.sysroots.iter().filter(|_| path.is_absolute()).map(|root| below(root, path));
        roots.chain([path.to_owned()]).collect()
    }

    fn candidates(&self, wanted: &Wanted<'_>) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = wanted.named.into_iter().map(Path::to_owned).collect();
        let whole = wanted.path;
        let renamed = whole.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(Path::new);
        for path in [Some(whole), renamed].into_iter().flatten() {
            paths.extend(self.anywhere(path));
        }
        if let Some(name) = wanted.build_id.and_then(|id| build_id_path(id, "")) {
            paths.extend(self.all_debug_dirs().map(|dir| dir.join(&name)));
        }
        if wanted.build_id.is_some() {
            paths.extend(self.beside.iter().zip(whole.file_name()).map(|(directory, name)| directory.join(name)));
        }
        paths
    }

    /// The separate debug file that belongs to `image`, whose own file is at `path`: by build ID, else by debug link.
    pub fn debug_file(&self, image: &Image, path: &Path) -> Option<Image> {
        let id = image.build_id();
        let usable = |candidate: &Image, crc: Option<u32>| match (&id, candidate.build_id()) {
            (Some(wanted), found) => found.as_ref() == Some(wanted),
            (None, _) => crc.is_some_and(|crc| crc32fast::hash(candidate.bytes()) == crc),
        };
        let open = |path: PathBuf, crc| Image::open(&path).ok().filter(|candidate| usable(candidate, crc));

        let by_id = id.as_ref().and_then(|id| build_id_path(id, ".debug"));
        if let Some(found) = by_id.and_then(|name| self.all_debug_dirs().find_map(|dir| open(dir.join(&name), None))) {
            return Some(found);
        }
        let (name, crc) = image.debug_link()?;
        // A name with directories in it could lead anywhere.
        if name.contains('/') || name.is_empty() {
            return None;
        }
        let home = path.parent()?;
        let homes = self.sysroots.iter().map(|root| below(root, home)).chain([home.to_owned()]);
        let beside = homes.flat_map(|home| [home.join(&name), home.join(".debug").join(&name)]);
        let apart = self.all_debug_dirs().map(|dir| below(&dir, home).join(&name));
        beside.chain(apart).filter(|candidate| candidate != path).find_map(|path| open(path, Some(crc)))
    }

    /// Directories for separate debug files, those of the sysroots first.
    fn all_debug_dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let default = Path::new("/usr/lib/debug");
        let in_roots = self.sysroots.iter().map(move |root| below(root, default));
        let given = self.debug_dirs.iter().cloned();
        let fallback = self.debug_dirs.is_empty().then(|| default.to_owned());
        given.chain(in_roots).chain(fallback)
    }
}

/// Whether `image` is the wanted file.
fn judge(image: &Image, wanted: &Wanted<'_>) -> Identity {
    let found = image.build_id();
    let replaced = |found| Identity::Replaced { wanted: wanted.build_id.cloned(), found };
    if image.machine() != wanted.machine {
        return replaced(found);
    }
    if wanted.build_id.is_some() {
        return if found.as_ref() == wanted.build_id { Identity::BuildId } else { replaced(found) };
    }
    match (wanted.same_bytes)(image) {
        Err(Differs) => replaced(found),
        Ok(0) => Identity::Unchecked,
        Ok(compared) => Identity::Bytes { compared },
    }
}

/// An absolute path of the target below another root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// `.build-id/xx/yyyy` with a suffix; none for an ID too short to be split.
fn build_id_path(id: &BuildId, suffix: &str) -> Option<PathBuf> {
    let text = id.to_string();
    let (directory, name) = text.split_at_checked(2).filter(|(_, name)| !name.is_empty())?;
    Some(Path::new(".build-id").join(directory).join(format!("{name}{suffix}")))
}
