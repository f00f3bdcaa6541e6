//! The asker's side: all other threads are asked, stand, and are let go.

use super::list::{Signals, ThreadName};
use super::{
    ANSWERS, ASKED, ASKER, FREE, GOING, LEFT, NOT_ASKED, OWED, RELEASES, Refused, STANDING, STAY_UNTIL, Slot, asked,
    list, slots,
};
use crate::syscall::{self, Clock, Errno};
use core::sync::atomic::{AtomicU32, Ordering};
use surestack_walk::{CodeAddress, Error, Register, Regs};

/// Most times that the threads are listed: each that runs may have started another meanwhile.
const ROUNDS: usize = 64;
/// How long a thread may block all signals before it is named: libc does so while it starts and ends threads.
const BLOCKED: u64 = 20_000_000;
/// How long one waits before one asks such a thread again.
const PAUSE: u64 = 500_000;
/// How long one waits before one looks whether those who have not answered still live.
const PATIENCE: u64 = 2_000_000;

/// Why all threads are to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The process goes on afterwards: who blocks the signal is not asked, so that nothing stays queued.
    Check,
    /// It is about to end: everybody is asked, whoever else was asking.
    Crash,
}

/// How long everything may take, in nanoseconds from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Until all have answered.
    pub answer: u64,
    /// Until those that stand go on by themselves; `u64::MAX` if they shall not.
    pub stand: u64,
}

/// How a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It waits; these were its registers.
    At {
        /// Address of its `ucontext_t`.
        context: usize,
        /// Its thread base.
        base: u64,
        /// Its name.
        name: ThreadName,
    },
    /// It was asked and has not answered.
    Silent,
    /// It was not asked: it blocks the signal, or the kernel queues no more.
    Unasked,
    /// There was no room to ask it.
    NoRoom,
    /// It stood, and went on by itself when the time was over.
    Left,
}

impl Standing {
    /// The registers of a thread that stands.
    ///
    /// # Errors
    /// Where the address cannot be, and [`Error::Unreadable`] for a thread that does not stand.
    ///
    /// # Safety
    /// It stands still.
    pub unsafe fn registers(&self) -> Result<Regs, Error> {
        let Self::At { context, base, .. } = *self else { return Err(Error::Unreadable { address: 0 }) };
        // SAFETY: as the caller promises, so that the kernel's structure is still there.
        let mut regs = unsafe { crate::Interrupted { ucontext: context, siginfo: context }.registers() }?;
        regs.set(Register::THREAD, base);
        // The kernel has decided already how an interrupted system call goes on.
        regs.set(Register::SYSCALL, u64::MAX);
        if let Some(pc) = regs.get(Register::PC) {
            regs.set_pc(CodeAddress::Exact(pc));
        }
        Ok(regs)
    }
}

/// All other threads, as far as they answered, until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, all threads go on"]
pub struct Parked {
    me: u32,
    until: u64,
    listed: Result<(), Errno>,
    quiet: bool,
}

/// Asks all other threads to stand still.
///
/// # Errors
/// When nothing is installed, or somebody else holds them.
pub fn park(purpose: Purpose, times: Times) -> Result<Parked, Refused> {
    let signal = asked::signal()?;
    asked::forked().then(list::open);
    let me = syscall::thread_id();
    claim(me, purpose)?;
    let now = syscall::now(Clock::Monotonic);
    let until = now.saturating_add(times.stand);
    // Release: who stands already, for another asker, sees it when he looks again.
    STAY_UNTIL.store(until, Ordering::Release);
    for slot in slots() {
        slot.become_if(LEFT, FREE);
        slot.become_if(NOT_ASKED, FREE);
        if slot.state.load(Ordering::Acquire) == OWED && !lives(slot.thread.load(Ordering::Relaxed)) {
            slot.become_if(OWED, FREE);
        }
    }
    let mut parked = Parked { me, until, listed: Ok(()), quiet: false };
    parked.gather(signal, purpose, now.saturating_add(times.answer));
    Ok(parked)
}

fn claim(me: u32, purpose: Purpose) -> Result<(), Refused> {
    match ASKER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(()),
        Err(other) if purpose == Purpose::Check && other != me && lives(other) => Err(Refused::Busy(other)),
        // Who asks again in the same thread was interrupted, and what stands for him stands for us.
        Err(other) if purpose == Purpose::Check && other == me => Err(Refused::Busy(me)),
        Err(_) => {
            ASKER.store(me, Ordering::Release);
            Ok(())
        }
    }
}

/// Whether a thread can still answer. The first one of a process may have exited and still be listed.
fn lives(thread: u32) -> bool {
    let is_dead = |state| matches!(state, b'Z' | b'X' | b'x');
    asked::exists(thread) && (thread != syscall::process_id() || !list::state(thread).is_ok_and(is_dead))
}

impl Parked {
    fn gather(&mut self, signal: i32, purpose: Purpose, answer_by: u64) {
        let mut patient_until = None;
        for _ in 0..ROUNDS {
            let mut new = 0_usize;
            self.listed = each_with_slot(self.me, |thread, slot| {
                if slot.is_none() && ask(signal, thread, purpose) {
                    new = new.saturating_add(1);
                }
            });
            self.quiet = wait_for_answers(answer_by);
            let now = syscall::now(Clock::Monotonic);
            // From when all others had answered.
            let patient_until = *patient_until.get_or_insert(now.saturating_add(BLOCKED).min(answer_by));
            if now < patient_until && forget_the_blocked() {
                pause();
                continue;
            }
            if self.listed.is_err() || new == 0 || now >= answer_by {
                // Who appeared after the last listing was asked by nobody: then it is not complete.
                self.quiet &= new == 0;
                return;
            }
        }
        self.quiet = false;
    }

    /// Whether every other thread stands, and no listing showed one that was not asked.
    pub fn is_complete(&self) -> bool {
        let mut all = self.listed.is_ok() && self.quiet && self.holds();
        all &= slots().all(|slot| matches!(slot.state.load(Ordering::Acquire), FREE | STANDING | GOING | OWED));
        let listed = each_with_slot(self.me, |_, slot| all &= slot.is_some());
        listed.is_ok() && all
    }

    /// Whether those that stood when they were gathered still do: the time is not over, nobody else has taken them.
    pub fn holds(&self) -> bool {
        self.left() > 0
            && ASKER.load(Ordering::Acquire) == self.me
            && !slots().any(|slot| slot.state.load(Ordering::Acquire) == LEFT)
    }

    /// Nanoseconds until those that stand go on by themselves.
    pub fn left(&self) -> u64 {
        self.until.saturating_sub(syscall::now(Clock::Monotonic))
    }

    /// Lends each other thread to `see`: its id, and how it stands.
    ///
    /// # Errors
    /// When the threads cannot be listed; those that have a slot were seen then.
    pub fn each(&self, mut see: impl FnMut(u32, Standing)) -> Result<(), Errno> {
        for slot in slots() {
            let standing = match slot.state.load(Ordering::Acquire) {
                STANDING => Standing::At {
                    context: slot.context.load(Ordering::Relaxed),
                    base: slot.base.load(Ordering::Relaxed),
                    name: ThreadName::of(slot.name.each_ref().map(|word| word.load(Ordering::Relaxed))),
                },
                ASKED => Standing::Silent,
                NOT_ASKED => Standing::Unasked,
                LEFT => Standing::Left,
                _ => continue,
            };
            see(slot.thread.load(Ordering::Relaxed), standing);
        }
        self.listed?;
        each_with_slot(self.me, |thread, slot| {
            if slot.is_none() {
                see(thread, Standing::NoRoom);
            }
        })
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if ASKER.load(Ordering::Acquire) != self.me {
            return;
        }
        for slot in slots() {
            slot.become_if(STANDING, GOING);
            slot.become_if(ASKED, OWED);
            slot.become_if(LEFT, FREE);
            slot.become_if(NOT_ASKED, FREE);
        }
        // Release: who sees the count sees the states.
        RELEASES.fetch_add(1, Ordering::Release);
        syscall::wake_all(&RELEASES);
        ASKER.store(0, Ordering::Release);
    }
}

/// Lends each thread but `me` to `see`, with its slot if it has one that is of this time.
fn each_with_slot(me: u32, mut see: impl FnMut(u32, Option<&'static Slot>)) -> Result<(), Errno> {
    // The list comes in the order in which threads were started, and so were they asked: the next is most often there.
    let mut near = slots();
    list::each(|thread| {
        if thread == me {
            return;
        }
        let is_its = |slot: &&'static Slot| {
            slot.thread.load(Ordering::Relaxed) == thread
                && !matches!(slot.state.load(Ordering::Acquire), FREE | OWED | GOING)
        };
        let next = near.next().filter(is_its);
        let found = next.or_else(|| {
            near = slots();
            near.find(is_its)
        });
        see(thread, found);
    })
}

/// Asks a thread. Says whether it has a slot now.
fn ask(signal: i32, thread: u32, purpose: Purpose) -> bool {
    let is_its = |slot: &&Slot| slot.thread.load(Ordering::Relaxed) == thread;
    // One that was let go, and has not gone yet, stands on where it stood.
    if slots().filter(|slot| is_its(slot)).any(|slot| slot.become_if(GOING, STANDING)) {
        return true;
    }
    // A question of an earlier time may still be queued, and it will do: the kernel's room for queued signals is bounded.
    let earlier = slots().enumerate().find(|(_, slot)| is_its(slot) && slot.become_if(OWED, ASKED));
    let is_queued = || purpose == Purpose::Check && list::has(Signals::Pending, thread, signal).unwrap_or(false);
    if earlier.is_some() && is_queued() {
        return true;
    }
    let free = |slot: &Slot| slot.state.load(Ordering::Acquire) == FREE;
    let place = earlier.or_else(|| slots().enumerate().find(|(_, slot)| free(slot)));
    let Some((number, slot)) = place else { return false };
    slot.thread.store(thread, Ordering::Relaxed);
    slot.context.store(0, Ordering::Relaxed);
    if purpose == Purpose::Check && list::has(Signals::Blocked, thread, signal).unwrap_or(false) {
        slot.state.store(NOT_ASKED, Ordering::Release);
        return true;
    }
    // Release: the thread sees that it is its own.
    slot.state.store(ASKED, Ordering::Release);
    match asked::ask(signal, thread, number) {
        Ok(()) => true,
        Err(Errno::ESRCH) => !slot.become_if(ASKED, FREE),
        Err(_) => slot.become_if(ASKED, NOT_ASKED) || slot.state.load(Ordering::Acquire) == STANDING,
    }
}

/// Waits until nobody is asked any more who has not answered, or the time is over. Says which.
fn wait_for_answers(until: u64) -> bool {
    loop {
        let answers = ANSWERS.load(Ordering::Acquire);
        if !slots().any(|slot| slot.state.load(Ordering::Acquire) == ASKED) {
            return true;
        }
        let left = until.saturating_sub(syscall::now(Clock::Monotonic));
        if left == 0 {
            return false;
        }
        if syscall::wait_while(&ANSWERS, answers, left.min(PATIENCE)) == Err(Errno::ETIMEDOUT) {
            forget_the_dead();
        }
    }
}

/// A thread that exits between question and answer takes the question with it.
fn forget_the_dead() {
    for slot in slots() {
        if slot.state.load(Ordering::Acquire) == ASKED && !lives(slot.thread.load(Ordering::Relaxed)) {
            slot.become_if(ASKED, FREE);
        }
    }
}

/// Whether somebody was not asked; he will be, when he is listed again.
fn forget_the_blocked() -> bool {
    slots().filter(|slot| slot.become_if(NOT_ASKED, FREE)).count() > 0
}

fn pause() {
    let nobody = AtomicU32::new(0);
    let _ = syscall::wait_while(&nobody, 0, PAUSE);
}
