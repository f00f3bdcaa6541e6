//! What is at the path already, and who may start.

use super::{Left, Scene, check, command, flight, numbers};
use libtest_mimic::Failed;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;
use surestack::recorder::{Options, Recording, StartError, event, start};

pub const SCENES: &[Scene] = &[
    Scene { name: "a_second_start_is_refused_also_in_a_forked_child", play: twice, judge: went_well },
    Scene { name: "an_earlier_runs_file_is_kept_as_previous_and_only_this_user_may_read", play: again, judge: kept },
    Scene { name: "a_file_in_use_is_refused_with_its_process", play: in_use, judge: went_well },
    Scene { name: "a_file_whose_process_closed_it_is_in_use_all_the_same", play: closed, judge: went_well },
    Scene { name: "what_no_recorder_made_is_refused_and_stays_as_it_is", play: not_ours, judge: went_well },
    Scene { name: "memory_is_read_by_others_and_cannot_be_made_smaller", play: memory, judge: went_well },
    Scene { name: "sizes_that_cannot_be_are_refused_with_those_that_can", play: sizes, judge: went_well },
];

/// What is asserted in the process held.
pub fn went_well(left: &Left) -> Result<(), Failed> {
    check(left.status.success(), || format!("{}: {}", left.status, left.said))
}

fn twice(directory: &Path) {
    start(flight(directory)).unwrap();
    assert!(matches!(start(flight(directory)), Err(StartError::Started)));
    assert!(matches!(start(Options::memory()), Err(StartError::Started)));
    // SAFETY: one thread; the child ends without going back.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(start(Options::memory()), Err(StartError::Started));
        // SAFETY: ends this process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: fills `status`.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
}

/// Two runs, of which the second plays the same scene.
fn again(directory: &Path) {
    let is_first = !directory.join("flight").exists();
    start(flight(directory)).unwrap();
    event!("said", number = u64::from(!is_first));
    if is_first {
        return;
    }
    assert_eq!(fs::metadata(directory.join("flight")).unwrap().mode() & 0o777, 0o600);
}

fn kept(left: &Left) -> Result<(), Failed> {
    went_well(left)?;
    let second =
        command("an_earlier_runs_file_is_kept_as_previous_and_only_this_user_may_read", &left.directory)?.output()?;
    check(second.status.success(), || String::from_utf8_lossy(&second.stderr).into_owned())?;
    for (name, number) in [("flight.previous", 0), ("flight", 1)] {
        let said = numbers(&left.recording_of(name)?.threads[0], "said");
        check(said == [number], || format!("{name}: {said:?}"))?;
    }
    let files = fs::read_dir(&left.directory)?.count();
    check(files == 2, || format!("{files} files"))
}

/// Another process that has a recorder at this path, as it says, until its input is closed.
fn other(directory: &Path, then: &str) -> std::process::Child {
    let scene = std::env::var(super::SCENE).unwrap();
    let mut command = command(&scene, directory).unwrap();
    let mut other = command.arg(then).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    other
}

fn is_other() -> bool {
    std::env::args().nth(1).is_some()
}

fn until_closed() {
    println!("started");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn in_use(directory: &Path) {
    if is_other() {
        start(flight(directory)).unwrap();
        return until_closed();
    }
    refused_until_it_ends(directory);
}

/// A daemon closes all files that it finds open.
fn closed(directory: &Path) {
    if is_other() {
        let recorder = start(flight(directory)).unwrap();
        // SAFETY: nobody uses it in this process any more.
        assert_eq!(unsafe { libc::close(recorder.as_fd().as_raw_fd()) }, 0);
        return until_closed();
    }
    refused_until_it_ends(directory);
}

fn refused_until_it_ends(directory: &Path) {
    let mut other = other(directory, "other");
    let error = start(flight(directory)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&format!("in use by process {}", other.id())), "{said}");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "nothing is left of what was refused");
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    start(flight(directory)).unwrap();
    assert!(directory.join("flight.previous").exists());
}

fn not_ours(directory: &Path) {
    let path = directory.join("flight");
    fs::write(&path, "the only copy of something").unwrap();
    assert!(matches!(start(flight(directory)), Err(StartError::NotOurs { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "the only copy of something");
    symlink(&path, directory.join("link")).unwrap();
    assert!(matches!(start(Options::file(directory.join("link"))), Err(StartError::NotOurs { .. })));
    assert!(matches!(start(Options::file(directory)), Err(StartError::NotOurs { .. })));
    assert!(matches!(start(Options::file("/dev/null")), Err(StartError::NotOurs { .. })));
    let nowhere = start(Options::file(directory.join("no/where"))).unwrap_err().to_string();
    assert!(nowhere.starts_with("cannot make "), "{nowhere}");
    // An empty one, as those make who want a name of their own, is nobody's.
    fs::write(&path, "").unwrap();
    start(flight(directory)).unwrap();
    assert!(!directory.join("flight.previous").exists());
}

fn memory(_: &Path) {
    let recorder = start(Options::memory()).unwrap();
    event!("said", number = 7_u64);
    let recording = Recording::open(recorder.path()).unwrap();
    assert_eq!(numbers(&recording.threads[0], "said"), [7]);
    for size in [0, 1 << 40] {
        // SAFETY: an open file, which refuses.
        assert_eq!(unsafe { libc::ftruncate(recorder.as_fd().as_raw_fd(), size) }, -1);
    }
    // SAFETY: an open file.
    let flags = unsafe { libc::fcntl(recorder.as_fd().as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC);
}

fn sizes(directory: &Path) {
    for options in [
        flight(directory).ring_size(1000),
        flight(directory).ring_size(16 << 10),
        flight(directory).ring_size(40 << 10),
        flight(directory).ring_size(usize::MAX),
        flight(directory).threads(usize::MAX),
        flight(directory).sites_size(1 << 20),
        flight(directory).annotations(usize::MAX),
    ] {
        let error = start(options).unwrap_err();
        assert!(matches!(error, StartError::Size { .. }), "{error}");
    }
    // Beyond this, the kernel would kill.
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: reads `limit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
    let error = start(flight(directory)).unwrap_err().to_string();
    assert!(error.contains("no room for") && error.contains("File too large"), "{error}");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    start(flight(directory).threads(8)).unwrap();
}
