//! The file of a recorder, or its memory, made and mapped, but not seen by anybody yet.

use super::error::StartError;
use super::existing::{self, Existing};
use super::options::Options;
use super::{header, space};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use surestack_recorder::Geometry;

/// What memory of ours is called in `/proc/PID/maps` and in core files.
const MEMORY: &std::ffi::CStr = c"surestack-recorder";

/// A recorder's bytes. Dropped, they are gone.
pub struct Place {
    mapping: Mapping,
    file: File,
    /// Where the file is, and where it is to be.
    named: Option<Named>,
}

/// A file that has a name.
struct Named {
    made: PathBuf,
    path: PathBuf,
    existing: Option<Existing>,
}

struct Mapping {
    base: *mut u8,
    size: usize,
}

impl Place {
    /// Makes it, with a header, and with room for everything but rings.
    pub fn make(options: &Options, geometry: &Geometry) -> Result<Self, StartError> {
        let (file, named) = match &options.path {
            Some(path) => {
                let (file, named) = Named::make(path)?;
                (file, Some(named))
            }
            None => (memory()?, None),
        };
        let shown = named.as_ref().map_or_else(|| PathBuf::from("memory"), |named| named.path.clone());
        fill(&file, options, geometry, &shown)?;
        let mapping = Mapping { base: space::map(&file, geometry.size)?, size: geometry.size };
        populate(&mapping, &file, geometry).map_err(|source| StartError::NoSpace {
            path: shown,
            bytes: geometry.rings,
            source,
        })?;
        if named.is_none() {
            seal(&file)?;
        }
        // Whoever takes a ring has it put into cores.
        let rings = mapping.base.wrapping_add(geometry.rings);
        let refused = |source| StartError::System { what: "leaving unused rings out of cores", source };
        space::leave_out_of_cores(rings, geometry.size - geometry.rings).map_err(refused)?;
        Ok(Self { mapping, file, named })
    }

    /// Puts it where everybody sees it, for good: the path, the open file, and where it is mapped.
    pub fn keep(self) -> Result<(PathBuf, BorrowedFd<'static>, *mut u8), StartError> {
        let path = self.named.map(Named::show).transpose()?;
        let base = self.mapping.base;
        std::mem::forget(self.mapping);
        let raw = self.file.into_raw_fd();
        // SAFETY: it is open, and nobody closes it any more.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        Ok((path.unwrap_or_else(|| format!("/proc/{}/fd/{raw}", std::process::id()).into()), fd, base))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and given to nobody.
        unsafe { libc::munmap(self.base.cast(), self.size) };
    }
}

impl Named {
    fn make(path: &Path) -> Result<(File, Self), StartError> {
        let existing = Existing::at(path)?;
        let mut made = path.as_os_str().to_owned();
        made.push(format!(".{}.new", std::process::id()));
        let made = PathBuf::from(made);
        let refused = |source| StartError::File { what: "cannot make", path: path.into(), source };
        // Of a process of this number that was killed in the middle of this.
        match fs::remove_file(&made) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&made).map_err(refused)?;
        let named = Self { made, path: path.into(), existing };
        existing::lock(&file).map_err(refused)?;
        Ok((file, named))
    }

    /// Gives it its name.
    fn show(mut self) -> Result<PathBuf, StartError> {
        if let Some(existing) = self.existing.take() {
            existing.make_way(&self.path)?;
        }
        let shown = match fs::hard_link(&self.made, &self.path) {
            // File systems without links.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => fs::rename(&self.made, &self.path),
            linked => linked,
        };
        match shown {
            Ok(()) => Ok(self.path.clone()),
            Err(source) => {
                // Where somebody else was there first, it is said who.
                Existing::at(&self.path)?;
                Err(StartError::File { what: "cannot make", path: self.path.clone(), source })
            }
        }
    }
}

impl Drop for Named {
    /// The name under which it was made goes, and with it what has no other.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.made);
    }
}

fn memory() -> Result<File, StartError> {
    // SAFETY: a string that ends with zero.
    let fd = unsafe { libc::memfd_create(MEMORY.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(StartError::System { what: "making a file in memory", source: io::Error::last_os_error() });
    }
    // SAFETY: opened above, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Nobody makes it smaller, which would take pages from under a writer.
fn seal(memory: &File) -> Result<(), StartError> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: an open file.
    match unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(()),
        _ => Err(StartError::System { what: "sealing memory", source: io::Error::last_os_error() }),
    }
}

/// Gives a file its size, room, and a header.
fn fill(file: &File, options: &Options, geometry: &Geometry, path: &Path) -> Result<(), StartError> {
    let no_space = |bytes| move |source| StartError::NoSpace { path: path.into(), bytes, source };
    if geometry.size as u64 > space::largest_file() {
        return Err(no_space(geometry.size)(io::Error::from_raw_os_error(libc::EFBIG)));
    }
    file.set_len(geometry.size as u64).map_err(no_space(geometry.size))?;
    space::take(file, geometry.rings).map_err(no_space(geometry.rings))?;
    file.write_all_at(&header::page(geometry, options.full.mode()), 0).map_err(no_space(geometry.rings))
}

/// Has everything but rings in memory; rings too where a thread could not have its own by itself.
fn populate(mapping: &Mapping, file: &File, geometry: &Geometry) -> io::Result<()> {
    match space::populate(mapping.base, geometry.rings) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => space::take(file, geometry.size),
        populated => populated,
    }
}
