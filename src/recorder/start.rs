//! Starting a recorder: its file, with everything that a writer in a signal handler must find there.
//!
//! ```text
//!   is there a file already?    an earlier run's is kept as PATH.previous, one in use is refused
//!   make PATH.PID.new           header, annotations and sites have their room before anything is written into them
//!   map it, link it to PATH     from here on a reader sees it
//!   publish                     from here on events go there, for as long as the process runs
//! ```
//!
//! Only the room for rings is not taken at once: each is filled when a thread takes it, and a thread whose ring finds none is
//! counted. Where the kernel cannot do that (before 5.14), all of it is taken at the start.

mod error;
mod existing;
mod fork;
mod header;
mod options;
mod place;
mod space;

pub use error::StartError;
pub use options::{Full, Options};

use place::Place;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use surestack_recorder::{Arena, prepare_this_thread, publish, started};

/// What was started. It need not be kept: the recorder runs as long as the process, and there is no way to stop it, since a
/// handler may be about to write at any time.
#[derive(Clone, Debug)]
pub struct Recorder {
    path: PathBuf,
    fd: BorrowedFd<'static>,
}

impl Recorder {
    /// A path under which the recorder can be read as long as the process runs; that of its file, if it has one.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Recorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// Who starts waits for others who do.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts the recorder of this process, once. This thread has its ring then; others take theirs when they first write.
///
/// A forked child goes on in the same recorder. Its file is not open in a program that takes the place of this one (`exec`).
///
/// ```
/// use surestack::recorder::{Options, annotate, event, start};
///
/// let recorder = start(Options::memory())?;
/// annotate("request", 4711);
/// event!("cache miss", key = 42, path = "/index");
/// println!("to be read: surestack recorder {}", recorder.path().display());
/// # Ok::<(), surestack::recorder::StartError>(())
/// ```
///
/// # Errors
/// What was refused, and what to do about it. Then everything is as it was.
pub fn start(options: Options) -> Result<Recorder, StartError> {
    let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if started().is_some() {
        return Err(StartError::Started);
    }
    let geometry = options.geometry()?;
    let place = Place::make(&options, &geometry)?;
    let own = space::private_words()?;
    fork::prepare()?;
    let (path, fd, base) = place.keep()?;
    // SAFETY: that many bytes are mapped there, shared, and nobody ever unmaps them; the file was made by us and is all zeros
    // but for its header. The words are never unmapped either.
    let arena = unsafe { Arena::new(base, geometry, options.full.mode(), own) };
    arena.settle();
    publish(Box::leak(Box::new(arena))).map_err(|_| StartError::Started)?;
    // Where that is refused it is counted, as with any other thread.
    let _ = prepare_this_thread();
    Ok(Recorder { path, fd })
}
