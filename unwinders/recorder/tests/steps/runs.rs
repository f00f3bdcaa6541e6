//! A process that does something step by step, while its copies are disturbed.

use crate::memory::Memory;
use crate::outcome::Outcome;
use crate::stepping::{self, Counts, Plan, Stack, Work};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use surestack_recorder::{Arena, layout::mode, prepare_this_thread, publish};

/// What is stepped.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// How many threads have room.
    pub threads: usize,
    /// How many events there were before.
    pub earlier: u64,
    /// What was before, undisturbed.
    pub before: fn(u64),
    pub what: fn(),
    /// Which thread does it.
    pub thread: Thread,
    /// What a handler does.
    pub handle: fn(),
    /// What both of them write.
    pub wrote: Wrote,
    /// What comes afterwards in the same thread.
    pub after: fn(),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    Main,
    New,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    Event,
    Annotation(&'static str),
}

/// How many instructions were stepped, of what is stepped and of a handler, and how many copies were made.
pub struct Stepped {
    pub outer: usize,
    pub inner: usize,
    pub copies: usize,
    /// How many of them left something open.
    pub open: usize,
}

/// Steps a case in a process of its own, and disturbs a copy of it as each of these plans says.
///
/// # Errors
/// What a copy has left that must not be.
pub fn run(case: &'static Case, stack: Stack, mut plans: Vec<Plan>) -> Result<Stepped, String> {
    plans.sort_by_key(|plan| plan.outer[0]);
    let mut memory = Memory::new(case.threads);
    memory.begin();
    let counts: &'static Counts = crate::memory::shared();
    // SAFETY: this process has one thread, so that its child can do anything.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let done = std::panic::catch_unwind(|| play(case, stack, plans, counts, memory));
        // SAFETY: ends this process.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: the child is ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    let count = |level: usize| counts.instructions[level].load(Relaxed);
    let open = counts.open.load(Relaxed);
    let stepped = Stepped { outer: count(0), inner: count(1), copies: counts.copies.load(Relaxed), open };
    if status == 0 { Ok(stepped) } else { Err(format!("after {} copies: see above", stepped.copies)) }
}

fn play(case: &'static Case, stack: Stack, plans: Vec<Plan>, counts: &'static Counts, memory: Memory) {
    let memory: &'static Memory = Box::leak(Box::new(memory));
    let own = Box::leak(Box::new([const { AtomicU64::new(0) }; 2]));
    // SAFETY: mapped and shared as long as this process runs, and all zeros but for its header.
    let arena = unsafe { Arena::new(memory.base(), memory.geometry, mode::OVERWRITE, own) };
    publish(Box::leak(Box::new(arena))).unwrap();
    prepare_this_thread().unwrap();
    (case.before)(case.earlier);
    let work = move || {
        stepping::run(Work {
            plans,
            stack,
            counts,
            clock: stepping::clock(),
            what: case.what,
            handle: case.handle,
            after: case.after,
            keep: Box::new(|| memory.to_vec()),
            put_back: Box::new(|kept| memory.put_back(&kept)),
            between: Box::new(|| {
                let threads = memory.threads().unwrap();
                if threads.iter().any(|thread| thread.open > 0) {
                    eprintln!("{}: does not hold: when it returns, all is committed", case.name);
                    // SAFETY: ends this process, in whatever thread of it.
                    unsafe { libc::_exit(1) };
                }
            }),
            look: Box::new(move |plan, status| {
                let handled = counts.handled.load(Relaxed);
                let outcome = Outcome::read(case, handled, status, memory);
                counts.open.fetch_add(usize::from(outcome.as_ref().is_ok_and(Outcome::is_open)), Relaxed);
                if let Err(said) = outcome.and_then(|outcome| outcome.check()) {
                    eprintln!("{}: does not hold: {said}; {plan:?}, {status}", case.name);
                    // SAFETY: ends this process, in whatever thread of it.
                    unsafe { libc::_exit(1) };
                }
            }),
        });
    };
    match case.thread {
        Thread::Main => work(),
        Thread::New => std::thread::spawn(work).join().unwrap(),
    }
}
