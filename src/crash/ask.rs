//! Other threads, asked to change their own alternate stack: nobody else can.
//!
//! Each gets a real-time signal that nobody uses. Its handler makes two raw system calls, and writes the new stack into the
//! context that it returns to, since the kernel sets the alternate stack from there. It runs on the stack that the thread has
//! (`SA_ONSTACK`: some threads have no room elsewhere). A thread that blocks the signal is not sent one, which would come to
//! whoever waits for signals there; one that does not answer in time is named.

use super::alternate;
use crate::this_process::stacks;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use surestack_capture::syscall::{self, AlternateStack};

/// How long all threads together have.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a thread is to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// Take this one, unless there is one that is large enough.
    Take(AlternateStack),
    /// Go back to `previous`, unless the one in force is not the one at `ours`.
    Return { ours: usize, previous: AlternateStack },
}

/// Why a thread has no alternate stack of ours, or still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It blocks the signal.
    Blocked,
    /// It did not answer in time.
    Silent,
    /// It runs a handler on the alternate stack that it has.
    OnAlternateStack,
    /// There is no real-time signal that nobody uses.
    NoSignal,
    /// There is no memory for one.
    NoMemory,
    /// The kernel refused.
    Refused,
}

/// What a thread did.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// It has another stack now; what it had, and where its stack pointer was.
    Done { previous: AlternateStack, sp: u64 },
    /// It kept what it has.
    Kept { has: AlternateStack, sp: u64 },
    /// It has ended.
    Ended,
    /// It did nothing.
    Not(Why),
}

/// States of a request. From `WORKING` on, and until it is left, the request is the handler's.
mod state {
    pub const WAITING: u32 = 0;
    pub const WORKING: u32 = 1;
    pub const DONE: u32 = 2;
    pub const KEPT: u32 = 3;
    pub const BUSY: u32 = 4;
    pub const REFUSED: u32 = 5;
    pub const WITHDRAWN: u32 = 6;
}

struct Request {
    thread: u32,
    wish: Wish,
    /// What the kernel needs, read by the handler, where no system may be asked for it.
    state: AtomicU32,
    had: [AtomicUsize; 2],
    had_flags: AtomicU32,
    sp: AtomicU64,
}

/// Those who are asked at the moment.
static ASKED: AtomicPtr<Vec<Request>> = AtomicPtr::new(std::ptr::null_mut());

/// Asks threads of this process, each at most once.
pub(super) fn ask(wishes: &[(u32, Wish)]) -> Vec<Answer> {
    if wishes.is_empty() {
        return Vec::new();
    }
    let Some(signal) = free_signal() else { return vec![Answer::Not(Why::NoSignal); wishes.len()] };
    let Ok(before) = listen(signal) else { return vec![Answer::Not(Why::NoSignal); wishes.len()] };
    let requests: Vec<Request> = wishes.iter().map(|&(thread, wish)| Request::new(thread, wish)).collect();
    let requests: &'static mut Vec<Request> = Box::leak(Box::new(requests));
    let place = std::ptr::from_mut(requests);
    // SAFETY: it lives until it is freed below, after the last answer.
    let requests: &'static [Request] = unsafe { &*place };
    // Release pairs with the Acquire in `answer`.
    ASKED.store(place, Ordering::Release);
    let mut answers: Vec<Option<Answer>> = requests.iter().map(|request| send(signal, request)).collect();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && answers.iter().any(Option::is_none) {
        std::thread::sleep(Duration::from_micros(200));
        for (request, answer) in requests.iter().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            *answer = request.look(signal);
        }
    }
    let mut owed = false;
    let answers = requests.iter().zip(answers).map(|(request, answer)| {
        answer.unwrap_or_else(|| {
            let last = request.withdraw();
            owed |= matches!(last, Answer::Not(Why::Silent));
            last
        })
    });
    let answers = answers.collect();
    ASKED.store(std::ptr::null_mut(), Ordering::Release);
    if !owed {
        // Nobody is sent the signal any more: its action, and the requests, can go. Handlers that have answered do not look
        // at them again.
        // SAFETY: what the signal did before.
        let _ = unsafe { syscall::signal_action(signal, Some(&before)) };
        // SAFETY: it was leaked above, and nobody else has it.
        drop(unsafe { Box::from_raw(place) });
    }
    answers
}

/// Has the signal answered; what it did before.
fn listen(signal: i32) -> io::Result<syscall::SignalAction> {
    let before = super::signals::action(signal)?;
    // SAFETY: a structure of numbers, all of which may be zero.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = (answer as *const ()).addr();
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: fills the set that follows.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: `answer` may run at any instruction.
    let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if set == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
}

/// A real-time signal with the default action, or one that a thread still owes us.
pub(super) fn free_signal() -> Option<i32> {
    let answer = (answer as *const ()).addr();
    let is_free = |signal: &i32| {
        super::signals::action(*signal).is_ok_and(|action| action.handler == 0 || action.handler == answer)
    };
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(is_free)
}

/// Sends it, unless the thread is gone or blocks it.
fn send(signal: i32, request: &Request) -> Option<Answer> {
    match blocks(request.thread, signal) {
        None => return Some(Answer::Ended),
        Some(true) => return Some(Answer::Not(Why::Blocked)),
        Some(false) => {}
    }
    // SAFETY: the handler is there.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), request.thread, signal) };
    if sent == 0 {
        return None;
    }
    let gone = io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    Some(if gone { Answer::Ended } else { Answer::Not(Why::Refused) })
}

/// Whether a thread blocks a signal; nothing if there is no such thread.
fn blocks(thread: u32, signal: i32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal).ok().and_then(|signal| 1_u64.checked_shl(signal.wrapping_sub(1)));
    Some(blocked & bit.unwrap_or(0) != 0)
}

/// Whether there is a thread of ours with this id.
pub(super) fn is_there(thread: u32) -> bool {
    // SAFETY: signal 0 is none.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0 }
}

impl Request {
    fn new(thread: u32, wish: Wish) -> Self {
        let (state, had_flags, sp) = (AtomicU32::new(state::WAITING), AtomicU32::new(0), AtomicU64::new(0));
        Self { thread, wish, state, had: Default::default(), had_flags, sp }
    }

    /// The answer, if there is one; a thread that was on its alternate stack is asked again.
    fn look(&self, signal: i32) -> Option<Answer> {
        // Acquire pairs with the Release in `answer`: the rest is written.
        let answer = match self.state.load(Ordering::Acquire) {
            state::DONE => Answer::Done { previous: self.had(), sp: self.sp.load(Ordering::Relaxed) },
            state::KEPT => Answer::Kept { has: self.had(), sp: self.sp.load(Ordering::Relaxed) },
            state::REFUSED => Answer::Not(Why::Refused),
            state::BUSY => {
                std::thread::sleep(Duration::from_millis(5));
                self.state.store(state::WAITING, Ordering::Release);
                return send(signal, self);
            }
            // It may end before it answers.
            _ => return (!is_there(self.thread)).then_some(Answer::Ended),
        };
        Some(answer)
    }

    /// The answer at the end of our patience.
    fn withdraw(&self) -> Answer {
        let none = self.state.compare_exchange(state::WAITING, state::WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        match none {
            Ok(_) => Answer::Not(Why::Silent),
            Err(state::DONE) => Answer::Done { previous: self.had(), sp: self.sp.load(Ordering::Relaxed) },
            Err(state::KEPT) => Answer::Kept { has: self.had(), sp: self.sp.load(Ordering::Relaxed) },
            Err(state::BUSY) => Answer::Not(Why::OnAlternateStack),
            Err(_) => Answer::Not(Why::Silent),
        }
    }

    fn had(&self) -> AlternateStack {
        let [low, size] = [&self.had[0], &self.had[1]].map(|word| word.load(Ordering::Relaxed));
        AlternateStack { low, flags: self.had_flags.load(Ordering::Relaxed).cast_signed(), size }
    }

    /// Does what is wished, in the thread itself. What became of it.
    ///
    /// # Safety
    /// `context` is the one that this thread returns to.
    unsafe fn grant(&self, context: *mut libc::ucontext_t) -> u32 {
        // SAFETY: only reads.
        let Ok(mut now) = (unsafe { syscall::alternate_stack(None) }) else { return state::REFUSED };
        now.flags &= !ON_STACK;
        // SAFETY: as the caller promises.
        let sp = unsafe { stack_pointer(context) };
        let (new, wanted) = match self.wish {
            Wish::Take(new) => (new, !alternate::is_enough(&now)),
            Wish::Return { ours, previous } => (previous, now.low == ours),
        };
        let [low, size] = &self.had;
        low.store(now.low, Ordering::Relaxed);
        size.store(now.size, Ordering::Relaxed);
        self.had_flags.store(now.flags.cast_unsigned(), Ordering::Relaxed);
        self.sp.store(sp, Ordering::Relaxed);
        let alternate = stacks::range(&now);
        if !wanted {
            return state::KEPT;
        }
        if now.flags & alternate::DISABLED == 0 && (alternate.low..alternate.high).contains(&sp) {
            return state::BUSY;
        }
        // SAFETY: it is this thread's alone and is never unmapped, or was in force before; all signals are blocked here.
        if unsafe { surestack_capture::alternate::replace(&new) }.is_err() {
            return state::REFUSED;
        }
        let stack = libc::stack_t {
            ss_sp: std::ptr::with_exposed_provenance_mut(new.low),
            ss_flags: new.flags,
            ss_size: new.size,
        };
        // SAFETY: as the caller promises. Without this the return would put the old one back.
        unsafe { (*context).uc_stack = stack };
        state::DONE
    }
}

/// `SS_ONSTACK`: the thread is on it, as this handler is.
const ON_STACK: i32 = 1;

/// Answers, in the thread that was asked.
extern "C" fn answer(_signal: libc::c_int, _information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: null, or what `ask` keeps until the last answer.
    let Some(requests) = (unsafe { ASKED.load(Ordering::Acquire).as_ref() }) else { return };
    let thread = syscall::thread_id();
    let Some(request) = requests.iter().find(|request| request.thread == thread) else { return };
    let mine = request.state.compare_exchange(state::WAITING, state::WORKING, Ordering::Acquire, Ordering::Relaxed);
    if mine.is_ok() {
        // SAFETY: the kernel gave it to this handler.
        let became = unsafe { request.grant(context.cast()) };
        // Release pairs with the Acquire in `look`.
        request.state.store(became, Ordering::Release);
    }
}

/// The interrupted stack pointer.
///
/// # Safety
/// The kernel wrote the context.
unsafe fn stack_pointer(context: *const libc::ucontext_t) -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller promises.
    let sp = unsafe { (*context).uc_mcontext.gregs[15] }.cast_unsigned();
    #[cfg(not(target_arch = "x86_64"))]
    let sp = 0;
    sp
}
