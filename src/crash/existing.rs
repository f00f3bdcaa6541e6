//! Alternate stacks for the threads that are there already, and back again.

use super::alternate::{self, Armed};
use super::ask::{self, Answer, Why, Wish};
use super::guard::Unanswered;
use crate::this_process::stacks;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use surestack_capture::Range;
use surestack_capture::stacks::ThreadStack;
use surestack_capture::syscall::{self, AlternateStack};

/// How often we look for threads that were not there the last time.
const ROUNDS: usize = 8;

/// Stacks that a thread was asked to leave: it was on one of them when it answered, so nobody else gets it for a while.
static RESTING: Mutex<Vec<AlternateStack>> = Mutex::new(Vec::new());

/// Gives one to each thread but this one. Who has none is named.
pub(super) fn arm() -> (Vec<Armed>, Vec<Unanswered>) {
    let rested = std::mem::take(&mut *RESTING.lock().unwrap_or_else(PoisonError::into_inner));
    rested.iter().for_each(alternate::give_back);
    let (mut armed, mut unanswered) = (Vec::new(), Vec::new());
    let mut seen = HashSet::from([syscall::thread_id()]);
    for _ in 0..ROUNDS {
        let new: Vec<u32> = threads().into_iter().filter(|id| seen.insert(*id)).collect();
        if new.is_empty() {
            break;
        }
        arm_these(&new, &mut armed, &mut unanswered);
    }
    (armed, unanswered)
}

fn arm_these(threads: &[u32], armed: &mut Vec<Armed>, unanswered: &mut Vec<Unanswered>) {
    let mut wishes = Vec::new();
    for &thread in threads {
        match alternate::take() {
            Ok(stack) => wishes.push((thread, stack)),
            Err(_) => unanswered.push(unanswered_by(thread, Why::NoMemory)),
        }
    }
    let asked: Vec<_> = wishes.iter().map(|&(thread, stack)| (thread, Wish::Take(stack))).collect();
    let answers = ask::ask(&asked);
    let mappings = mappings();
    for (&(thread, stack), answer) in wishes.iter().zip(answers) {
        let (ours, previous, sp) = match answer {
            Answer::Done { previous, sp } => (Some(stack), previous, sp),
            Answer::Kept { has, sp } => (None, has, sp),
            Answer::Ended => {
                alternate::give_back(&stack);
                continue;
            }
            Answer::Not(why) => {
                // One that is silent may take it at any time.
                if why != Why::Silent {
                    alternate::give_back(&stack);
                }
                unanswered.push(unanswered_by(thread, why));
                continue;
            }
        };
        if ours.is_none() {
            alternate::give_back(&stack);
        }
        if ours.is_none() && alternate::threads().of(thread).is_some() {
            // Made meanwhile: it has written itself down.
            continue;
        }
        let whole = mappings.iter().find(|range| (range.low..range.high).contains(&sp));
        let whole = whole.copied().unwrap_or(Range { low: 0, high: 0 });
        let alternate = stacks::range(&ours.unwrap_or(previous));
        let line = stacks::write_down(&ThreadStack { thread, stack: whole, alternate });
        armed.push(Armed { line, thread, ours, previous });
    }
}

/// Takes them back from all threads that have one: those given by [`arm`], and those of threads made since. Who keeps it is
/// named.
pub(super) fn disarm(armed: &[Armed]) -> Vec<Unanswered> {
    let (this, there, own) = (syscall::thread_id(), threads(), alternate::current().ok());
    let mut wishes = Vec::new();
    for armed in armed {
        match &armed.ours {
            _ if armed.thread == this => alternate::disarm_this_thread(armed),
            // In a child of `fork` this thread has another id.
            Some(ours) if own.is_some_and(|own| own.low == ours.low) => alternate::disarm_this_thread(armed),
            None => armed.line.clear(),
            Some(ours) if !there.contains(&armed.thread) => {
                armed.line.clear();
                alternate::give_back(ours);
            }
            Some(ours) => {
                wishes.push(Given { thread: armed.thread, ours: *ours, previous: armed.previous, by: Some(armed) })
            }
        }
    }
    // Threads made since then had none before. They keep what they were given for themselves, and give it back at their end.
    let given: HashSet<u32> = armed.iter().map(|armed| armed.thread).collect();
    let mut made: Vec<_> = alternate::threads().threads().collect();
    made.retain(|known| there.contains(&known.thread) && !given.contains(&known.thread));
    for known in made {
        let ours = AlternateStack {
            low: usize::try_from(known.alternate.low).unwrap_or(0),
            flags: 0,
            size: alternate::size(),
        };
        if known.thread != this {
            wishes.push(Given { thread: known.thread, ours, previous: alternate::NONE, by: None });
        } else if alternate::current().is_ok_and(|now| now.low == ours.low) {
            // SAFETY: none is in force then.
            let _ = unsafe { alternate::set(&alternate::NONE) };
        }
    }
    let asked: Vec<_> = wishes.iter().map(Given::wish).collect();
    let mut unanswered = Vec::new();
    for (given, answer) in wishes.iter().zip(ask::ask(&asked)) {
        match (answer, given.by) {
            (Answer::Not(why), _) => unanswered.push(unanswered_by(given.thread, why)),
            (_, None) => {}
            (_, Some(armed)) => {
                armed.line.clear();
                RESTING.lock().unwrap_or_else(PoisonError::into_inner).push(given.ours);
            }
        }
    }
    unanswered
}

/// A stack that a thread is to leave.
struct Given<'a> {
    thread: u32,
    ours: AlternateStack,
    previous: AlternateStack,
    /// Nothing if the thread itself gives it back.
    by: Option<&'a Armed>,
}

impl Given<'_> {
    fn wish(&self) -> (u32, Wish) {
        (self.thread, Wish::Return { ours: self.ours.low, previous: self.previous })
    }
}

/// All threads of this process.
fn threads() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn unanswered_by(thread: u32, why: Why) -> Unanswered {
    let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
    Unanswered { thread, name: name.trim_end().to_owned(), why }
}

/// What is mapped where.
fn mappings() -> Vec<Range> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let range = |line: &str| {
        let (low, high) = line.split_whitespace().next()?.split_once('-')?;
        Some(Range { low: u64::from_str_radix(low, 16).ok()?, high: u64::from_str_radix(high, 16).ok()? })
    };
    maps.lines().filter_map(range).collect()
}
