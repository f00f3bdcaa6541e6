//! The memory of a process, by whichever way the system allows.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use surestack_walk::Memory;

/// Fills the bytes with what lies at an address, by asking who traces the process; whether all of them were.
pub(super) type Peek = Rc<dyn Fn(u64, &mut [u8]) -> bool>;

/// The memory of a process.
pub(super) struct ProcessMemory {
    task: libc::pid_t,
    file: File,
    /// `/proc/PID/pagemap`, where it can be had.
    pages: Option<File>,
    peek: Option<Peek>,
}

/// The files through which memory is read, opened by the process itself.
#[derive(Debug)]
pub(super) struct Handed {
    file: File,
    pages: Option<File>,
}

impl Handed {
    /// Of the task with this directory in `/proc`.
    pub fn open(task: &str) -> io::Result<Self> {
        let file = File::open(format!("{task}/mem"))?;
        Ok(Self { file, pages: File::open(format!("{task}/pagemap")).ok() })
    }

    /// Those of the files.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [Some(&self.file), self.pages.as_ref()].into_iter().flatten().map(File::as_raw_fd)
    }

    /// The memory behind them, as `task` sees it.
    pub fn memory(&self, task: u32) -> io::Result<ProcessMemory> {
        let pages = self.pages.as_ref().map(File::try_clone).transpose()?;
        let task = libc::pid_t::try_from(task).map_err(io::Error::other)?;
        Ok(ProcessMemory { task, file: self.file.try_clone()?, pages, peek: None })
    }
}

/// Bits of an address within its page.
const PAGE_MASK: u64 = 4095;
/// Pages that are there, or in swap (`linux/fs.h`).
const HELD: u64 = 1 << 3 | 1 << 4;
/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    room: u64,
    most_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

impl ProcessMemory {
    /// Of the process that `task` belongs to.
    pub fn open(task: u32, peek: Option<Peek>) -> io::Result<Self> {
        let Handed { file, pages } = Handed::open(&format!("/proc/{task}"))?;
        Ok(Self { task: libc::pid_t::try_from(task).map_err(io::Error::other)?, file, pages, peek })
    }

    /// The first page in `range` that is there or in swap, if the kernel says so (Linux 6.7; `ioctl(PAGEMAP_SCAN)`).
    fn scan(&self, range: &Range<u64>) -> Option<Option<u64>> {
        let mut region = Region::default();
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: range.start & !PAGE_MASK,
            end: range.end.checked_add(PAGE_MASK)? & !PAGE_MASK,
            regions: (&raw mut region).expose_provenance() as u64,
            room: 1,
            any_of: HELD,
            returned: HELD,
            ..Scan::default()
        };
        let descriptor = self.pages.as_ref()?.as_raw_fd();
        // SAFETY: both structures are as the kernel has them, ours to write, and alive for the length of the call.
        match unsafe { libc::ioctl(descriptor, PAGEMAP_SCAN, &raw mut scan) } {
            0 => Some(None),
            1 => Some(Some(region.start.max(range.start))),
            _ => None,
        }
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

    fn next_held(&self, range: Range<u64>) -> Option<u64> {
        self.scan(&range).unwrap_or((!range.is_empty()).then_some(range.start))
    }
}
