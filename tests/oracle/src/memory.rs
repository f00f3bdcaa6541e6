//! Reads another process's memory.

use std::io;

/// One process's memory, read with `process_vm_readv`.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pid: i32,
}

impl Memory {
    /// The memory of `pid`.
    pub fn of(pid: i32) -> Memory {
        Memory { pid }
    }

    /// Reads as much of `into` as lies in readable memory, from `address` on; returns how much that is.
    pub fn read_some(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
        // SAFETY: `local` describes the whole of `into`, which is borrowed mutably; the kernel checks `remote`.
        let n = unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// The eight bytes at `address`, if they can be read.
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.read_some(address, &mut bytes).ok()? == 8).then(|| u64::from_le_bytes(bytes))
    }

    /// The words at `addresses`, in one system call; `None` unless all can be read.
    pub fn words(&self, addresses: &[u64]) -> Option<Vec<u64>> {
        let mut words = vec![0u64; addresses.len()];
        for (addresses, words) in addresses.chunks(1024).zip(words.chunks_mut(1024)) {
            let remote: Vec<libc::iovec> =
                addresses.iter().map(|&a| libc::iovec { iov_base: a as *mut libc::c_void, iov_len: 8 }).collect();
            let len = words.len() * 8;
            let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: len };
            // SAFETY: `local` describes the whole of `words`; `remote` has as many elements as is said.
            let n = unsafe {
                libc::process_vm_readv(self.pid, &local, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0)
            };
            if usize::try_from(n) != Ok(len) {
                return None;
            }
        }
        Some(words)
    }
}
