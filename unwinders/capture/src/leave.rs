//! After the report: what would have happened without it.
//!
//! ```text
//!   report ─► previous handler? ─ yes ─► called on its own stack ─► surestack_finish ─ still ours ─► go on
//!                │ no                                                    │ it only reset the action
//!                ▼                                                       ▼
//!           default action ─► a fault: the instruction faults again      the same
//!                             anything else: queued again with its siginfo_t
//! ```

use crate::context::{Interrupted, SIGINFO};
use crate::plan::{self, Chain};
use crate::stack::HandlerStack;
use crate::syscall::{self, AlternateStack, SignalAction};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The default action, as `sa_handler`.
const DEFAULT: usize = 0;
/// Ignores the signal.
const IGNORE: usize = 1;
const SA_RESETHAND: u64 = 0x8000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
/// Offsets of `uc_stack` and `uc_sigmask` in the `ucontext_t` of x86_64.
const STACK: usize = 16;
const MASK: usize = 296;

pub(crate) mod signal {
    pub const ILL: i32 = 4;
    pub const TRAP: i32 = 5;
    pub const ABRT: i32 = 6;
    pub const BUS: i32 = 7;
    pub const FPE: i32 = 8;
    pub const SEGV: i32 = 11;
    pub const SYS: i32 = 31;
}

/// The signals that an instruction raises in the thread that executes it.
pub(crate) const FAULTS: [i32; 6] = [signal::ILL, signal::TRAP, signal::BUS, signal::FPE, signal::SEGV, signal::SYS];

/// What is blocked during a report: all that nobody's instruction raises.
pub(crate) const BLOCKED: u64 = !(1 << (signal::ILL - 1)
    | 1 << (signal::TRAP - 1)
    | 1 << (signal::BUS - 1)
    | 1 << (signal::FPE - 1)
    | 1 << (signal::SEGV - 1)
    | 1 << (signal::SYS - 1));
/// Those two cannot be blocked: KILL and STOP.
const NEVER_BLOCKED: u64 = 1 << 8 | 1 << 18;

/// Whether a signal comes of what the thread was doing, by its number and `si_code`.
pub(crate) fn is_fault(number: i32, code: i32) -> bool {
    code > 0 && FAULTS.contains(&number)
}

/// Whether the interrupted instruction raises the signal again when it is executed again.
fn faults_again(number: i32, code: i32) -> bool {
    is_fault(number, code) && !matches!(number, signal::TRAP | signal::SYS)
}

/// The thread in which a handler before ours is being called, and the address of the `ucontext_t` it was given.
pub(super) static CHAINED_IN: AtomicU32 = AtomicU32::new(0);
static CHAINED: AtomicUsize = AtomicUsize::new(0);

/// Whether a signal interrupted a handler before ours that we called. One that left by `longjmp` is not taken for one that
/// still runs: it ran further up its stack.
pub(crate) fn is_in_chain(ucontext: usize) -> bool {
    const ROOM: usize = 1 << 16;
    let below = CHAINED.load(Ordering::Relaxed).checked_sub(ucontext);
    below.is_some_and(|below| (1..ROOM).contains(&below)) && CHAINED_IN.load(Ordering::Relaxed) == syscall::thread_id()
}

/// The handler that a signal had before ours, which is called next, and what it is called with blocked; 0 for none. One
/// that the kernel would call once only is called once.
///
/// # Safety
/// As for [`before`].
pub(crate) unsafe fn handler_before(number: i32, interrupted: &Interrupted) -> (usize, u64) {
    let before = plan::remembered(number);
    if matches!(before.handler, DEFAULT | IGNORE) {
        return (0, 0);
    }
    // Adds nothing: only to know what is blocked.
    let had = syscall::unblock(0).unwrap_or(BLOCKED);
    // SAFETY: as the caller promises.
    let blocked = unsafe { blocked_before(number, had, interrupted) };
    if before.flags & SA_RESETHAND != 0 {
        plan::remember(number, &SignalAction::default());
    }
    enter_chain(interrupted);
    (before.handler, blocked)
}

/// What the handler before ours is to find blocked: what the kernel would have blocked for it, but no faults; or, where a handler over
/// ours called us, what that one had.
///
/// # Safety
/// As for [`before`].
pub(crate) unsafe fn blocked_before(number: i32, had: u64, interrupted: &Interrupted) -> u64 {
    if had | NEVER_BLOCKED != had | BLOCKED | NEVER_BLOCKED {
        return had;
    }
    let before = plan::remembered(number);
    let own = match u32::try_from(number).ok().and_then(|number| number.checked_sub(1)) {
        Some(bit) if before.flags & SA_NODEFER == 0 => 1_u64 << bit,
        _ => 0,
    };
    // SAFETY: the kernel's frame is there.
    let interrupted = unsafe { word(interrupted.ucontext, MASK).read() };
    // A fault of its own would be the end without a word if it were blocked.
    interrupted | (before.mask | own) & BLOCKED
}

/// From now on the thread is in a handler before ours.
fn enter_chain(interrupted: &Interrupted) {
    CHAINED.store(interrupted.ucontext, Ordering::Relaxed);
    CHAINED_IN.store(syscall::thread_id(), Ordering::Relaxed);
}

/// Called by the entry when it has left a stack of ours: that is free, and the thread's alternate stack is what it was.
/// Then, if a handler is called next, its signals are blocked.
///
/// # Safety
/// Nobody is on the stack; the context is what the kernel passed to our handler, which has not returned.
pub(crate) unsafe extern "C" fn surestack_release(stack: usize, ucontext: usize, blocked: u64, handler: usize) {
    /// `SS_AUTODISARM`: while a handler runs there is none.
    const AUTODISARM: i32 = i32::MIN;
    const DISABLED: AlternateStack = AlternateStack { low: 0, flags: 2, size: 0 };
    // SAFETY: as the caller promises: a `stack_t` of the kernel's.
    let had = unsafe { word(ucontext, STACK).cast::<AlternateStack>().read() };
    let now = if had.flags & AUTODISARM == 0 { had } else { DISABLED };
    // SAFETY: what the thread had.
    let _ = unsafe { syscall::alternate_stack(Some(&now)) };
    // SAFETY: stacks of ours live for ever.
    if let Some(stack) = unsafe { core::ptr::with_exposed_provenance::<HandlerStack>(stack).as_ref() } {
        stack.release();
    }
    if handler != 0 {
        let _ = syscall::set_blocked(blocked);
    }
}

/// Decides what follows a report: the handler to call, or 0 when everything is prepared for the return.
///
/// # Safety
/// `interrupted` is what the kernel passed to our handler, which returns next, in this thread.
pub(crate) unsafe fn before(number: i32, chain: Chain, interrupted: &Interrupted) -> usize {
    let before = plan::remembered(number);
    // A thread without storage cannot run what was compiled to use it: the first thing that other handlers touch is there.
    let has_storage = syscall::thread_base() != Ok(0);
    if chain == Chain::After && has_storage && !matches!(before.handler, DEFAULT | IGNORE) {
        if before.flags & SA_RESETHAND != 0 {
            // The kernel would have done that before it called it.
            // SAFETY: the default action runs nothing.
            let _ = unsafe { syscall::signal_action(number, Some(&SignalAction::default())) };
        }
        enter_chain(interrupted);
        return before.handler;
    }
    // SAFETY: as the caller promises.
    let code = unsafe { code(interrupted) };
    if before.handler == IGNORE && chain != Chain::Never && !is_fault(number, code) {
        return 0;
    }
    // SAFETY: as the caller promises.
    unsafe { end(number, interrupted) };
    0
}

/// Called by the entry when the handler before ours has returned.
///
/// # Safety
/// The arguments are what the kernel passed to our handler, which returns next.
pub(crate) unsafe extern "C" fn surestack_finish(number: i32, siginfo: usize, ucontext: usize) {
    let interrupted = Interrupted { ucontext, siginfo };
    CHAINED_IN.store(0, Ordering::Relaxed);
    // SAFETY: asks, and changes nothing.
    let now = unsafe { syscall::signal_action(number, None) };
    // It dealt with the signal, or reset the action and counts on it to come again: a signal that somebody sent does not.
    if now.is_ok_and(|action| action.handler == DEFAULT) {
        // SAFETY: as the caller promises.
        unsafe { end(number, &interrupted) };
    }
}

/// Makes the default action happen at the interrupted instruction, as soon as the handler returns.
///
/// # Safety
/// As for [`before`].
pub(crate) unsafe fn end(number: i32, interrupted: &Interrupted) {
    const ALL: u64 = u64::MAX;
    // SAFETY: as the caller promises.
    let code = unsafe { code(interrupted) };
    // SAFETY: the default action runs nothing.
    let _ = unsafe { syscall::signal_action(number, Some(&SignalAction::default())) };
    if faults_again(number, code) {
        return;
    }
    let process = syscall::process_id();
    if process == 1 {
        // The kernel sends no signal to the first process of a namespace that does not handle it.
        syscall::exit(number.saturating_add(128));
    }
    // It must wait for the return, so that a core shows where the thread was and not us.
    let _ = syscall::set_blocked(ALL);
    // SAFETY: as the caller promises.
    let information = unsafe { interrupted.information() };
    // SAFETY: what the process does at it is its default.
    if unsafe { syscall::queue_signal(process, syscall::thread_id(), number, &information) }.is_err() {
        // The kernel refuses a forged sender in rare sandboxes; the number at least is right.
        let _ = syscall::kill(process, number);
    }
    // SAFETY: as the caller promises.
    unsafe { unblock(number, interrupted) };
}

/// `si_code`.
///
/// # Safety
/// As for [`before`].
unsafe fn code(interrupted: &Interrupted) -> i32 {
    // SAFETY: as the caller promises.
    let information: [u8; SIGINFO] = unsafe { interrupted.information() };
    let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = information;
    i32::from_le_bytes([a, b, c, d])
}

/// Takes a signal out of the mask that the return sets.
///
/// # Safety
/// As for [`before`].
unsafe fn unblock(number: i32, interrupted: &Interrupted) {
    let Some(bit) = u32::try_from(number).ok().and_then(|number| number.checked_sub(1)) else { return };
    let place = word(interrupted.ucontext, MASK);
    // SAFETY: the kernel's frame is ours until the handler returns.
    unsafe { place.write(place.read() & !(1_u64 << bit)) };
}

/// A word of the interrupted context.
fn word(ucontext: usize, offset: usize) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(ucontext.wrapping_add(offset))
}
