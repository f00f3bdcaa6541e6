//! Threads that end, and more of them than there are slots.

use super::{Left, Scene, check, flight, nothing_is_lost, numbers};
use libtest_mimic::Failed;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use surestack::recorder::{Full, event, start};

pub const SCENES: &[Scene] = &[
    Scene { name: "events_of_a_thread_that_ended_stay_readable", play: ended, judge: all_there },
    Scene { name: "where_no_slot_is_free_that_of_an_ended_thread_is_taken_and_counted", play: taken, judge: counted },
    Scene { name: "of_2000_threads_those_beyond_64_slots_are_counted_with_their_events", play: refused, judge: in_sum },
    Scene { name: "1500_threads_with_a_slot_each_lose_nothing", play: many, judge: all_of_many },
    Scene { name: "a_full_ring_that_keeps_what_it_has_counts_what_it_drops", play: full, judge: first_kept },
];

/// Events of each thread.
const EACH: u64 = 5;

fn say(thread: u64) {
    for number in 0..EACH {
        event!("said", number, thread);
    }
}

fn ended(directory: &Path) {
    start(flight(directory)).unwrap();
    for number in 0..8 {
        thread::Builder::new().name(format!("worker {number}")).spawn(move || say(number)).unwrap().join().unwrap();
    }
}

fn all_there(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    nothing_is_lost(&recording)?;
    for number in 0..8 {
        let name = format!("worker {number}");
        let thread = recording.threads.iter().find(|thread| thread.name.as_deref() == Some(&name));
        let said = thread.map(|thread| numbers(thread, "said")).unwrap_or_default();
        check(said == [0, 1, 2, 3, 4], || format!("{name} said {said:?}"))?;
    }
    Ok(())
}

/// One after the other, in four slots of which this thread has one.
fn taken(directory: &Path) {
    start(flight(directory).threads(4)).unwrap();
    for number in 0..10 {
        let ended = thread::spawn(move || {
            say(number);
            // SAFETY: only asks.
            unsafe { libc::gettid() }
        });
        let task = format!("/proc/self/task/{}", ended.join().unwrap());
        // Joined is not gone: the kernel has its number for a moment more.
        while Path::new(&task).exists() {
            thread::yield_now();
        }
    }
}

fn counted(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let losses = recording.losses;
    check((losses.reused, losses.threads_refused, losses.unplaced) == (7, 0, 0), || format!("{losses:?}"))?;
    // This thread is there without events; the last to take a slot is.
    let last = recording.threads.iter().flat_map(|thread| &thread.events).filter(|event| {
        event.fields.get(1).is_some_and(|(name, value)| &**name == "thread" && value.to_string() == "9")
    });
    let found = (recording.threads.len(), last.count() as u64);
    check(found == (4, EACH), || format!("{found:?}"))
}

/// So many threads that are all there at once.
fn at_once(threads: u64) {
    let barrier = Arc::new(Barrier::new(threads as usize));
    let all: Vec<_> = (0..threads)
        .map(|number| {
            let barrier = Arc::clone(&barrier);
            let thread = move || {
                barrier.wait();
                say(number);
                barrier.wait();
            };
            thread::Builder::new().stack_size(64 << 10).spawn(thread).unwrap()
        })
        .collect();
    all.into_iter().for_each(|thread| thread.join().unwrap());
}

fn refused(directory: &Path) {
    start(flight(directory).threads(64)).unwrap();
    at_once(2000);
}

fn in_sum(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let losses = recording.losses;
    // Of the 64 slots one is the thread's that started.
    let written = recording.threads.iter().filter(|thread| numbers(thread, "said") == [0, 1, 2, 3, 4]).count() as u64;
    let sums = (written, losses.unplaced, losses.reused);
    check(sums == (63, (2000 - 63) * EACH, 0), || format!("{sums:?} {losses:?}"))?;
    check(losses.threads_refused >= 2000 - 63, || format!("{losses:?}"))
}

fn many(directory: &Path) {
    start(flight(directory).threads(1501).ring_size(32 << 10)).unwrap();
    at_once(1500);
}

fn all_of_many(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    nothing_is_lost(&recording)?;
    let written: HashSet<u32> = recording
        .threads
        .iter()
        .filter(|thread| numbers(thread, "said") == [0, 1, 2, 3, 4])
        .map(|thread| thread.tid)
        .collect();
    check(written.len() == 1500, || format!("{} threads", written.len()))
}

const TOO_MANY: u64 = 10_000;

fn full(directory: &Path) {
    start(flight(directory).ring_size(32 << 10).full(Full::DropNewest)).unwrap();
    (0..TOO_MANY).for_each(|number| event!("counted", number));
}

fn first_kept(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let [thread] = &recording.threads[..] else { return Err("another thread".into()) };
    let kept = numbers(thread, "counted");
    check(kept.iter().copied().eq(0..kept.len() as u64), || format!("{kept:?}"))?;
    let sum = kept.len() as u64 + recording.losses.dropped;
    check(sum == TOO_MANY && kept.len() > 1000, || format!("{} kept, {:?}", kept.len(), recording.losses))
}
