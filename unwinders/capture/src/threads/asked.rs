//! What an asked thread does: it says where its registers lie, waits, and goes on.
//!
//! ```text
//!   high │ ucontext_t, siginfo_t      │ the kernel's frame, on the alternate stack where there is one
//!        │ restorer                   │ ◄ sp at surestack_asked
//!        │ address of the ucontext_t  │ ┐
//!        │ surestack_asked_frame + 1  │ │ a marker frame, for walkers that know frame records only
//!        │ saved rbp                  │ ┘ ◄ rbp
//!   low  │ frame of `asked`           │ a few words: threads with 16 KiB of stack are asked too
//! ```
//!
//! No thread-local storage, no `errno`, no libc: the thread may be one that has none of it.

use super::{ANSWERS, ASKED, ASKER, FREE, GOING, LEFT, OWED, RELEASES, STANDING, STAY_UNTIL, Slot, list, slot, slots};
use crate::SIGINFO;
use crate::syscall::{self, Clock, Errno, SignalAction};
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// `si_code` of our questions: negative, as of all signals that somebody sends, and nobody else's.
const QUESTION: i32 = -0x5357;
/// The upper half of the value that comes with a question; the lower is the number of a slot.
const COOKIE: u64 = 0x7375_7265 << 32;

const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
/// The real-time signals that libc leaves to programs (it keeps 32 and 33; musl 34 too).
const CANDIDATES: core::ops::RangeInclusive<i32> = 35..=64;

/// The signal that asks; 0 while none does.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// The process that installed it: a forked child has the handler and none of the threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// What the signal did before: handler, flags, restorer, mask.
static PREVIOUS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Why threads cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing is installed.
    NotInstalled,
    /// It is installed already.
    Twice,
    /// Every real-time signal is in use.
    NoSignal,
    /// Somebody else handles the signal now.
    Displaced,
    /// The thread with this id asks.
    Busy(u32),
    /// A system call failed.
    System(Errno),
}

impl core::fmt::Display for Refused {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotInstalled => out.write_str("nothing is installed with which threads can be asked"),
            Self::Twice => out.write_str("it is installed already"),
            Self::NoSignal => out.write_str("every real-time signal has a handler already"),
            Self::Displaced => out.write_str("somebody else has taken the signal with which threads are asked"),
            Self::Busy(thread) => write!(out, "thread {thread} holds the others"),
            Self::System(Errno(number)) => write!(out, "the system refused (errno {number})"),
        }
    }
}

/// The signal that asks, and what is needed to ask: from [`install`].
#[derive(Debug)]
#[must_use = "dropped, no thread can be asked any more"]
pub struct Installed(());

/// Takes a real-time signal: this one, whose handler goes on to get what is not meant for us, or else one that has none.
///
/// # Errors
/// When there is no such signal, or it is installed already.
pub fn install(signal: Option<i32>) -> Result<Installed, Refused> {
    SIGNAL.compare_exchange(0, -1, Ordering::AcqRel, Ordering::Acquire).map_err(|_| Refused::Twice)?;
    match signal.map_or_else(unused, Ok).and_then(take) {
        Ok(signal) => {
            let process = syscall::process_id();
            // What was opened stays open: whoever was asked before may still read it.
            if PROCESS.swap(process, Ordering::Relaxed) != process || !list::is_open() {
                list::open();
            }
            SIGNAL.store(signal, Ordering::Release);
            Ok(Installed(()))
        }
        Err(refused) => {
            SIGNAL.store(0, Ordering::Release);
            Err(refused)
        }
    }
}

/// The highest signal without a handler: who picks one for himself begins at SIGRTMIN.
fn unused() -> Result<i32, Refused> {
    for signal in CANDIDATES.rev() {
        // SAFETY: nothing is changed.
        let now = unsafe { syscall::signal_action(signal, None) }.map_err(Refused::System)?;
        if now.handler == 0 {
            return Ok(signal);
        }
    }
    Err(Refused::NoSignal)
}

fn take(signal: i32) -> Result<i32, Refused> {
    // SAFETY: the handler may run at any instruction: it touches its own frame and its slot only.
    let before = unsafe { syscall::signal_action(signal, Some(&action())) }.map_err(Refused::System)?;
    let word = |word: usize| u64::try_from(word).unwrap_or(0);
    let words = [word(before.handler), before.flags, word(before.restorer), before.mask];
    for (kept, word) in PREVIOUS.iter().zip(words) {
        kept.store(word, Ordering::Relaxed);
    }
    Ok(signal)
}

fn previous() -> SignalAction {
    let [handler, flags, restorer, mask] = PREVIOUS.each_ref().map(|word| word.load(Ordering::Relaxed));
    let address = |word| usize::try_from(word).unwrap_or(0);
    SignalAction { handler: address(handler), flags, restorer: address(restorer), mask }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let signal = SIGNAL.swap(0, Ordering::AcqRel);
        if !is_ours(signal) {
            return;
        }
        // Whoever has not answered yet would be killed by the default action: to ignore a signal drops what is queued.
        let ignore = SignalAction { handler: SIG_IGN, ..SignalAction::default() };
        for next in [ignore, previous()] {
            // SAFETY: what was there before.
            let _ = unsafe { syscall::signal_action(signal, Some(&next)) };
        }
        for slot in slots() {
            slot.become_if(OWED, FREE);
        }
    }
}

/// The signal, if threads can be asked by it now.
pub(super) fn signal() -> Result<i32, Refused> {
    let signal = SIGNAL.load(Ordering::Acquire);
    if signal <= 0 {
        return Err(Refused::NotInstalled);
    }
    if is_ours(signal) { Ok(signal) } else { Err(Refused::Displaced) }
}

fn is_ours(signal: i32) -> bool {
    // SAFETY: nothing is changed.
    unsafe { syscall::signal_action(signal, None) }.is_ok_and(|now| now.handler == action().handler)
}

/// After a fork nothing that was said in the slots is true. Says whether there was one.
pub(super) fn forked() -> bool {
    let process = syscall::process_id();
    let forked = PROCESS.swap(process, Ordering::Relaxed) != process;
    if forked {
        for slot in slots() {
            slot.state.store(FREE, Ordering::Relaxed);
        }
        ASKER.store(0, Ordering::Relaxed);
    }
    forked
}

/// Queues the question to `thread`, answered in the slot with this number.
pub(super) fn ask(signal: i32, thread: u32, number: usize) -> Result<(), Errno> {
    let cookie = COOKIE | u64::try_from(number).unwrap_or(0);
    // SAFETY: the thread runs `asked`, which leaves everything as it was.
    unsafe { syscall::queue_signal(syscall::process_id(), thread, signal, &question(signal, cookie)) }
}

/// The `siginfo_t` of a question.
fn question(signal: i32, cookie: u64) -> [u8; SIGINFO] {
    let mut bytes = [0; SIGINFO];
    let [low, high] = [cookie & u64::from(u32::MAX), cookie >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let fields = [
        (0, signal.cast_unsigned()),
        (8, QUESTION.cast_unsigned()),
        (16, syscall::process_id()),
        (20, syscall::user_id()),
        (24, low),
        (28, high),
    ];
    for (at, value) in fields {
        if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *field = value.to_le_bytes();
        }
    }
    bytes
}

/// Whether there is such a thread in our process.
pub(super) fn exists(thread: u32) -> bool {
    // SAFETY: signal 0 is none; the kernel only looks.
    let asked = unsafe { syscall::queue_signal(syscall::process_id(), thread, 0, &question(0, 0)) };
    asked != Err(Errno::ESRCH)
}

/// The kernel's words about a signal, in its `siginfo_t`.
#[repr(C)]
struct Information {
    signal: i32,
    error: i32,
    code: i32,
    pad: i32,
    process: u32,
    user: u32,
    value: u64,
}

/// Answers, and waits until it may go on. Called by the stub below, on whatever stack the thread is.
///
/// # Safety
/// The kernel's arguments of a handler.
unsafe extern "C" fn asked(signal: i32, information: *const Information, context: usize) {
    // SAFETY: the kernel's, for the length of the handler.
    let said = unsafe { &*information };
    if said.code != QUESTION || said.value & (u64::MAX << 32) != COOKIE || said.process != syscall::process_id() {
        // SAFETY: the kernel's arguments.
        return unsafe { pass_on(signal, information, context) };
    }
    let number = usize::try_from(said.value & u64::from(u32::MAX)).ok();
    let Some(slot) = number.and_then(slot) else { return };
    if slot.thread.load(Ordering::Acquire) == syscall::thread_id() {
        stand(slot, context);
    }
}

fn stand(slot: &Slot, context: usize) {
    if slot.become_if(OWED, FREE) {
        return;
    }
    slot.context.store(context, Ordering::Relaxed);
    slot.base.store(syscall::thread_base().unwrap_or(0), Ordering::Relaxed);
    for (place, word) in slot.name.iter().zip(syscall::thread_name().as_chunks::<8>().0) {
        place.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    if !slot.become_if(ASKED, STANDING) {
        slot.become_if(OWED, FREE);
        return;
    }
    ANSWERS.fetch_add(1, Ordering::Release);
    syscall::wake_all(&ANSWERS);
    loop {
        // Before the state is looked at: whoever changes it afterwards counts on after that, and we do not wait.
        let releases = RELEASES.load(Ordering::Acquire);
        if slot.become_if(GOING, FREE) || slot.state.load(Ordering::Acquire) != STANDING {
            return;
        }
        let left = STAY_UNTIL.load(Ordering::Acquire).saturating_sub(syscall::now(Clock::Monotonic));
        if left == 0 && slot.become_if(STANDING, LEFT) {
            return;
        }
        let _ = syscall::wait_while(&RELEASES, releases, left);
    }
}

/// A signal of the same number that is no question of ours does what it would have done.
///
/// # Safety
/// The kernel's arguments of a handler.
#[inline(never)]
unsafe fn pass_on(signal: i32, information: *const Information, context: usize) {
    let SignalAction { handler, .. } = previous();
    match handler {
        SIG_IGN => {}
        // Who has taken the signal from us, and calls us from his own handler, decides what becomes of it.
        SIG_DFL if !is_ours(signal) => {}
        SIG_DFL => {
            // The default ends the process: so it shall, by the same signal, as soon as this handler has returned.
            // SAFETY: no handler is set; the information is the kernel's and 128 bytes long.
            unsafe {
                let _ = syscall::signal_action(signal, Some(&SignalAction::default()));
                let information = &*information.cast::<[u8; SIGINFO]>();
                let _ = syscall::queue_signal(syscall::process_id(), syscall::thread_id(), signal, information);
            }
        }
        handler => {
            type Handler = unsafe extern "C" fn(i32, *const Information, usize);
            let handler = core::ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: it was the handler of this signal, and takes these; one without SA_SIGINFO looks at the first only.
            unsafe { core::mem::transmute::<*const (), Handler>(handler)(signal, information, context) };
        }
    }
}

fn action() -> SignalAction {
    let [handler, restorer] = stub::addresses();
    // All signals wait meanwhile: no handler runs in a thread that stands.
    SignalAction { handler, flags: SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART, restorer, mask: u64::MAX }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod stub {
    core::arch::global_asm!(
        ".pushsection .text.surestack_asked,\"ax\",@progbits",
        ".globl surestack_asked",
        ".hidden surestack_asked",
        ".p2align 4",
        ".type surestack_asked_frame,@function",
        "surestack_asked_frame:",
        ".cfi_startproc",
        "nop",
        "nop",
        ".cfi_endproc",
        ".size surestack_asked_frame, . - surestack_asked_frame",
        ".type surestack_asked,@function",
        "surestack_asked:",
        ".cfi_startproc",
        "push rdx",
        ".cfi_adjust_cfa_offset 8",
        "lea rax, [rip + surestack_asked_frame + 1]",
        "push rax",
        ".cfi_adjust_cfa_offset 8",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbp, 0",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "cld",
        "call {answer}",
        "pop rbp",
        ".cfi_def_cfa rsp, 24",
        ".cfi_restore rbp",
        "add rsp, 16",
        ".cfi_def_cfa_offset 8",
        "ret",
        ".cfi_endproc",
        ".size surestack_asked, . - surestack_asked",
        ".popsection",
        answer = sym super::asked,
    );

    unsafe extern "C" {
        fn surestack_asked();
    }

    /// Of the handler, and of what it returns to.
    pub(super) fn addresses() -> [usize; 2] {
        [(surestack_asked as *const ()).addr(), crate::restorer()]
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod stub {
    /// Nobody is asked here yet: system calls fail.
    pub(super) fn addresses() -> [usize; 2] {
        [0; 2]
    }
}
