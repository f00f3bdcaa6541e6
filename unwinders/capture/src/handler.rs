//! From the kernel's call to the report and back.
//!
//! ```text
//!   claim    one of our own loads failed       the load answers that there is nothing
//!            a fault inside a step             the step has failed, the next one begins
//!            faults without end                64 bytes, and the default action
//!            a signal sent during a report     counted
//!            else                              a stack is taken
//!   handle   steps 1 to 8, each tried          then whatever would have happened without us
//!            uninstalled, somebody else's      only that
//! ```

use crate::attempt;
use crate::context::Interrupted;
use crate::file;
use crate::leave;
use crate::memory::recover;
use crate::plan::{self, Chain, Plan};
use crate::record::Storm;
use crate::report::{Report, STEPS};
use crate::request;
use crate::stack::{Fault, HandlerStack};
use crate::syscall::{self, AlternateStack, Clock};
use crate::threads;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

/// The handler before ours is to be called first.
pub(super) const FIRST: usize = 1;

/// Faults of our own in one report, after which it is given up.
const FAULTS: u32 = 32;
/// How long a thread sleeps that waits for a stack or for another thread's report, before it looks again.
const NAP: u64 = 20_000_000;

/// Offsets in the `ucontext_t` of x86_64.
const RSP: usize = 160;
const RIP: usize = 168;

/// Who makes a report: process in the upper half, thread in the lower; 0 for nobody. A fork in the middle of one leaves a
/// process behind that is not there.
static REPORTING: AtomicU64 = AtomicU64::new(0);

/// What the entry is told.
#[repr(C)]
pub(super) struct Claim {
    /// The top of the stack to go to, or [`FIRST`]; 0 when the signal is dealt with.
    top: usize,
    /// The [`HandlerStack`], or the handler to call first.
    stack: usize,
}

const NOTHING: Claim = Claim { top: 0, stack: 0 };

/// Decides what a signal is to us. Runs on whatever stack the kernel chose.
///
/// # Safety
/// The arguments are what the kernel passed to the entry, and its stack pointer.
pub(super) unsafe extern "C" fn surestack_claim(signal: i32, siginfo: usize, ucontext: usize, sp: usize) -> Claim {
    let interrupted = Interrupted { ucontext, siginfo };
    // SAFETY: the kernel's frame is there, and ours until the handler returns.
    let pc = unsafe { saved(ucontext, RIP).read() };
    let memory_fault = matches!(signal, leave::signal::SEGV | leave::signal::BUS);
    if let Some(next) = recover(pc).filter(|_| memory_fault) {
        // SAFETY: as above.
        unsafe { saved(ucontext, RIP).write(next) };
        return NOTHING;
    }
    let Some(plan) = plan::last_plan() else { return NOTHING };
    if let Some(stack) = plan.stacks.iter().find(|stack| stack.holds(sp)) {
        // SAFETY: as the caller promises.
        unsafe { nested(plan, stack, signal, &interrupted) };
        return NOTHING;
    }
    // One that faults itself is not called again: its fault is the crash.
    let first = plan.chain == Chain::Before && !leave::is_in_chain(ucontext);
    if first && plan::plan().is_some() && signal != plan.request {
        // SAFETY: as the caller promises.
        let (handler, blocked) = unsafe { leave::handler_before(signal, &interrupted) };
        if handler != 0 {
            let _ = syscall::set_blocked(blocked);
            return Claim { top: FIRST, stack: handler };
        }
    }
    // SAFETY: as the caller promises.
    unsafe { surestack_claim_next(signal, siginfo, ucontext) }
}

/// Takes a stack for a signal that is ours to report.
///
/// # Safety
/// The arguments are what the kernel passed to the entry.
pub(super) unsafe extern "C" fn surestack_claim_next(signal: i32, siginfo: usize, ucontext: usize) -> Claim {
    let interrupted = Interrupted { ucontext, siginfo };
    let Some(plan) = plan::last_plan() else { return NOTHING };
    let thread = syscall::thread_id();
    let deadline = syscall::now(Clock::Monotonic).saturating_add(plan.budget);
    loop {
        if let Some(stack) = plan.stacks.iter().find(|stack| stack.claim(thread)) {
            return Claim { top: stack.high(), stack: core::ptr::from_ref(stack).expose_provenance() };
        }
        // More threads report than there are stacks.
        if !nap(deadline) {
            // SAFETY: as the caller promises.
            unsafe { give_up(plan, signal, &interrupted, 0) };
            return NOTHING;
        }
    }
}

/// A signal in the middle of a report, on its stack.
///
/// # Safety
/// `interrupted` is what the kernel passed to the entry.
unsafe fn nested(plan: &Plan, stack: &HandlerStack, signal: i32, interrupted: &Interrupted) {
    // SAFETY: as the caller promises.
    let (information, pc) = unsafe { (interrupted.signal(), saved(interrupted.ucontext, RIP).read()) };
    let information = information.unwrap_or_default();
    if !leave::is_fault(signal, information.code) {
        return stack.drop_signal();
    }
    let faults = stack.note(Fault { signal, code: information.code, address: information.detail, pc });
    match u64::try_from(stack.attempt_word().swap(0, Ordering::Relaxed)) {
        Ok(sp) if sp != 0 && faults < FAULTS => {
            let next = u64::try_from(attempt::failed()).unwrap_or_default();
            // SAFETY: the kernel's frame is ours; the attempt's caller still waits on this stack, above what was interrupted.
            unsafe {
                saved(interrupted.ucontext, RIP).write(next);
                saved(interrupted.ucontext, RSP).write(sp);
            }
        }
        // SAFETY: as the caller promises.
        _ => unsafe { give_up(plan, signal, interrupted, faults) },
    }
}

/// Writes the little that can always be written, and lets the default action happen.
///
/// # Safety
/// `interrupted` is what the kernel passed to the entry, which returns next.
unsafe fn give_up(plan: &Plan, signal: i32, interrupted: &Interrupted, faults: u32) {
    // SAFETY: as the caller promises.
    let (information, pc, sp) = unsafe {
        let word = |offset| saved(interrupted.ucontext, offset).read();
        (interrupted.signal().unwrap_or_default(), word(RIP), word(RSP))
    };
    let storm = Storm {
        pid: syscall::process_id(),
        tid: syscall::thread_id(),
        signal,
        code: information.code,
        address: information.detail,
        pc,
        sp,
        count: u64::from(faults),
        realtime: syscall::now(Clock::Real),
    };
    if plan.record.is_none() || file::write_last(plan, &storm).is_err() {
        let text = plan.second.map(|second| second.file).or(plan.text);
        let _ = text.map(|text| syscall::write_all(text, &storm.to_bytes()));
    }
    // SAFETY: as the caller promises.
    unsafe { leave::end(signal, interrupted) };
}

/// What follows a report.
#[repr(C)]
pub(super) struct Next {
    /// The handler to call, or 0.
    pub handler: usize,
    /// What it is called with blocked.
    pub blocked: u64,
}

/// Makes the report, and returns the handler that is to be called after it. Runs on the stack that was claimed.
///
/// # Safety
/// The arguments are what the kernel passed to the entry, and the stack that [`surestack_claim`] gave it.
pub(super) unsafe extern "C" fn surestack_handle(signal: i32, siginfo: usize, ucontext: usize, stack: usize) -> Next {
    const NOBODY: Next = Next { handler: 0, blocked: 0 };
    // A handler over ours may have called this with anything blocked, or nothing.
    let had = syscall::set_blocked(leave::BLOCKED).unwrap_or(leave::BLOCKED);
    let interrupted = Interrupted { ucontext, siginfo };
    let stack = core::ptr::with_exposed_provenance::<HandlerStack>(stack);
    // SAFETY: the claim's stacks are the plan's, which live for ever.
    let (Some(stack), Some(plan)) = (unsafe { stack.as_ref() }, plan::last_plan()) else { return NOBODY };
    let ours = AlternateStack { low: stack.low(), flags: 0, size: stack.high().saturating_sub(stack.low()) };
    // Faults from here on are answered below what runs now. The thread's own alternate stack is in the kernel's frame, from
    // where the entry sets it again.
    // SAFETY: the stack was claimed for this thread.
    let _ = unsafe { syscall::alternate_stack(Some(&ours)) };

    // SAFETY: as the caller promises.
    let answer = unsafe { answer(plan, signal, &interrupted) };
    if let Answer::Report | Answer::ReportAndEnd | Answer::ReportAndGoOn = answer {
        let began = syscall::now(Clock::Monotonic);
        if take_turn(began.saturating_add(plan.budget)) {
            // SAFETY: as the caller promises.
            unsafe { report(plan, stack, signal, &interrupted, began) };
            REPORTING.store(0, Ordering::Release);
        }
    }
    let chain = match answer {
        Answer::ReportAndGoOn => return NOBODY,
        // It was called already, and changed nothing.
        Answer::Report if plan.chain == Chain::Before => Chain::Never,
        Answer::Report => plan.chain,
        Answer::Pass => Chain::After,
        Answer::ReportAndEnd | Answer::End => Chain::Never,
    };
    // SAFETY: as the caller promises; the entry returns when this has, and what it is told to call.
    let handler = unsafe { leave::before(signal, chain, &interrupted) };
    // SAFETY: as the caller promises.
    Next { handler, blocked: unsafe { leave::blocked_before(signal, had, &interrupted) } }
}

/// What becomes of a signal.
enum Answer {
    /// A report, and then the handler before or the default action.
    Report,
    /// A report, and then the default action: the handler before is what it happened in.
    ReportAndEnd,
    /// A report that was asked for.
    ReportAndGoOn,
    /// The handler before, as if we were not here.
    Pass,
    /// The default action.
    End,
}

/// # Safety
/// `interrupted` is what the kernel passed to the entry.
unsafe fn answer(plan: &Plan, signal: i32, interrupted: &Interrupted) -> Answer {
    if plan::plan().is_none() {
        return Answer::Pass;
    }
    if signal == plan.request {
        // SAFETY: as the caller promises.
        let information = unsafe { interrupted.information() };
        return if request::of(&information).is_some() { Answer::ReportAndGoOn } else { Answer::Pass };
    }
    match (leave::is_in_chain(interrupted.ucontext), signal) {
        (false, _) => Answer::Report,
        // How it ends the process: std's does that for a stack overflow. The crash has been reported.
        (true, leave::signal::ABRT) => Answer::End,
        (true, _) => Answer::ReportAndEnd,
    }
}

/// One report after the other: the first usually is the last.
fn take_turn(deadline: u64) -> bool {
    let process = syscall::process_id();
    let own = u64::from(process) << 32 | u64::from(syscall::thread_id());
    loop {
        let other = REPORTING.load(Ordering::Relaxed);
        // Of a process that is not this one: it was forked in the middle.
        let free = other == 0 || other >> 32 != u64::from(process);
        if free && REPORTING.compare_exchange(other, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return true;
        }
        if free {
            continue;
        }
        // Whoever reports may ask this thread to stand, and would wait in vain.
        let blocked = syscall::unblock(threads::mask());
        let has_time = nap(deadline);
        let _ = blocked.and_then(syscall::set_blocked);
        if !has_time {
            return false;
        }
    }
}

/// Sleeps a little. Says whether there is time left.
fn nap(deadline: u64) -> bool {
    syscall::sleep(NAP);
    syscall::now(Clock::Monotonic) < deadline
}

/// # Safety
/// `interrupted` is what the kernel passed to the entry, and this runs on `stack`.
unsafe fn report(plan: &Plan, stack: &HandlerStack, signal: i32, interrupted: &Interrupted, began: u64) {
    /// What writing raises where there is no reader (SIGPIPE), or where files may not grow (SIGXFSZ).
    const BY_WRITING: u64 = 1 << (13 - 1) | 1 << (25 - 1);
    let others = syscall::pending().unwrap_or(0);
    let mut report = Report::new(plan, stack, signal, *interrupted, began);
    let place: *mut c_void = (&raw mut report).cast();
    for step in STEPS {
        // SAFETY: the step takes a report; this is the stack it runs on.
        if !unsafe { attempt::attempt(step, place, stack) } {
            // SAFETY: nobody else has it: the step is over.
            unsafe { (*place.cast::<Report<'_>>()).failed(step, stack.fault()) };
        }
    }
    // They were ours, and would be the end of the program in place of what is.
    let ours = BY_WRITING & !others;
    for _ in 0..4 {
        if ours == 0 || syscall::take_pending(ours).is_err() {
            break;
        }
    }
}

/// One step.
///
/// # Safety
/// `report` is a [`Report`] that nobody else uses meanwhile.
pub(super) unsafe extern "C" fn surestack_step(step: u32, report: *mut c_void) {
    // SAFETY: as the caller promises.
    if let Some(report) = unsafe { report.cast::<Report<'_>>().as_mut() } {
        report.step(step);
    }
}

/// A word of the interrupted context.
fn saved(ucontext: usize, offset: usize) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(ucontext.wrapping_add(offset))
}
