//! System calls without libc: no `errno`, no thread-local storage, no stack protector, so that they work in a thread that
//! has none of that (`clone` without `CLONE_SETTLS`), before `main` and after `exit`.
//!
//! Numbers and structures as in Linux `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi`.

use core::ffi::CStr;

/// The error number of a system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No such process or thread.
    pub const ESRCH: Self = Self(3);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(4);
    /// Try again.
    pub const EAGAIN: Self = Self(11);
    /// There is already such a file.
    pub const EEXIST: Self = Self(17);
    /// The kernel has no such call.
    pub const ENOSYS: Self = Self(38);
    /// Nothing is there.
    pub const ENOENT: Self = Self(2);
    /// The time is over.
    pub const ETIMEDOUT: Self = Self(110);
}

/// What a system call gives.
pub type Answer<T = ()> = Result<T, Errno>;

/// A file descriptor, which nobody owns here: whoever opened it at install keeps it open.
pub type Descriptor = i32;

/// The `struct sigaction` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalAction {
    /// Address of the handler; 0 is the default action, 1 ignores the signal.
    pub handler: usize,
    /// `SA_*`.
    pub flags: u64,
    /// What a handler returns to.
    pub restorer: usize,
    /// Signals blocked while it runs.
    pub mask: u64,
}

/// The `stack_t` of `sigaltstack(2)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    /// Lowest address.
    pub low: usize,
    /// `SS_*`.
    pub flags: i32,
    /// Bytes.
    pub size: usize,
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    fn of(nanoseconds: u64) -> Self {
        let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self { seconds: part(nanoseconds / NANOSECONDS), nanoseconds: part(nanoseconds % NANOSECONDS) }
    }
}

const NANOSECONDS: u64 = 1_000_000_000;

/// Of x86_64.
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD: usize = 17;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const GETUID: usize = 102;
    pub const GETPPID: usize = 110;
    pub const RT_SIGPENDING: usize = 127;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const SIGALTSTACK: usize = 131;
    pub const PRCTL: usize = 157;
    pub const ARCH_PRCTL: usize = 158;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const GETDENTS64: usize = 217;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const RENAMEAT: usize = 264;
    pub const LINKAT: usize = 265;
    pub const PPOLL: usize = 271;
    pub const RT_TGSIGQUEUEINFO: usize = 297;
}

/// Makes a system call.
///
/// # Safety
/// What the kernel does with these words is safe.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline]
pub unsafe fn call(number: usize, arguments: [usize; 6]) -> Answer<usize> {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: as the caller promises; the kernel changes rax, rcx and r11 and what the pointers lead to.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    usize::try_from(answer).map_err(|_| Errno(i32::try_from(answer.wrapping_neg()).unwrap_or(i32::MAX)))
}

/// There are no system calls here yet.
///
/// # Safety
/// None is made.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub unsafe fn call(_number: usize, _arguments: [usize; 6]) -> Answer<usize> {
    Err(Errno::ENOSYS)
}

fn word(value: i32) -> usize {
    // As the kernel takes an int from a register: the low half counts.
    isize::try_from(value).unwrap_or_default().cast_unsigned()
}

/// `write(2)`: how many bytes were taken.
pub fn write(to: Descriptor, bytes: &[u8]) -> Answer<usize> {
    // SAFETY: the kernel reads what is lent.
    unsafe { call(number::WRITE, [word(to), bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0]) }
}

/// Writes all of it, however often that takes.
pub fn write_all(to: Descriptor, mut bytes: &[u8]) -> Answer {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(0) => return Err(Errno(5)),
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `read(2)`: how many bytes came.
pub fn read(from: Descriptor, into: &mut [u8]) -> Answer<usize> {
    // SAFETY: the kernel writes to what is lent.
    unsafe { call(number::READ, [word(from), into.as_mut_ptr().expose_provenance(), into.len(), 0, 0, 0]) }
}

/// `pread(2)`: how many bytes came.
pub fn read_at(from: Descriptor, into: &mut [u8], offset: usize) -> Answer<usize> {
    // SAFETY: the kernel writes to what is lent.
    unsafe { call(number::PREAD, [word(from), into.as_mut_ptr().expose_provenance(), into.len(), offset, 0, 0]) }
}

/// Goes back to the beginning of a file.
pub fn rewind(file: Descriptor) -> Answer {
    // SAFETY: nothing of ours is touched.
    unsafe { call(number::LSEEK, [word(file), 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// `openat(2)`.
pub fn open_at(directory: Descriptor, path: &CStr, flags: i32, mode: usize) -> Answer<Descriptor> {
    let path = path.as_ptr().expose_provenance();
    // SAFETY: the kernel reads the path, which ends with a zero.
    let opened = unsafe { call(number::OPENAT, [word(directory), path, word(flags), mode, 0, 0]) }?;
    i32::try_from(opened).map_err(|_| Errno::EAGAIN)
}

/// `close(2)`.
pub fn close(file: Descriptor) -> Answer {
    // SAFETY: no memory of ours depends on it.
    unsafe { call(number::CLOSE, [word(file), 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// `linkat(2)`, following symbolic links.
pub fn link_at(from: &CStr, directory: Descriptor, name: &CStr) -> Answer {
    const AT_FDCWD: i32 = -100;
    const AT_SYMLINK_FOLLOW: usize = 0x400;
    let [from, name] = [from, name].map(|path| path.as_ptr().expose_provenance());
    // SAFETY: the kernel reads the paths.
    unsafe { call(number::LINKAT, [word(AT_FDCWD), from, word(directory), name, AT_SYMLINK_FOLLOW, 0]) }.map(|_| ())
}

/// `renameat(2)` within one directory.
pub fn rename_at(directory: Descriptor, from: &CStr, to: &CStr) -> Answer {
    let [from, to] = [from, to].map(|path| path.as_ptr().expose_provenance());
    // SAFETY: the kernel reads the paths.
    unsafe { call(number::RENAMEAT, [word(directory), from, word(directory), to, 0, 0]) }.map(|_| ())
}

/// `ioctl(2)` with a structure.
///
/// # Safety
/// `argument` is what `request` takes, with every address in it.
pub unsafe fn ioctl<T>(file: Descriptor, request: usize, argument: &mut T) -> Answer<usize> {
    let argument = core::ptr::from_mut(argument).expose_provenance();
    // SAFETY: as the caller promises.
    unsafe { call(number::IOCTL, [word(file), request, argument, 0, 0, 0]) }
}

/// Entries of a directory as `getdents64(2)` writes them: how many bytes came.
pub fn directory_entries(directory: Descriptor, into: &mut [u8]) -> Answer<usize> {
    let at = into.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes to what is lent.
    unsafe { call(number::GETDENTS64, [word(directory), at, into.len(), 0, 0, 0]) }
}

/// Reads, and sets where `new` is given, what a signal does.
///
/// # Safety
/// The new handler may run at any instruction of any thread.
pub unsafe fn signal_action(signal: i32, new: Option<&SignalAction>) -> Answer<SignalAction> {
    let mut old = SignalAction::default();
    let new = new.map_or(0, |new| core::ptr::from_ref(new).expose_provenance());
    let place = (&raw mut old).expose_provenance();
    // SAFETY: both lead to structures of the kernel's form; the rest is the caller's promise.
    unsafe { call(number::RT_SIGACTION, [word(signal), new, place, size_of::<u64>(), 0, 0]) }?;
    Ok(old)
}

/// Sets which signals are blocked, and says which were.
pub fn set_blocked(mask: u64) -> Answer<u64> {
    const SIG_SETMASK: usize = 2;
    change_mask(SIG_SETMASK, mask)
}

/// Takes one pending signal of these, if there is one that this thread blocks: it never happened.
pub fn take_pending(mask: u64) -> Answer<i32> {
    let time = Timespec { seconds: 0, nanoseconds: 0 };
    let [mask, time] = [(&raw const mask).expose_provenance(), (&raw const time).expose_provenance()];
    // SAFETY: the kernel reads the mask and the time.
    let taken = unsafe { call(number::RT_SIGTIMEDWAIT, [mask, 0, time, size_of::<u64>(), 0, 0]) }?;
    Ok(i32::try_from(taken).unwrap_or_default())
}

/// Which signals are pending, for this thread or the process.
pub fn pending() -> Answer<u64> {
    let mut set = 0_u64;
    // SAFETY: the kernel writes one word.
    unsafe { call(number::RT_SIGPENDING, [(&raw mut set).expose_provenance(), size_of::<u64>(), 0, 0, 0, 0]) }?;
    Ok(set)
}

/// Unblocks signals, and says which were blocked.
pub fn unblock(mask: u64) -> Answer<u64> {
    const SIG_UNBLOCK: usize = 1;
    change_mask(SIG_UNBLOCK, mask)
}

fn change_mask(how: usize, mask: u64) -> Answer<u64> {
    let mut old = 0_u64;
    let [new, place] = [(&raw const mask).expose_provenance(), (&raw mut old).expose_provenance()];
    // SAFETY: the kernel reads one word and writes the other.
    unsafe { call(number::RT_SIGPROCMASK, [how, new, place, size_of::<u64>(), 0, 0]) }?;
    Ok(old)
}

/// Reads, and sets where `new` is given, the thread's alternate stack.
///
/// # Safety
/// The new one is the thread's alone, and stays as long as it is in force.
pub unsafe fn alternate_stack(new: Option<&AlternateStack>) -> Answer<AlternateStack> {
    let mut old = AlternateStack::default();
    let new = new.map_or(0, |new| core::ptr::from_ref(new).expose_provenance());
    let place = (&raw mut old).expose_provenance();
    // SAFETY: both lead to structures of the kernel's form; the rest is the caller's promise.
    unsafe { call(number::SIGALTSTACK, [new, place, 0, 0, 0, 0]) }?;
    Ok(old)
}

/// Queues a signal to a thread with this `siginfo_t`.
///
/// # Safety
/// What the thread does at it is safe.
pub unsafe fn queue_signal(process: u32, thread: u32, signal: i32, information: &[u8; 128]) -> Answer {
    let [process, thread] = [process, thread].map(|id| usize::try_from(id).unwrap_or_default());
    let information = information.as_ptr().expose_provenance();
    // SAFETY: the kernel reads the structure; the rest is the caller's promise.
    unsafe { call(number::RT_TGSIGQUEUEINFO, [process, thread, word(signal), information, 0, 0]) }.map(|_| ())
}

/// `kill(2)`.
pub fn kill(process: u32, signal: i32) -> Answer {
    let process = usize::try_from(process).unwrap_or_default();
    // SAFETY: no memory of ours depends on it.
    unsafe { call(number::KILL, [process, word(signal), 0, 0, 0, 0]) }.map(|_| ())
}

fn id(number: usize) -> u32 {
    // SAFETY: these calls take nothing and cannot fail.
    let id = unsafe { call(number, [0; 6]) };
    id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
}

/// The process.
pub fn process_id() -> u32 {
    id(number::GETPID)
}

/// Its parent; 0 where that is in another namespace.
pub fn parent_id() -> u32 {
    id(number::GETPPID)
}

/// This thread.
pub fn thread_id() -> u32 {
    id(number::GETTID)
}

/// The user it runs as.
pub fn user_id() -> u32 {
    id(number::GETUID)
}

/// A clock of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_REALTIME`: since 1970.
    Real,
    /// `CLOCK_MONOTONIC`: for deadlines.
    Monotonic,
}

/// Nanoseconds on a clock; 0 where there is none.
pub fn now(clock: Clock) -> u64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    let clock = match clock {
        Clock::Real => 0,
        Clock::Monotonic => 1,
    };
    // SAFETY: the kernel writes one structure.
    let answer = unsafe { call(number::CLOCK_GETTIME, [clock, (&raw mut time).expose_provenance(), 0, 0, 0, 0]) };
    let Timespec { seconds, nanoseconds } = time;
    match (answer, u64::try_from(seconds), u64::try_from(nanoseconds)) {
        (Ok(_), Ok(seconds), Ok(nanoseconds)) => seconds.saturating_mul(NANOSECONDS).saturating_add(nanoseconds),
        _ => 0,
    }
}

/// Waits, at most so many nanoseconds, until `file` takes bytes. Says whether it does.
pub fn wait_writable(file: Descriptor, nanoseconds: u64) -> Answer<bool> {
    const POLLOUT: i16 = 4;
    #[repr(C)]
    struct Poll {
        file: i32,
        events: i16,
        returned: i16,
    }
    let mut poll = Poll { file, events: POLLOUT, returned: 0 };
    let time = Timespec::of(nanoseconds);
    let [poll, time] = [(&raw mut poll).expose_provenance(), (&raw const time).expose_provenance()];
    // SAFETY: the kernel reads and writes the two structures.
    let ready = unsafe { call(number::PPOLL, [poll, 1, time, 0, 0, 0]) }?;
    Ok(ready > 0)
}

/// Waits, at most so many nanoseconds, while `word` is `expected`.
///
/// # Errors
/// [`Errno::ETIMEDOUT`], [`Errno::EINTR`], [`Errno::EAGAIN`] where it was another.
pub fn wait_while(word: &core::sync::atomic::AtomicU32, expected: u32, nanoseconds: u64) -> Answer {
    const FUTEX_WAIT_PRIVATE: usize = 128;
    let time = Timespec::of(nanoseconds);
    let [at, time] = [word.as_ptr().expose_provenance(), (&raw const time).expose_provenance()];
    let expected = usize::try_from(expected).unwrap_or_default();
    // SAFETY: the kernel reads the word and the time.
    unsafe { call(number::FUTEX, [at, FUTEX_WAIT_PRIVATE, expected, time, 0, 0]) }.map(|_| ())
}

/// Wakes everybody who waits for `word`.
pub fn wake_all(word: &core::sync::atomic::AtomicU32) {
    const FUTEX_WAKE_PRIVATE: usize = 129;
    let everybody = usize::try_from(i32::MAX).unwrap_or_default();
    // SAFETY: the address is all that the kernel uses. It cannot fail.
    let _ = unsafe { call(number::FUTEX, [word.as_ptr().expose_provenance(), FUTEX_WAKE_PRIVATE, everybody, 0, 0, 0]) };
}

/// `prctl(2)` with one number.
pub fn process_control(option: usize, argument: usize) -> Answer {
    // SAFETY: for those who call it: PR_SET_PTRACER and its like take numbers.
    unsafe { call(number::PRCTL, [option, argument, 0, 0, 0, 0]) }.map(|_| ())
}

/// What this thread calls itself, up to 15 bytes.
pub fn thread_name() -> [u8; 16] {
    const PR_GET_NAME: usize = 16;
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes 16 bytes.
    let _ = unsafe { call(number::PRCTL, [PR_GET_NAME, name.as_mut_ptr().expose_provenance(), 0, 0, 0, 0]) };
    name
}

/// The base of the thread's storage: 0 where it has none.
pub fn thread_base() -> Answer<u64> {
    const ARCH_GET_FS: usize = 0x1003;
    let mut base = 0_u64;
    // SAFETY: the kernel writes one word.
    unsafe { call(number::ARCH_PRCTL, [ARCH_GET_FS, (&raw mut base).expose_provenance(), 0, 0, 0, 0]) }?;
    Ok(base)
}

/// A child as `fork(2)` makes it, without anybody's `atfork` functions: its id here, none in the child.
///
/// # Safety
/// The child calls nothing that needs what the parent's other threads held.
pub unsafe fn fork() -> Answer<Option<u32>> {
    const SIGCHLD: usize = 17;
    // SAFETY: as the caller promises.
    let child = unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) }?;
    Ok(u32::try_from(child).ok().filter(|child| *child != 0))
}

/// `execve(2)`, which returns only if it fails. Both lists end with a null pointer.
///
/// # Safety
/// The lists and what they lead to are as the kernel wants them.
pub unsafe fn execute(path: &CStr, arguments: *const *const u8, environment: *const *const u8) -> Errno {
    let [arguments, environment] = [arguments, environment].map(<*const *const u8>::expose_provenance);
    // SAFETY: as the caller promises.
    let answer = unsafe { call(number::EXECVE, [path.as_ptr().expose_provenance(), arguments, environment, 0, 0, 0]) };
    answer.err().unwrap_or(Errno::ENOSYS)
}

/// How a child has ended, without waiting for it: its exit status, or 128 and the signal; none while it runs.
pub fn ended(child: u32) -> Answer<Option<i32>> {
    const WNOHANG: usize = 1;
    const ALL: usize = 0x4000_0000;
    let child = usize::try_from(child).unwrap_or_default();
    let mut status = 0_i32;
    // SAFETY: the kernel writes one number.
    let ended = unsafe { call(number::WAIT4, [child, (&raw mut status).expose_provenance(), WNOHANG | ALL, 0, 0, 0]) }?;
    let how = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
    Ok((ended != 0).then_some(how))
}

/// Sleeps so many nanoseconds, or less if a signal comes.
pub fn sleep(nanoseconds: u64) {
    let never = core::sync::atomic::AtomicU32::new(0);
    let _ = wait_while(&never, 0, nanoseconds);
}

/// Ends the process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: nothing of it is left. It does not return.
        let _ = unsafe { call(number::EXIT_GROUP, [word(status), 0, 0, 0, 0, 0]) };
    }
}
