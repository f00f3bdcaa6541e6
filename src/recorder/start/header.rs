//! The fixed part of the header: what a reader must know, twice.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use surestack_recorder::Geometry;
use surestack_recorder::layout::{MAGIC, PAGE, VERSION, header, sum};

/// The first page of a recorder that nobody has written into.
pub fn page(geometry: &Geometry, mode: u64) -> [u8; PAGE] {
    let copy = copy(geometry, mode);
    let mut page = [0; PAGE];
    for start in header::COPIES {
        page[start..start + header::SIZE].copy_from_slice(&copy);
    }
    page
}

fn copy(geometry: &Geometry, mode: u64) -> [u8; header::SIZE] {
    let (monotonic, realtime) = moment();
    let program = fs::read_link("/proc/self/exe").unwrap_or_default();
    let program = program.as_os_str().as_bytes();
    let program = &program[program.len().saturating_sub(header::PROGRAM_ROOM)..];
    let mut copy = [0; header::SIZE];
    copy[header::MAGIC..header::MAGIC + MAGIC.len()].copy_from_slice(&MAGIC);
    let words = [
        (header::VERSION, u64::from(VERSION)),
        (header::FILE_SIZE, geometry.size as u64),
        (header::ANNOTATIONS, geometry.annotations as u64),
        (header::ANNOTATION_SLOTS, geometry.annotation_slots as u64),
        (header::SITES, geometry.sites as u64),
        (header::SITES_SIZE, geometry.sites_size as u64),
        (header::THREADS, geometry.threads as u64),
        (header::THREAD_SLOTS, geometry.thread_slots as u64),
        (header::RINGS, geometry.rings as u64),
        (header::RING_SIZE, geometry.ring_size as u64),
        (header::MODE, mode),
        (header::PROCESS, u64::from(std::process::id())),
        (header::MONOTONIC, monotonic),
        (header::REALTIME, realtime),
        (header::PROCESS_STARTED, process_started(std::process::id().into()).unwrap_or_default()),
        (header::IDENTITY, random()),
        (header::PROGRAM_LENGTH, program.len() as u64),
    ];
    for (at, word) in words {
        copy[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    copy[header::PROGRAM..header::PROGRAM + program.len()].copy_from_slice(program);
    let sum = sum(&copy[..header::SUM]);
    copy[header::SUM..header::SUM + 8].copy_from_slice(&sum.to_le_bytes());
    copy
}

/// One moment by both clocks, in nanoseconds: of a few tries the one that took the least.
fn moment() -> (u64, u64) {
    let tries = (0..5).map(|_| {
        let before = clock(libc::CLOCK_MONOTONIC);
        let realtime = clock(libc::CLOCK_REALTIME);
        let took = clock(libc::CLOCK_MONOTONIC).saturating_sub(before);
        (took, before.saturating_add(took / 2), realtime)
    });
    tries.min().map(|(_, monotonic, realtime)| (monotonic, realtime)).unwrap_or_default()
}

fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills `time`; both clocks are on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

/// When a process began, in the kernel's ticks; `None` where there is none of this number.
pub fn process_started(process: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may have anything in it; what is behind the last one begins with field 3.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn random() -> u64 {
    let mut number = 0_u64;
    // SAFETY: fills that many bytes. Where it refuses, early at boot, the number stays 0.
    unsafe { libc::getrandom((&raw mut number).cast(), size_of_val(&number), libc::GRND_NONBLOCK) };
    number
}
