//! Memory and room on the disk: taken while an error can still be said.

use super::error::StartError;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::AtomicU64;
use surestack_recorder::layout::PAGE;

/// Takes room for the first bytes of a file.
pub fn take(file: &File, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: an open file.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // File systems that cannot: they have what was written.
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => return write_zeros(file, bytes),
            _ => return Err(error),
        }
    }
}

fn write_zeros(file: &File, bytes: usize) -> io::Result<()> {
    let zeros = [0; PAGE];
    for start in (0..bytes).step_by(PAGE) {
        file.write_all_at(&zeros[..PAGE.min(bytes - start)], start as u64)?;
    }
    Ok(())
}

/// The largest file that this process may make: beyond it the kernel sends a signal that kills.
pub fn largest_file() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills `limit`.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// Maps a file for good, and its first `bytes` at once. Unmapped again where that is refused.
pub fn map(file: &File, size: usize) -> Result<*mut u8, StartError> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, in the place of none.
    let base = unsafe { libc::mmap(ptr::null_mut(), size, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED {
        return Err(StartError::System { what: "mapping the recorder", source: io::Error::last_os_error() });
    }
    Ok(base.cast())
}

/// Fills pages, so that writing into them later cannot fail.
pub fn populate(base: *mut u8, bytes: usize) -> io::Result<()> {
    advise(base, bytes, libc::MADV_POPULATE_WRITE)
}

/// Leaves pages out of core files.
pub fn leave_out_of_cores(base: *mut u8, bytes: usize) -> io::Result<()> {
    advise(base, bytes, libc::MADV_DONTDUMP)
}

fn advise(base: *mut u8, bytes: usize, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: pages of a mapping of ours; none of what is advised here takes what is in them.
    match unsafe { libc::madvise(base.cast(), bytes, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Words that are 0, and 0 in a forked child: how a child knows that it is one, without a handler of fork's.
pub fn private_words() -> Result<*const [AtomicU64; 2], StartError> {
    let refused = |what| move |source| StartError::System { what, source };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, in the place of none.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(refused("taking a page")(io::Error::last_os_error()));
    }
    let wiped = advise(page.cast(), PAGE, libc::MADV_WIPEONFORK);
    if let Err(error) = wiped {
        // SAFETY: mapped above, and nobody else knows it.
        unsafe { libc::munmap(page, PAGE) };
        return Err(refused("having a page wiped in forked children")(error));
    }
    Ok(page.cast_const().cast())
}
