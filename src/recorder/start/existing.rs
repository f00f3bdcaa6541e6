//! What is at a path already: nothing, the recorder of an earlier run, one in use, or something that is not ours.
//!
//! Two things say that one is in use: a lock on the file, which its process and the children it forked hold, and, where that
//! process closed all files, as a daemon does, that it runs and has the file mapped. A number alone says nothing: it may be
//! another process's by now, or another program may have taken the place of the one that recorded.

use super::error::StartError;
use super::header::process_started;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use surestack_recorder::layout::{MAGIC, PAGE, header, sum};

/// A file of an earlier run, locked.
pub struct Existing {
    file: File,
}

/// Who began a recorder.
#[derive(Clone, Copy, Default)]
struct Beginner {
    process: u64,
    started: u64,
}

impl Existing {
    /// What is at this path, if it is of an earlier run.
    pub fn at(path: &Path) -> Result<Option<Self>, StartError> {
        let not_ours = || StartError::NotOurs { path: path.into() };
        let refused =
            |source| StartError::File { what: "cannot look at what is there already:", path: path.into(), source };
        // A link would be moved in the place of what it names, and a pipe waits for somebody.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_ours()),
            Err(error) => return Err(refused(error)),
        };
        if !file.metadata().map_err(refused)?.is_file() {
            return Err(not_ours());
        }
        let beginner = beginner(&file).map_err(refused)?.ok_or_else(not_ours)?;
        let in_use = || StartError::InUse { path: path.into(), process: beginner.process };
        if !lock(&file).map_err(refused)? || is_running(beginner, &file) {
            return Err(in_use());
        }
        // Between opening and locking, somebody else may have put theirs there.
        match fs::symlink_metadata(path) {
            Ok(now) if now.ino() == file.metadata().map_err(refused)?.ino() => Ok(Some(Self { file })),
            _ => Err(in_use()),
        }
    }

    /// Moves it to where the previous one is kept; an empty one goes.
    pub fn make_way(self, path: &Path) -> Result<(), StartError> {
        let previous = previous(path);
        let moved = match self.file.metadata() {
            Ok(found) if found.len() == 0 => fs::remove_file(path),
            _ => fs::rename(path, &previous),
        };
        moved.map_err(|source| StartError::File {
            what: "cannot keep what is there already as",
            path: previous,
            source,
        })
    }
}

/// Where the recorder of the run before is kept.
pub fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// Locks a file, for as long as it is open here or in a forked child. False where somebody else has.
pub fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: an open file.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EWOULDBLOCK) => Ok(false),
        // File systems without locks: there is the process.
        Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(true),
        _ => Err(error),
    }
}

/// Who began it, by the copy of the header that is whole: nobody known where none is. `None` where it is no recorder; an empty
/// file is nobody's.
fn beginner(file: &File) -> io::Result<Option<Beginner>> {
    let mut page = [0; PAGE];
    let mut length = 0;
    while length < page.len() {
        match file.read_at(&mut page[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let copies = header::COPIES.map(|start| &page[start..start + header::SIZE]);
    let is_ours = copies.iter().any(|copy| copy.starts_with(&MAGIC));
    let whole = copies.iter().find(|copy| word(copy, header::SUM) == sum(&copy[..header::SUM]));
    Ok((is_ours || length == 0).then(|| {
        whole.map_or_else(Beginner::default, |copy| Beginner {
            process: word(copy, header::PROCESS),
            started: word(copy, header::PROCESS_STARTED),
        })
    }))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u64::from_le_bytes)
}

/// Whether the process that began a recorder is there, and has it mapped. This one has not: it is about to begin.
fn is_running(beginner: Beginner, file: &File) -> bool {
    let Beginner { process, started } = beginner;
    if process == u64::from(std::process::id()) || process_started(process) != Some(started) {
        return false;
    }
    let Ok(inode) = file.metadata().map(|found| found.ino().to_string()) else { return true };
    match fs::read_to_string(format!("/proc/{process}/maps")) {
        Ok(maps) => maps.lines().any(|line| line.split_ascii_whitespace().nth(4) == Some(&inode)),
        // Somebody else's process: it is to be believed.
        Err(_) => true,
    }
}
