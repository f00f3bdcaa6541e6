//! The system calls that hold a task still. They belong to one thread: only who seized a task may ask for it.

use std::io;

/// Largest register block of a supported machine.
const BLOCK: usize = 512;
/// `NT_PRSTATUS`: the general registers.
const NT_PRSTATUS: usize = 1;

/// What has become of a task that was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It has not stopped yet.
    Running,
    /// It stands still; this signal, if not 0, was about to be delivered to it.
    Stopped(i32),
    /// It is no more, or not ours any more.
    Gone,
}

/// Takes hold of `task` without stopping it. Nothing is asked of the kernel that would outlive us.
pub(super) fn seize(task: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, task, 0, 0).map(drop)
}

/// Tells a seized task to stop.
pub(super) fn interrupt(task: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, task, 0, 0).map(drop)
}

/// Lets a stopped task run on, delivering `signal` to it unless that is 0.
pub(super) fn detach(task: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, task, 0, usize::try_from(signal).unwrap_or_default()).map(drop)
}

/// What has become of a seized task. A stop is looked at and left in place: would it be taken, the kernel would drop the
/// signal that was about to be delivered if we were killed now.
pub(super) fn look(task: i32) -> Told {
    // SAFETY: all zero is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let waited = wait(task, &mut info, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT);
    // SAFETY: filled by waitid, or zero, and then this is 0.
    let (id, status) = unsafe { (info.si_pid(), info.si_status()) };
    match (waited, info.si_code) {
        (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => Told::Running,
        (Err(_), _) => Told::Gone,
        (Ok(()), _) if id == 0 => Told::Running,
        (Ok(()), libc::CLD_TRAPPED) if status >> 8 != 0 => Told::Stopped(0),
        (Ok(()), libc::CLD_TRAPPED) => Told::Stopped(status & 0x7f),
        (Ok(()), _) => Told::Gone,
    }
}

/// Takes note of the end of a seized task, which its parent is told only then.
pub(super) fn bury(task: i32) {
    // SAFETY: all zero is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let _ = wait(task, &mut info, libc::WEXITED);
}

fn wait(task: i32, info: &mut libc::siginfo_t, what: i32) -> io::Result<()> {
    /// Only tasks of this very thread.
    const WNOTHREAD: i32 = 0x2000_0000;
    let id = libc::id_t::try_from(task).map_err(io::Error::other)?;
    let options = what | libc::WNOHANG | libc::__WALL | WNOTHREAD;
    // SAFETY: `info` is ours to write.
    match unsafe { libc::waitid(libc::P_PID, id, info, options) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The general registers of a stopped task, as the kernel hands them out.
pub(super) fn registers(task: i32) -> io::Result<Vec<u8>> {
    let mut block = vec![0u8; BLOCK];
    let mut into = libc::iovec { iov_base: block.as_mut_ptr().cast(), iov_len: block.len() };
    request(libc::PTRACE_GETREGSET, task, NT_PRSTATUS, std::ptr::from_mut(&mut into).expose_provenance())?;
    block.truncate(into.iov_len);
    Ok(block)
}

/// `si_code` of the signal that is about to be delivered to a stopped task, and the word behind it.
pub(super) fn signal_words(task: i32) -> io::Result<(i32, u64)> {
    /// Where the kernel's union begins.
    const DETAIL: usize = 16;
    let mut info = [0u64; 16];
    request(libc::PTRACE_GETSIGINFO, task, 0, info.as_mut_ptr().expose_provenance())?;
    let code = info[1] & 0xffff_ffff;
    Ok((u32::try_from(code).unwrap_or_default().cast_signed(), info[DETAIL / 8]))
}

/// The word at an address of a stopped task.
pub(super) fn peek(task: i32, address: u64) -> io::Result<u64> {
    let request = libc::c_long::from(libc::PTRACE_PEEKDATA);
    let mut word = 0u64;
    // SAFETY: the kernel writes one word to `word`; the C library's wrapper would hide an error behind the word -1.
    match unsafe { libc::syscall(libc::SYS_ptrace, request, libc::c_long::from(task), address, &mut word) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(word),
    }
}

fn request(request: libc::c_uint, task: i32, address: usize, data: usize) -> io::Result<libc::c_long> {
    let pointer = std::ptr::with_exposed_provenance_mut::<libc::c_void>;
    // SAFETY: requests with a buffer are given one of ours that is large enough and alive; the others take numbers.
    match unsafe { libc::ptrace(request, task, pointer(address), pointer(data)) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
