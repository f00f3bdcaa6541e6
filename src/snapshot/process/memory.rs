//! The memory of a process, by whichever way the system allows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use surestack_walk::Error::{self, Unreadable};
use surestack_walk::Memory;

/// The memory of a process.
pub(super) struct ProcessMemory {
    task: libc::pid_t,
    file: File,
}

impl ProcessMemory {
    /// Of the process that `task` belongs to.
    pub fn open(task: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{task}/mem"))?;
        Ok(Self { task: libc::pid_t::try_from(task).map_err(io::Error::other)?, file })
    }

    /// Reads without the file, where a security module forbids that; whether all of `into` was filled.
    fn read_remote(&self, address: u64, into: &mut [u8]) -> bool {
        let Ok(at) = usize::try_from(address) else { return false };
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len: into.len() };
        // SAFETY: `local` describes `into`, which is ours to write; the kernel checks the remote side.
        let read = unsafe { libc::process_vm_readv(self.task, &local, 1, &remote, 1, 0) };
        usize::try_from(read) == Ok(into.len())
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        // Offsets above i64::MAX (the vsyscall page) are refused by the system call.
        match self.file.read_exact_at(into, address) {
            Ok(()) => Ok(()),
            // The address space has ended: the task has exited, or runs another program now, and that is not to be read.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unreadable { address }),
            Err(_) if self.read_remote(address, into) => Ok(()),
            Err(_) => Err(Unreadable { address }),
        }
    }
}
