//! A backtrace of one's own: the frames of the full walk, at any time, whatever it interrupts.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::arch::global_asm;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use surestack::this_process::{Backtrace, Layers, Trace, know_this_thread, prepare, refresh, tables};
use surestack::walk::{CodeAddress, End, Root};

/// Handlers and the table of stacks belong to all tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Calls itself so often, with frames of several sizes, and then `work`.
#[inline(never)]
fn descend(depth: usize, work: &mut dyn FnMut()) {
    let mut room = [depth; 9];
    black_box(&mut room);
    match depth {
        0 => work(),
        odd if odd % 2 == 1 => descend(depth - 1, work),
        _ => aside(depth - 1, work),
    }
    black_box(room);
}

#[inline(never)]
fn aside(depth: usize, work: &mut dyn FnMut()) {
    let mut room = [depth; 40];
    black_box(&mut room);
    descend(depth, work);
    black_box(room);
}

fn pcs<const FRAMES: usize>(backtrace: &Backtrace<FRAMES>) -> Vec<CodeAddress> {
    backtrace.frames().collect()
}

/// What lies outside of both, from the outermost frame inwards.
fn common(one: &[CodeAddress], other: &[CodeAddress]) -> usize {
    one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count()
}

#[test]
fn a_backtrace_has_the_frames_of_the_full_walk_whatever_layers_are_used() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let prepared = prepare();
    let mut backtrace = Backtrace::<256>::EMPTY;
    descend(40, &mut || {
        let judged = Trace::<256>::capture();
        let expected: Vec<CodeAddress> = judged.frames().map(|frame| frame.pc).collect();
        for layers in [Layers::Evaluator, Layers::NoCache, Layers::NoMemory, Layers::All, Layers::All] {
            backtrace.capture_with(layers);
            let frames = pcs(&backtrace);
            // The innermost frame is at another instruction.
            assert_eq!(common(&frames, &expected) + 1, expected.len(), "{layers:?}: {frames:?} {expected:?}");
            assert_eq!(frames.len(), expected.len(), "{layers:?}");
            assert_eq!(backtrace.end(), judged.end(), "{layers:?}");
        }
    });
    assert!(backtrace.depth() > 40);
    drop(prepared);
}

#[test]
fn a_backtrace_of_a_stack_that_nobody_made_known_is_whole() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    refresh();
    let traced = std::thread::spawn(|| {
        let mut backtrace = Backtrace::<64>::EMPTY;
        descend(9, &mut || backtrace.capture_here());
        backtrace
    });
    let backtrace = traced.join().unwrap();
    assert!(backtrace.depth() > 12, "{backtrace:?}");
    assert_eq!(backtrace.end(), Some(End::Root(Root::UndefinedReturn)));
}

#[test]
fn each_of_two_stacks_that_take_turns_keeps_its_frames() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    refresh();
    let _known = know_this_thread();
    let mut seen: Vec<Vec<CodeAddress>> = vec![vec![]; 24];
    for round in 0..50 {
        for (depth, seen) in seen.iter_mut().enumerate() {
            descend(depth, &mut || {
                let frames = pcs(&Backtrace::<256>::capture());
                if round == 0 {
                    *seen = frames;
                } else {
                    assert_eq!(frames, *seen, "round {round}, depth {depth}");
                }
            });
        }
    }
    let depths: Vec<usize> = seen.iter().map(Vec::len).collect();
    assert!(depths.is_sorted() && depths[23] >= depths[0] + 23, "{depths:?}");
}

// The trap flag, set and taken back, with unwind information that is right at each instruction.
global_asm!(
    ".type trap_each_instruction,@function",
    "trap_each_instruction:",
    ".cfi_startproc",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "or qword ptr [rsp], 0x100",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size trap_each_instruction, . - trap_each_instruction",
    ".type trap_no_more,@function",
    "trap_no_more:",
    ".cfi_startproc",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "and qword ptr [rsp], ~0x100",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size trap_no_more, . - trap_no_more",
);

unsafe extern "C" {
    fn trap_each_instruction();
    fn trap_no_more();
}

/// What the handler checks, and what it found.
static EXPECTED: AtomicPtr<Vec<CodeAddress>> = AtomicPtr::new(std::ptr::null_mut());
static STEPS: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);

/// Takes a backtrace of its own and one of what it interrupted: both must have the frames that were there before.
extern "C" fn on_trap(_signal: i32, _information: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: set before the traps, and kept until they are over.
    let expected = unsafe { &*EXPECTED.load(Ordering::Relaxed) };
    let mut nested = Backtrace::<256>::EMPTY;
    nested.capture_here();
    let own = is_over(&nested, expected);
    // SAFETY: what the kernel passed.
    unsafe { nested.capture_ucontext(context) };
    let interrupted = is_over(&nested, expected);
    STEPS.fetch_add(1, Ordering::Relaxed);
    if !own || !interrupted {
        WRONG.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_over(nested: &Backtrace<256>, expected: &[CodeAddress]) -> bool {
    let outer = expected.len();
    let inner = nested.depth().wrapping_sub(outer);
    nested.depth() > outer && nested.frames().skip(inner).eq(expected.iter().copied())
}

#[test]
fn whoever_interrupts_a_backtrace_at_any_instruction_takes_one_and_spoils_none() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    const ALTERNATE: usize = 1 << 18;
    let alternate = Box::leak(vec![0_u8; ALTERNATE].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: alternate.as_mut_ptr().cast(), ss_flags: 0, ss_size: ALTERNATE };
    // SAFETY: memory for ever.
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }, 0);
    let prepared = prepare();
    tables();
    for flags in [0, libc::SA_ONSTACK] {
        // SAFETY: all of the structure may be zero, and the handler keeps to what it may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | flags;
            assert_eq!(libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()), 0);
        }
        STEPS.store(0, Ordering::Relaxed);
        descend(5, &mut || {
            let mut backtrace = Backtrace::<256>::EMPTY;
            let mut expected = vec![];
            for depth in [0, 0, 6, 6, 2, 0] {
                descend(depth, &mut || {
                    backtrace.capture_here();
                    let before = pcs(&backtrace);
                    // Those of the callers do not change.
                    expected = before[1..].to_vec();
                    EXPECTED.store(&raw mut expected, Ordering::Relaxed);
                    // SAFETY: there is a handler for the traps, and they are taken back.
                    unsafe { trap_each_instruction() };
                    backtrace.capture_here();
                    // SAFETY: as above.
                    unsafe { trap_no_more() };
                    assert_eq!(pcs(&backtrace)[1..], before[1..], "what was interrupted");
                });
            }
        });
        let steps = STEPS.load(Ordering::Relaxed);
        println!("{steps} instructions");
        assert!(steps > 1_000, "{steps} instructions");
        assert_eq!(WRONG.load(Ordering::Relaxed), 0, "of {steps} instructions");
    }
    drop(prepared);
}

#[test]
fn a_backtrace_of_a_known_stack_makes_no_system_call() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let prepared = prepare();
    let mut backtrace = Backtrace::<64>::EMPTY;
    // SAFETY: the child calls nothing that waits for another thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: from now on the kernel kills whoever calls anything but read, write, exit and sigreturn.
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_SECCOMP, 1, 0, 0, 0) };
        descend(9, &mut || backtrace.capture_here());
        let status = if backtrace.depth() > 12 { 7 } else { 8 };
        // SAFETY: ends the thread, which is the only one.
        unsafe { libc::syscall(libc::SYS_exit, status) };
    }
    let mut status = 0;
    // SAFETY: writes one number.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7), "{status:#x}");
    drop(prepared);
}
