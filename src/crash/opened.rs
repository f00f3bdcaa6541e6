//! What a report writes to and reads from, opened while opening is allowed: a sandbox may forbid it later.
//!
//! All of it is closed on `exec`, and has numbers that programs do not count on.

use super::builder::Handler;
use super::environment::DIRECTORY;
use super::error::InstallError;
use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use surestack_capture::syscall::Descriptor;
use surestack_capture::{Initial, Plan, Second};

/// Numbers below are the program's.
const FIRST: Descriptor = 512;

/// What was opened. Closed when it is dropped.
#[derive(Debug)]
pub(super) struct Opened {
    /// Where reports are written, and where text goes that standard error does not take.
    places: [Option<Place>; 2],
    maps: Option<OwnedFd>,
    pagemap: Option<OwnedFd>,
    tasks: Option<OwnedFd>,
}

/// A directory, and a file in it that has no name yet.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: OwnedFd,
    file: OwnedFd,
    /// The name that the file has where the file system knows no files without one.
    named: Option<PathBuf>,
}

impl Opened {
    /// Opens everything. A directory that somebody asked for has to be writable; one that nobody asked for is done without.
    pub(super) fn new(handler: &Handler) -> Result<Self, InstallError> {
        let record = match &handler.directory {
            Some(path) => {
                let variable = handler.variable(DIRECTORY);
                let refused = |source| InstallError::Directory { path: path.clone(), variable, source };
                // The program may go elsewhere.
                let path = std::path::absolute(path).map_err(refused)?;
                Some(std::fs::create_dir_all(&path).and_then(|()| Place::new(&path)).map_err(refused)?)
            }
            None => own_directory().and_then(|path| Place::new(&path)).ok(),
        };
        let read = |path: &str| high(OpenOptions::new().read(true).open(path)?.into());
        Ok(Self {
            places: [record, Place::new(&std::env::temp_dir()).ok()],
            maps: read("/proc/self/maps").ok(),
            pagemap: read("/proc/self/pagemap").ok(),
            tasks: read("/proc/self/task").ok(),
        })
    }

    /// The directory for reports, if there is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.places[0].as_ref().map(|place| place.path.as_path())
    }

    /// Fills in what a handler needs of it.
    pub(super) fn plan(&self, plan: Plan) -> Plan {
        let number = |file: &Option<OwnedFd>| file.as_ref().map(OwnedFd::as_raw_fd);
        let [record, second] = &self.places;
        Plan {
            record: record.as_ref().map(|place| place.file.as_raw_fd()),
            directory: record.as_ref().map(|place| place.directory.as_raw_fd()),
            second: second
                .as_ref()
                .map(|place| Second { file: place.file.as_raw_fd(), directory: place.directory.as_raw_fd() }),
            // What it is at the moment: kept open under another number it would keep a pipe's reader waiting.
            text: Some(libc::STDERR_FILENO),
            place: leaked(self.directory()),
            maps: number(&self.maps),
            pagemap: number(&self.pagemap),
            tasks: number(&self.tasks),
            ..plan
        }
    }
}

impl Place {
    fn new(path: &Path) -> io::Result<Self> {
        let directory = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let unnamed = options.clone().custom_flags(libc::O_TMPFILE).open(path);
        let (file, named) = match unnamed {
            Ok(file) => (file, None),
            // File systems that know no unnamed files, and kernels, say one of these.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {
                let named = path.join(format!(".surestack-{}.partial", std::process::id()));
                (options.create(true).truncate(true).open(&named)?, Some(named))
            }
            Err(error) => return Err(error),
        };
        let (directory, file) = (high(directory.into())?, high(file.into())?);
        Ok(Self { path: path.to_owned(), directory, file, named })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            // It is empty, or has got its own name.
            let _ = std::fs::remove_file(named);
        }
    }
}

/// The directory that is used if nobody says which: in the one for temporary files, only for this user.
fn own_directory() -> io::Result<PathBuf> {
    // SAFETY: asks for a number.
    let user = unsafe { libc::geteuid() };
    let path = std::env::temp_dir().join(format!("surestack-{user}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Anybody may have made it, or a link of its name.
    let found = std::fs::symlink_metadata(&path)?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not this user's alone"))
}

/// The same under another number.
fn high(file: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    // Where there are no such numbers it stays as it is.
    Ok(high_of(file.as_fd()).unwrap_or(file))
}

fn high_of(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor.
    let duplicate = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// A path for a handler, which may need it at any time.
fn leaked(path: Option<&Path>) -> &'static CStr {
    let path = path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()).unwrap_or_default();
    Box::leak(path.into_boxed_c_str())
}

/// How the kernel began this program.
pub(super) fn initial() -> Initial {
    // The name in it may hold anything, so what counts is behind the last bracket: field 28, of which field 3 is the first.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let sp = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(25)?.parse().ok());
    Initial { sp: sp.filter(|sp| *sp != 0), auxv: std::fs::read("/proc/self/auxv").unwrap_or_default().leak() }
}

/// The program's path.
pub(super) fn program() -> CString {
    let path =
        std::env::current_exe().or_else(|_| File::open("/proc/self/exe").map(|_| PathBuf::from("/proc/self/exe")));
    path.ok().and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()).unwrap_or_default()
}
