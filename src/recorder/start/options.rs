//! What a recorder is to be like, before it is started.

use super::error::StartError;
use std::path::PathBuf;
use surestack_recorder::Geometry;
use surestack_recorder::layout::mode;

/// What happens where a thread's ring is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// The oldest events go, a page of them at once: what is kept is how it ended.
    #[default]
    Overwrite,
    /// New events go, and are counted: what is kept is how it began.
    DropNewest,
}

impl Full {
    pub(super) const fn mode(self) -> u64 {
        match self {
            Self::Overwrite => mode::OVERWRITE,
            Self::DropNewest => mode::DROP_NEWEST,
        }
    }
}

/// A recorder that is not started yet. What is not said has the value written at each method.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is recorded before `start` is called"]
pub struct Options {
    pub(super) path: Option<PathBuf>,
    threads: usize,
    ring_size: usize,
    sites_size: usize,
    annotations: usize,
    pub(super) full: Full,
}

impl Options {
    /// A recorder in a file at this path, readable by this user. What an earlier run left there is kept beside it, with
    /// `.previous` behind its name.
    ///
    /// It outlives the process, and the machine's next start if its file system does. On a file system that writes what
    /// changes to a new place (btrfs, ZFS), room that was there once may be gone later: use memory, or ext4, XFS or tmpfs.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::memory() }
    }

    /// A recorder in memory of its own. It is in every crash report and in core files, and can be read by others as long as
    /// the process runs.
    pub fn memory() -> Self {
        Self {
            path: None,
            threads: 1024,
            ring_size: 64 << 10,
            sites_size: 256 << 10,
            annotations: 64,
            full: Full::Overwrite,
        }
    }

    /// How many threads can write at once; 1024 if not said. A thread beyond them takes the place of one that has ended, or is
    /// refused and counted.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Bytes of each thread's ring; 64 KiB if not said. A power of two, 32 KiB to 64 MiB.
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// Bytes for what events mean, about a hundred for each `event!` of the program that is met; 256 KiB if not said.
    pub fn sites_size(mut self, bytes: usize) -> Self {
        self.sites_size = bytes;
        self
    }

    /// How many different keys can be annotated; 64 if not said.
    pub fn annotations(mut self, keys: usize) -> Self {
        self.annotations = keys;
        self
    }

    /// What happens where a ring is full; [`Full::Overwrite`] if not said.
    pub fn full(mut self, full: Full) -> Self {
        self.full = full;
        self
    }

    pub(super) fn geometry(&self) -> Result<Geometry, StartError> {
        let Self { threads, ring_size, sites_size, annotations, .. } = *self;
        let geometry = Geometry::new(threads, ring_size, sites_size, annotations);
        geometry.ok_or(StartError::Size { threads, ring_size, sites_size, annotations })
    }
}
