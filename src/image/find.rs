//! Finding the file of a module and its separate debug file on disk, and telling whether it is the right one.

use super::{BuildId, Image};
use std::path::PathBuf;

/// Where to look for files.
#[derive(Clone, Debug, Default)]
pub struct Find {
    /// The executable, when the user names it.
    pub exe: Option<PathBuf>,
    /// Directories that stand in for the target's root, tried before the real one.
    pub sysroots: Vec<PathBuf>,
    /// Directories with separate debug files; `/usr/lib/debug` when empty.
    pub debug_dirs: Vec<PathBuf>,
}
