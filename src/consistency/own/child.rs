//! A child of our own, asked and answering byte by byte, that never outlives us or its purpose.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long an ended child may take to be gone.
const GRACE: Duration = Duration::from_secs(1);

/// The child. It is killed when this is dropped.
pub(super) struct Child {
    process: libc::pid_t,
    /// The process itself, whoever has its number since; none where the kernel has no such descriptors.
    descriptor: Option<OwnedFd>,
    socket: OwnedFd,
}

/// The child's end of the conversation.
pub(super) struct Socket(RawFd);

impl Socket {
    /// The next byte; none when nobody asks any more.
    pub fn hear(&self) -> Option<u8> {
        let mut byte = 0_u8;
        loop {
            // SAFETY: one byte of ours is written.
            match unsafe { libc::read(self.0, (&raw mut byte).cast(), 1) } {
                1 => return Some(byte),
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    }

    /// Answers.
    pub fn say(&self, byte: u8) -> bool {
        // SAFETY: one byte of ours is read.
        unsafe { libc::send(self.0, (&raw const byte).cast(), 1, libc::MSG_NOSIGNAL) == 1 }
    }
}

impl Child {
    /// Makes a child that runs `life` and ends. It keeps `kept` and the first three of our descriptors.
    ///
    /// # Safety
    /// What `life` does is right in a forked child: other threads' locks, but the C library's own, are as they were.
    pub unsafe fn fork(kept: &[RawFd], life: impl FnOnce(&Socket)) -> io::Result<Self> {
        let mut ends = [0; 2];
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        // SAFETY: two descriptors are written.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        let [ours, theirs] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let parent = std::process::id();
        // SAFETY: as the caller promises.
        let process = unsafe { libc::fork() };
        match process {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                isolate(parent, kept, theirs.as_raw_fd());
                let lived =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(&Socket(theirs.as_raw_fd()))));
                // SAFETY: ends without running what the parent wants to run when it ends.
                unsafe { libc::_exit(i32::from(lived.is_err())) }
            }
            _ => Ok(Self { process, descriptor: descriptor_of(process), socket: ours }),
        }
    }

    /// Says a byte, and waits so long at most for the one that comes back. Allocates nothing.
    pub fn ask(&self, byte: u8, within: Duration) -> Option<u8> {
        let socket = self.socket.as_raw_fd();
        // SAFETY: one byte of ours is read.
        if unsafe { libc::send(socket, (&raw const byte).cast(), 1, libc::MSG_NOSIGNAL) } != 1 {
            return None;
        }
        let began = Instant::now();
        loop {
            let left = within.checked_sub(began.elapsed())?;
            let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
            let mut poll = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
            // SAFETY: one structure of ours.
            if unsafe { libc::poll(&raw mut poll, 1, milliseconds) } == 1 {
                return Socket(socket).hear();
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        match &self.descriptor {
            // SAFETY: takes no memory of ours.
            Some(descriptor) => unsafe {
                let none = std::ptr::null::<libc::siginfo_t>();
                libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), libc::SIGKILL, none, 0);
            },
            // It ends when nobody asks any more.
            // SAFETY: closes one direction of a socket of ours.
            None => unsafe {
                libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR);
            },
        }
        let began = Instant::now();
        // Somebody else may have waited for it, and then there is nothing to wait for.
        // SAFETY: nothing is written.
        while unsafe { libc::waitpid(self.process, std::ptr::null_mut(), libc::WNOHANG) } == 0
            && began.elapsed() < GRACE
        {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn descriptor_of(process: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: takes numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let descriptor = RawFd::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: just made, and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The child dies with its parent, by faults too, and has no descriptors that somebody waits to see closed.
fn isolate(parent: u32, kept: &[RawFd], socket: RawFd) {
    // SAFETY: numbers only; handlers of the program's are taken away, which do not belong in this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if u32::try_from(libc::getppid()) != Ok(parent) {
            libc::_exit(1);
        }
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    let mut kept: Vec<RawFd> = kept.iter().copied().chain([2, socket]).collect();
    kept.sort_unstable();
    let ends = kept.iter().skip(1).copied().chain([RawFd::MAX]);
    for (after, before) in kept.iter().zip(ends) {
        let (first, last) = (after.saturating_add(1), before.saturating_sub(1));
        if first <= last {
            // SAFETY: what is closed is no File of this child's.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
