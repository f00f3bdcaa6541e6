//! What is missing from a record, in words.

use crate::snapshot;
use surestack_capture::record::{Failure, Gap, Storm};

/// A step that came to nothing.
pub(super) fn step_failed(step: u16, failure: Failure) -> snapshot::Gap {
    let what = match failure {
        Failure::Fault { signal, code, address, pc } => {
            let signal = fault(signal, code, address);
            format!("step {step}: {signal} at pc {pc:#x} of the handler; the next one was taken")
        }
        Failure::TimedOut { ns } => format!("step {step}: not done within {}; the next one was taken", seconds(ns)),
        Failure::Refused { errno } => format!("step {step}: {}; the next one was taken", system(errno)),
    };
    snapshot::Gap::StepFailed { what }
}

/// Something that is not in the record.
pub(super) fn gap(gap: Gap, number: u64) -> snapshot::Gap {
    let errno = || system(i32::try_from(number).unwrap_or(i32::MAX));
    let what = match gap {
        Gap::Threads => format!("{number} threads, for which there was no room"),
        Gap::ThreadList => format!("all threads: their list could not be read: {}", errno()),
        Gap::Modules => format!("all modules: they changed while they were copied, and {number} were copied"),
        Gap::Mappings => format!("the memory map: {}", errno()),
        Gap::Message => format!("the program's last message: it cannot be read at {number:#x}"),
        Gap::Place => format!("anything where it belongs: {}; this is the next best place", errno()),
        Gap::Bytes => format!("{number} bytes, which could not be written"),
        Gap::Signals => format!("{number} signals that arrived meanwhile, which were dropped"),
        Gap::Crashes => format!("{number} other threads that crashed as well"),
        Gap::AlternateStack => {
            format!("whatever did not fit: the handler had to run on the stack that was there, at {number:#x}")
        }
        Gap::ThreadStorage => format!("what the thread calls itself: it has no storage of its own (base {number:#x})"),
        Gap::Budget => format!("what was left to do when the whole budget was spent, {}", seconds(number)),
        Gap::Recorder => format!(
            "all of the flight recorder: its memory cannot be read from {number:#x} on, as where its file was cut short"
        ),
        Gap::RecorderThreads => {
            format!("the events of {number} threads in the flight recorder, for which there was no room or no time")
        }
        Gap::Helper => format!("what the helper process should have added: {}", errno()),
    };
    snapshot::Gap::NotRecorded { what }
}

/// The record of last resort.
pub(super) fn storm(storm: &Storm) -> snapshot::Gap {
    let Storm { tid, signal, code, address, pc, sp, count, .. } = *storm;
    let signal = fault(signal, code, address);
    let what = format!(
        "all that would have followed: the handler itself took {signal} in thread {tid} at pc {pc:#x}, stack pointer \
         {sp:#x}, after {count} faults before"
    );
    snapshot::Gap::StepFailed { what }
}

fn system(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}

fn seconds(ns: u64) -> String {
    format!("{:?}", std::time::Duration::from_nanos(ns))
}

/// A fault, as its numbers are called.
fn fault(signal: i32, code: i32, address: u64) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGSYS => "SIGSYS",
        _ => return format!("signal {signal} (code {code})"),
    };
    let code = match (signal, code) {
        (libc::SIGSEGV, 1) => "SEGV_MAPERR".to_owned(),
        (libc::SIGSEGV, 2) => "SEGV_ACCERR".to_owned(),
        (libc::SIGBUS, 2) => "BUS_ADRERR".to_owned(),
        _ => format!("code {code}"),
    };
    format!("{name} ({code}) at {address:#x}")
}
