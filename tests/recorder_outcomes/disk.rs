//! A disk that is full.

use super::files::went_well;
use super::{Left, Scene, check, numbers, skip};
use libtest_mimic::Failed;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Barrier};
use std::thread;
use surestack::recorder::{Options, StartError, event, start};

pub const SCENES: &[Scene] = &[
    Scene { name: "on_a_full_disk_the_start_fails_and_leaves_nothing", play: too_small, judge: went_well_or_skipped },
    Scene { name: "a_thread_whose_ring_finds_no_room_is_counted_and_nothing_faults", play: filled, judge: counted },
];

/// What a scene says that cannot be played here.
const REFUSED: &str = "no file system can be mounted here: ";

/// Mounts a file system of so many bytes that nobody else sees.
fn small(directory: &Path, bytes: usize) -> io::Result<()> {
    let done = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: this process has one thread.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })
        // SAFETY: as above; whoever may not is root in a namespace of its own.
        .or_else(|_| done(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }))?;
    let none = ptr::null();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: strings that end with zero.
    done(unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) })?;
    let at = CString::new(directory.as_os_str().as_bytes())?;
    let size = CString::new(format!("size={bytes}"))?;
    // SAFETY: strings that end with zero.
    done(unsafe { libc::mount(c"tmpfs".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, size.as_ptr().cast()) })
}

/// A small file system in a directory below; nothing where that is refused, which is said.
fn mounted(directory: &Path, bytes: usize) -> Option<std::path::PathBuf> {
    let at = directory.join("small");
    fs::create_dir(&at).unwrap();
    small(&at, bytes).inspect_err(|error| println!("{REFUSED}{error}")).ok().map(|()| at)
}

fn is_skipped(left: &Left) -> bool {
    left.said.lines().find(|line| line.starts_with(REFUSED)).inspect(|why| skip::skipped(why)).is_some()
}

fn went_well_or_skipped(left: &Left) -> Result<(), Failed> {
    is_skipped(left);
    went_well(left)
}

fn too_small(directory: &Path) {
    let Some(at) = mounted(directory, 128 << 10) else { return };
    let error = start(Options::file(at.join("flight"))).unwrap_err();
    assert!(matches!(error, StartError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    // What would fit is taken, after what was refused.
    start(Options::file(at.join("flight")).threads(1).annotations(8).sites_size(8 << 10).ring_size(32 << 10)).unwrap();
}

/// Threads that want a ring of 64 KiB each.
const THREADS: usize = 40;
/// Events of each.
const EACH: u64 = 2000;

/// Rings for some of the threads, in a file system of 1 MiB.
fn filled(directory: &Path) {
    let Some(at) = mounted(directory, 1 << 20) else { return };
    start(Options::file(at.join("flight")).threads(64).sites_size(32 << 10)).unwrap();
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                barrier.wait();
                (0..EACH).for_each(|number| event!("said", number));
                barrier.wait();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Where others see it.
    fs::copy(at.join("flight"), directory.join("flight")).unwrap();
}

fn counted(left: &Left) -> Result<(), Failed> {
    if is_skipped(left) {
        return went_well(left);
    }
    let recording = left.recording()?;
    let losses = recording.losses;
    check(losses.no_space > 0 && losses.unplaced > 0, || format!("{losses:?}"))?;
    // Those that have a ring have their last events; a thread that asked again in between may have begun late.
    let ends = |numbers: &[u64]| numbers.last() == Some(&(EACH - 1)) && numbers.is_sorted();
    let said: Vec<_> = recording.threads.iter().map(|thread| numbers(thread, "said")).collect();
    let whole = said.iter().filter(|numbers| ends(numbers)).count();
    check((5..THREADS).contains(&whole), || format!("{whole} threads, {losses:?}"))
}
