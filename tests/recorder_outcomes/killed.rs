//! A process that is killed in the middle of its work.

use super::{Left, Scene, check, command, died_of, flight, numbers};
use libtest_mimic::Failed;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use surestack::recorder::{Recording, event, start};

pub const SCENES: &[Scene] = &[Scene {
    name: "of_a_process_killed_under_load_all_is_read_that_was_committed",
    play: load,
    judge: all_committed,
}];

const THREADS: usize = 4;
/// How often a process is killed.
const KILLS: u64 = 25;

/// Threads that write, and say behind each event that it is written, in a file of their own: until they are killed.
fn load(directory: &Path) {
    start(flight(directory).threads(8)).unwrap();
    let counts =
        File::options().read(true).write(true).create(true).truncate(true).open(directory.join("counts")).unwrap();
    counts.set_len(4096).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a mapping of a file of ours, which stays.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_SHARED, counts.as_raw_fd(), 0) };
    // SAFETY: the page is there for good, zeros at first.
    let counts: &'static [AtomicU64; THREADS] = unsafe { &*page.cast() };
    for (index, count) in counts.iter().enumerate() {
        thread::Builder::new()
            .name(index.to_string())
            .spawn(move || {
                for number in 0_u64.. {
                    event!("said", number, text = "so that it takes more than a moment to write");
                    count.store(number + 1, Ordering::Release);
                }
            })
            .unwrap();
    }
    // Some other time each time.
    thread::sleep(Duration::from_micros(20_000 + u64::from(std::process::id()) * 7919 % 20_000));
    // SAFETY: a signal to ourselves.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

fn all_committed(left: &Left) -> Result<(), Failed> {
    died_of(left, libc::SIGKILL)?;
    let mut overwritten = 0;
    for _ in 0..KILLS {
        let recording = left.recording_of("flight")?;
        overwritten += judged(&recording, &File::open(left.directory.join("counts"))?)?;
        command(SCENES[0].name, &left.directory)?.status()?;
    }
    check(overwritten > 0, || "no ring was full".to_owned())
}

/// Each thread's events without a gap, up to the last that it said was written. How many bytes are gone for newer ones.
fn judged(recording: &Recording, counts: &File) -> Result<u64, Failed> {
    let mut overwritten = 0;
    for index in 0..THREADS {
        let mut count = [0; 8];
        counts.read_exact_at(&mut count, index as u64 * 8)?;
        let count = u64::from_le_bytes(count);
        let name = index.to_string();
        let thread = recording.threads.iter().find(|thread| thread.name.as_deref() == Some(&name));
        let Some(thread) = thread else {
            check(count == 0, || format!("{count} events of thread {name}, which is not there"))?;
            continue;
        };
        let said = numbers(thread, "said");
        let next = said.last().map_or(0, |last| last + 1);
        check(said.windows(2).all(|pair| pair[0] + 1 == pair[1]), || format!("thread {name}: {said:?}"))?;
        check(next == count || next == count + 1, || format!("thread {name} wrote {count}, read are {next}"))?;
        // One event, and what of it would have crossed a page.
        check(thread.open <= 160 && thread.holes == 0, || format!("{} open, {} holes", thread.open, thread.holes))?;
        overwritten += thread.overwritten;
    }
    Ok(overwritten)
}
