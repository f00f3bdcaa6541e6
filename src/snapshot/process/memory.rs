//! The memory of a process, by whichever way the system allows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use surestack_walk::Memory;

/// Fills the bytes with what lies at an address, by asking who traces the process; whether all of them were.
pub(super) type Peek = Rc<dyn Fn(u64, &mut [u8]) -> bool>;

/// The memory of a process.
pub(super) struct ProcessMemory {
    task: libc::pid_t,
    file: File,
    peek: Option<Peek>,
}

impl ProcessMemory {
    /// Of the process that `task` belongs to.
    pub fn open(task: u32, peek: Option<Peek>) -> io::Result<Self> {
        let file = File::open(format!("/proc/{task}/mem"))?;
        Ok(Self { task: libc::pid_t::try_from(task).map_err(io::Error::other)?, file, peek })
    }

    /// Reads without the file, where a security module or filter forbids that; whether all of `into` was filled.
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
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), surestack_walk::Error> {
        // The file comes first: it belongs to the memory it was opened for, though the process may run another program
        // since, and it reads what is mapped for nobody. What it says is not there is not there.
        let Err(error) = self.file.read_exact_at(into, address) else { return Ok(()) };
        // Offsets above i64::MAX (the vsyscall page) are no offsets.
        let is_refused = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput);
        let mut others =
            || self.read_remote(address, into) || self.peek.as_ref().is_some_and(|peek| peek(address, into));
        if is_refused && others() { Ok(()) } else { Err(surestack_walk::Error::Unreadable { address }) }
    }
}
