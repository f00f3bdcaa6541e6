//! Where the bytes of a recorder come from.

use super::follow::is_there;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{Ordering, fence};

/// Something that has the bytes of a recorder, or pieces of them.
pub trait Source {
    /// Fills `into` with what is at `offset`; false where not all of it is known.
    fn read(&self, offset: u64, into: &mut [u8]) -> bool;

    /// How many bytes there are, where they have an end; nothing where there are pieces only.
    fn size(&self) -> Option<u64>;

    /// Whether a process, which began at this tick where that is known, does not write there any more: what it has not
    /// committed it never will.
    fn has_ended(&self, _process: u32, _started: Option<u64>) -> bool {
        true
    }
}

impl Source for &[u8] {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let from =
            usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).and_then(|rest| rest.get(..into.len()));
        from.is_some_and(|from| {
            into.copy_from_slice(from);
            true
        })
    }

    fn size(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

/// A recorder's file, or the memory of a process where that is mapped: others may write there while it is read.
#[derive(Debug)]
pub struct Live {
    file: File,
    /// Where it begins in the memory of a process, of which it is one mapping or several.
    memory: Option<u64>,
    size: u64,
}

impl Live {
    /// The file at a path.
    ///
    /// # Errors
    /// Where the system refuses to open it, or it is none: a pipe would have us wait.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, memory: None, size })
    }

    /// `size` bytes of `/proc/PID/mem` from an address on.
    pub(super) fn memory(file: File, address: u64, size: u64) -> Self {
        Self { file, memory: Some(address), size }
    }

    /// The same, its size known better: a file knows its own.
    pub(super) fn of_size(self, size: Option<u64>) -> Self {
        let size = self.memory.and(size).unwrap_or(self.size);
        Self { size, ..self }
    }
}

impl Source for Live {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        // What is read later is not older than what was read before: `commit` first, then records, then `reserve`.
        fence(Ordering::Acquire);
        self.memory.unwrap_or(0).checked_add(offset).is_some_and(|at| self.file.read_exact_at(into, at).is_ok())
    }

    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn has_ended(&self, process: u32, started: Option<u64>) -> bool {
        self.memory.is_none() && !is_there(process, started)
    }
}
