//! The trap flag, and what a handler does behind the instructions that plans name.
//!
//! The process that is stepped makes a copy of itself there, and it is the copy to which it happens: it goes on to its end, or
//! to another place, or dies on the spot. The process waits for that, looks at what the copy has left, puts the memory that
//! they share back to what it was, and steps on.

use std::arch::global_asm;
use std::ffi::c_void;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

// Set and taken back.
global_asm!(
    ".type step_from_here,@function",
    "step_from_here:",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "ret",
    ".size step_from_here, . - step_from_here",
    ".type step_no_more,@function",
    "step_no_more:",
    "pushfq",
    "and qword ptr [rsp], ~0x100",
    "popfq",
    "ret",
    ".size step_no_more, . - step_no_more",
);

unsafe extern "C" {
    fn step_from_here();
    fn step_no_more();
}

/// Behind which instructions something happens. 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Of what is stepped: first here, and then there.
    pub outer: [usize; 2],
    /// Of what the handler does behind the first of these, stepped as well.
    pub inner: usize,
    /// What happens behind the last of them. Behind the others the handler does what it does.
    pub last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Last {
    /// The same as behind the others.
    #[default]
    Handle,
    /// SIGKILL.
    Kill,
}

/// Where handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    Same,
    Own,
}

impl Plan {
    fn is_last(&self, level: usize, count: usize) -> bool {
        match *self {
            Self { inner: 0, outer: [first, 0], .. } => level == 0 && count == first,
            Self { inner: 0, outer: [_, second], .. } => level == 0 && count == second,
            Self { inner, .. } => level == 1 && count == inner,
        }
    }
}

/// What has happened, in memory that is shared.
#[derive(Default)]
pub struct Counts {
    /// How many instructions were stepped: of the outer one, and of the first handler.
    pub instructions: [AtomicUsize; 2],
    /// How often a handler of the last copy has done what it does, all of it.
    pub handled: AtomicUsize,
    /// How many copies there were.
    pub copies: AtomicUsize,
    /// How many of them left something that was taken and not committed.
    pub open: AtomicUsize,
}

/// What is to be done step by step, and disturbed.
pub struct Work {
    /// What happens to copies, in the order of the instructions of `outer[0]`.
    pub plans: Vec<Plan>,
    pub stack: Stack,
    pub counts: &'static Counts,
    /// Where nothing is counted or disturbed: the kernel's code that reads the clock, which begins anew where the time has
    /// gone on meanwhile, and does so for ever where a copy is made at each of its instructions.
    pub clock: Range<usize>,
    /// What is stepped, what a handler does, and what comes afterwards.
    pub what: fn(),
    pub handle: fn(),
    pub after: fn(),
    /// Keeps what copies change, and puts it back.
    pub keep: Box<dyn Fn() -> Vec<u8>>,
    pub put_back: Box<dyn Fn(Vec<u8>)>,
    /// Comes between what is stepped and what comes afterwards.
    pub between: Box<dyn Fn()>,
    /// Looks at what a copy has left.
    pub look: Box<dyn Fn(Plan, ExitStatus)>,
}

static mut WORK: Option<&'static Work> = None;
/// What happens in this process, where it is a copy.
static mut PLAN: Option<Plan> = None;
static NEXT: AtomicUsize = AtomicUsize::new(0);
static LEVEL: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_trap(_signal: i32, _information: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: set before the first trap, and by this thread.
    let (Some(work), plan) = (unsafe { ((&raw const WORK).read(), (&raw const PLAN).read()) }) else { return };
    // SAFETY: what the kernel passed.
    let pc = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] } as usize;
    if work.clock.contains(&pc) {
        return;
    }
    let level = LEVEL.load(Relaxed);
    let Some(counter) = work.counts.instructions.get(level) else { return };
    let count = counter.fetch_add(1, Relaxed) + 1;
    match plan {
        Some(plan) => disturb(work, plan, level, count, context),
        None => copy(work, count, context),
    }
}

/// Makes a copy for each plan that begins here.
fn copy(work: &'static Work, count: usize, context: *mut c_void) {
    while let Some(plan) = work.plans.get(NEXT.load(Relaxed)).copied().filter(|plan| plan.outer[0] <= count) {
        NEXT.fetch_add(1, Relaxed);
        let kept = (work.keep)();
        work.counts.handled.store(0, Relaxed);
        work.counts.instructions[1].store(0, Relaxed);
        // SAFETY: what was interrupted holds no lock, and the copy does no more than it would have.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: read by this thread alone.
            unsafe { (&raw mut PLAN).write(Some(plan)) };
            return disturb(work, plan, 0, count, context);
        }
        let mut status = 0;
        // SAFETY: the child is ours.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        work.counts.copies.fetch_add(1, Relaxed);
        work.counts.instructions[0].store(count, Relaxed);
        (work.look)(plan, ExitStatus::from_raw(status));
        (work.put_back)(kept);
    }
}

/// In a copy: does what its plan says for this instruction.
fn disturb(work: &Work, plan: Plan, level: usize, count: usize, context: *mut c_void) {
    let first = level == 0 && count == plan.outer[0];
    let here = first || level == 0 && count == plan.outer[1] || level == 1 && count == plan.inner;
    if !here {
        return;
    }
    if plan.is_last(level, count) && plan.last == Last::Kill {
        // SAFETY: this process's own end.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    LEVEL.store(level + 1, Relaxed);
    if first && plan.inner != 0 {
        step(work.handle);
    } else {
        (work.handle)();
    }
    work.counts.handled.fetch_add(1, Relaxed);
    LEVEL.store(level, Relaxed);
    if level == 0 && count >= plan.outer[1] {
        // SAFETY: what the kernel passed. The trap flag is set again when the handler returns, unless it is taken out there.
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] &= !0x100 };
    }
}

fn step(what: fn()) {
    // SAFETY: there is a handler for the traps, and they are taken back.
    unsafe { step_from_here() };
    what();
    // SAFETY: as above.
    unsafe { step_no_more() };
}

/// Where the kernel's code is that runs in this process (vDSO).
pub fn clock() -> Range<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let range = maps.lines().find(|line| line.ends_with("[vdso]")).and_then(|line| line.split(' ').next());
    let Some((from, to)) = range.and_then(|range| range.split_once('-')) else { return 0..0 };
    let [from, to] = [from, to].map(|address| usize::from_str_radix(address, 16).unwrap());
    from..to
}

/// Does it.
pub fn run(work: Work) {
    const OWN: usize = 1 << 17;
    let work: &'static Work = Box::leak(Box::new(work));
    // SAFETY: nobody reads it before the first trap.
    unsafe { (&raw mut WORK).write(Some(work)) };
    let own = Box::leak(vec![0_u8; OWN].into_boxed_slice());
    let own = libc::stack_t { ss_sp: own.as_mut_ptr().cast(), ss_flags: 0, ss_size: OWN };
    let on_stack = if work.stack == Stack::Own { libc::SA_ONSTACK } else { 0 };
    // SAFETY: memory for ever; all of the structure may be zero; the handler keeps to what it may do.
    unsafe {
        assert_eq!(libc::sigaltstack(&raw const own, std::ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | on_stack;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()), 0);
    }
    step(work.what);
    (work.between)();
    (work.after)();
    // SAFETY: set by this thread.
    if unsafe { (&raw const PLAN).read() }.is_some() {
        // SAFETY: ends this copy, which may have no other thread that waits for this one.
        unsafe { libc::_exit(0) };
    }
}
