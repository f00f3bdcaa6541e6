//! Tasks that run in the memory of a process without being its threads: vfork children, clones with `CLONE_VM`.

use super::super::facts::threads;
use crate::snapshot::Gap;
use std::io;

/// `KCMP_VM`: whether two tasks have the same memory.
const KCMP_VM: libc::c_long = 1;

/// What was found.
pub(super) struct Sharing {
    /// Every task that shares the memory.
    pub tasks: Vec<u32>,
    /// What could not be found out.
    pub unknown: Option<Gap>,
}

/// The tasks outside process `pid` that have its memory, those in `known` left out.
pub(super) fn of(pid: u32, known: &[u32]) -> Sharing {
    let mut tasks = vec![];
    let mut unknown = vec![];
    // The first thread may have exited and hold no memory any more.
    let inside = known.first().copied().unwrap_or(pid);
    let size = memory_size(inside);
    for other in processes().into_iter().filter(|other| *other != pid && !known.contains(other)) {
        match have_same_memory(inside, other) {
            Ok(true) => tasks.extend(threads(other).unwrap_or_default().iter().filter(|id| !known.contains(id))),
            Ok(false) => {}
            // A process that is gone shares nothing.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // Whose memory has another size, has another memory. This anybody may read.
            Err(_) if memory_size(other) != size => {}
            Err(_) => unknown.push(other),
        }
    }
    let ids = || unknown.iter().take(8).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let what = || format!("whether it shares memory with process {} could not be found out (kcmp was refused)", ids());
    Sharing { unknown: (!unknown.is_empty()).then(|| Gap::Unchecked { what: what() }), tasks }
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn have_same_memory(one: u32, other: u32) -> io::Result<bool> {
    let (one, other) = (libc::c_long::from(one.cast_signed()), libc::c_long::from(other.cast_signed()));
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        order => Ok(order == 0),
    }
}

/// Pages of memory, by `/proc/PID/statm`; a thread of the kernel has none.
fn memory_size(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}
