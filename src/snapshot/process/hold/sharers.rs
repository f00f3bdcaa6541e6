//! Tasks that run in the memory of a process without being its threads: vfork children, clones with `CLONE_VM`.

use super::super::facts::threads;
use crate::snapshot::Gap;
use std::io;

/// `KCMP_VM`: whether two tasks have the same memory.
const KCMP_VM: libc::c_long = 1;

/// What was found.
pub(in super::super) struct Sharing {
    /// Every task that shares the memory.
    pub tasks: Vec<u32>,
    /// What could not be found out.
    pub unknown: Option<Gap>,
}

/// The tasks outside process `pid` that have the memory of `inside`, a task of it that does not end meanwhile.
pub(in super::super) fn of(pid: u32, inside: u32) -> Sharing {
    let mut tasks = vec![];
    let mut unknown = vec![];
    let size = memory_size(inside);
    for other in processes().into_iter().filter(|other| *other != pid) {
        let Some(one) = one_with_memory(other) else { continue };
        match have_same_memory(inside, one) {
            // The dead have no memory, and to the kernel that is the same one.
            Ok(true) if has_memory(inside) => tasks.extend(threads(other).unwrap_or_default()),
            Ok(_) => {}
            // A process that is gone shares nothing.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // Whose memory has another size, has another memory. This anybody may read.
            Err(_) if memory_size(one) != size => {}
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

/// A task of a process that has memory: the first thread may have exited before the others.
fn one_with_memory(process: u32) -> Option<u32> {
    if has_memory(process) {
        return Some(process);
    }
    threads(process).unwrap_or_default().into_iter().find(|id| has_memory(*id))
}

fn has_memory(id: u32) -> bool {
    memory_size(id).is_some_and(|pages| pages > 0)
}

/// Whether two tasks run in the same memory.
pub(super) fn have_same_memory(one: u32, other: u32) -> io::Result<bool> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_dead_share_nothing_with_each_other() {
        let mut zombies = [(); 2].map(|()| Command::new("true").spawn().unwrap());
        let [one, other] = [0, 1].map(|number: usize| zombies[number].id());
        while has_memory(one) || has_memory(other) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(have_same_memory(one, other).unwrap_or(true), "as the kernel sees it");
        assert_eq!(of(one, one).tasks, Vec::<u32>::new());
        zombies.iter_mut().for_each(|zombie| drop(zombie.wait()));
    }
}
