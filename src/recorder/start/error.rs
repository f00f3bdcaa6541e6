//! Why no recorder was started.

use std::io;
use std::path::PathBuf;

/// Why no recorder was started, and what to do about it. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is one already.
    #[error(
        "a recorder was started already, and lasts as long as the process; start it once, at the beginning of `main`"
    )]
    Started,
    /// A recorder cannot be this large, or this small.
    #[error(
        "no recorder has {threads} threads, rings of {ring_size} bytes, {sites_size} bytes for sites and {annotations} \
         annotations; a ring is a power of two from 32 KiB to 64 MiB, sites are a multiple of eight up to 512 KiB"
    )]
    Size {
        /// Thread slots asked for.
        threads: usize,
        /// Bytes of each ring.
        ring_size: usize,
        /// Bytes of sites.
        sites_size: usize,
        /// Slots for annotations.
        annotations: usize,
    },
    /// Another process writes there.
    #[error("{} is in use by process {process} or its children; give each process a path of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// The process that started it.
        process: u64,
    },
    /// There is something else already, which is not ours to move.
    #[error("{} is there already and was not made by a recorder; move it away, or give another path", path.display())]
    NotOurs {
        /// What there is.
        path: PathBuf,
    },
    /// No room, on the disk or in memory.
    #[error("no room for {bytes} bytes of a recorder at {}: {source}; make room there, or ask for less", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// How many bytes were needed.
        bytes: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The file could not be made.
    #[error("{what} {}: {source}; give a path in a directory that this user may write to", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused something that a recorder cannot do without.
    #[error("{what}: {source}; the limits on memory and open files may be too low, or the kernel older than 4.14")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}
