//! What handlers before ours and over ours find: as it would be if we were not there.

use super::{Scene, passes};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use surestack::crash::{Chain, Handler, Text};

pub fn scenes() -> Vec<Scene> {
    let scene = |name, play| Scene { name, variables: &[], play, judge: passes };
    vec![
        scene("a_handler_over_ours_that_calls_it_goes_on_with_its_own_registers", registers),
        scene("a_handler_before_ours_has_no_more_signals_blocked_than_it_asked_for", blocked),
        scene("a_signal_that_the_program_waits_for_is_no_end_of_it_when_it_panics", waiting),
    ]
}

type Function = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Sets a handler; the one before.
fn set(signal: c_int, handler: Function, flags: c_int) -> usize {
    // SAFETY: a handler that may run at any instruction of the tests here.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (handler as *const ()).addr();
        action.sa_flags = libc::SA_SIGINFO | flags;
        libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR2);
        assert_eq!(libc::sigaction(signal, &raw const action, &raw mut before), 0);
        before.sa_sigaction
    }
}

/// Signals that are blocked, a bit each.
static BLOCKED: AtomicU64 = AtomicU64::new(0);

/// Goes on after the instruction of [`fault`].
extern "C" fn make_good(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let (mut now, none) = (0_u64, std::ptr::null::<u64>());
    // SAFETY: asks for the mask, and changes the context that the kernel returns to.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, none, &raw mut now, 8);
        (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[16] += 3;
    }
    BLOCKED.store(now, Ordering::Relaxed);
}

#[inline(never)]
fn fault() {
    // SAFETY: three bytes, which a handler passes over.
    unsafe { std::arch::asm!("mov byte ptr [rax], 0", in("rax") 24_usize) };
}

/// What is beneath [`over`].
static BENEATH: AtomicUsize = AtomicUsize::new(0);
static CHANGED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Calls the handler beneath it with a number in each register that it may count on.
extern "C" fn over(signal: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    let changed: u64;
    // SAFETY: the handler beneath keeps to the ABI.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "push rbp",
            "mov rbx, 1",
            "mov rbp, 2",
            "mov r12, 3",
            "mov r13, 4",
            "mov r14, 5",
            "mov r15, 6",
            "call rax",
            "sub rbx, 1",
            "sub rbp, 2",
            "sub r12, 3",
            "sub r13, 4",
            "sub r14, 5",
            "sub r15, 6",
            "mov rax, rbx",
            "or rax, rbp",
            "or rax, r12",
            "or rax, r13",
            "or rax, r14",
            "or rax, r15",
            "pop rbp",
            "pop rbx",
            inlateout("rax") BENEATH.load(Ordering::Relaxed) => changed,
            in("rdi") i64::from(signal),
            in("rsi") information,
            in("rdx") context,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("C"),
        );
    }
    CHANGED.store(changed, Ordering::Relaxed);
}

fn registers() {
    set(libc::SIGSEGV, make_good, libc::SA_ONSTACK);
    let _guard = Handler::builder().text(Text::None).install().unwrap();
    // Without SA_NODEFER: what we load may fault all the same.
    BENEATH.store(set(libc::SIGSEGV, over, libc::SA_ONSTACK), Ordering::Relaxed);
    fault();
    assert_eq!(CHANGED.load(Ordering::Relaxed), 0);
}

fn blocked() {
    set(libc::SIGSEGV, make_good, libc::SA_ONSTACK);
    for chain in [Chain::After, Chain::Before] {
        let _guard = Handler::builder().text(Text::None).chain(chain).install().unwrap();
        fault();
        assert_eq!(BLOCKED.load(Ordering::Relaxed), 1 << (libc::SIGUSR2 - 1), "{chain:?}");
    }
}

fn waiting() {
    // SAFETY: a program that waits for its real-time signals: it blocks them, and one of each is there.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).for_each(|signal| {
            libc::sigaddset(&raw mut all, signal);
        });
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        let guard = Handler::builder().text(Text::None).install().unwrap();
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).for_each(|signal| {
            libc::kill(libc::getpid(), signal);
        });
        assert!(std::panic::catch_unwind(|| panic!("caught")).is_err());
        // What is pending would be answered by the default action.
        guard.keep();
        assert_eq!(libc::sigwaitinfo(&raw const all, std::ptr::null_mut()), libc::SIGRTMIN());
    }
}
