//! Handlers that do not go back to the event that they interrupted.

use super::processes::interval;
use super::{Left, Scene, check, flight, numbers};
use libtest_mimic::Failed;
use std::cell::UnsafeCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use surestack::recorder::{event, start};

pub const SCENES: &[Scene] = &[
    Scene {
        name: "an_event_that_a_handler_left_by_siglongjmp_is_counted_and_later_ones_are_read",
        play: jump,
        judge: went_on,
    },
    Scene {
        name: "events_deeper_in_the_stack_than_one_that_was_left_are_read_with_the_next_that_is_not",
        play: jump_and_go_deeper,
        judge: deeper_too,
    },
];

/// What `sigsetjmp` fills: more than the C libraries' `sigjmp_buf`.
#[repr(align(16))]
struct Place(UnsafeCell<[u64; 64]>);

// SAFETY: one thread uses it.
unsafe impl Sync for Place {}

static PLACE: Place = Place(UnsafeCell::new([0; 64]));
/// Whether the place is one to jump to.
static IS_SET: AtomicBool = AtomicBool::new(false);
static JUMPS: AtomicU64 = AtomicU64::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);
/// Whether one more event is enough.
static IS_LAST: AtomicBool = AtomicBool::new(false);

/// How many jumps there are to be.
const WANTED: u64 = 1500;
/// Events after the last of them.
const AFTER: u64 = 10;

unsafe extern "C" {
    #[link_name = "__sigsetjmp"]
    fn set(place: *mut u64, mask: libc::c_int) -> libc::c_int;
    #[link_name = "siglongjmp"]
    fn go_to(place: *mut u64, value: libc::c_int) -> !;
}

extern "C" fn leave(_: libc::c_int) {
    if IS_SET.load(Ordering::Relaxed) {
        JUMPS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the place is that of a caller of what was interrupted, in which nothing is to be dropped.
        unsafe { go_to(PLACE.0.get().cast(), 1) }
    }
}

/// Writes events until a handler has jumped here so often.
#[inline(never)]
fn write_and_be_left() {
    // SAFETY: there is room; nothing of this function is kept in registers over the jump.
    unsafe { set(PLACE.0.get().cast(), 1) };
    IS_SET.store(true, Ordering::Relaxed);
    while JUMPS.load(Ordering::Relaxed) < WANTED {
        event!("before", number = NUMBER.fetch_add(1, Ordering::Relaxed));
        if IS_LAST.load(Ordering::Relaxed) {
            break;
        }
    }
    IS_SET.store(false, Ordering::Relaxed);
}

fn jump(directory: &Path) {
    start(flight(directory).ring_size(64 << 20)).unwrap();
    interval(150, leave);
    write_and_be_left();
    interval(0, leave);
    (0..AFTER).for_each(|number| event!("after", number));
    println!("{}", NUMBER.load(Ordering::Relaxed));
}

/// Each time from further down than what may have been left, which looks like a handler's; then once from where that was.
fn jump_and_go_deeper(directory: &Path) {
    start(flight(directory).ring_size(64 << 20)).unwrap();
    for round in 0..100_u64 {
        JUMPS.store(WANTED - 1, Ordering::Relaxed);
        interval(150, leave);
        write_and_be_left();
        interval(0, leave);
        deeper(&mut [0; 4096], round);
    }
    JUMPS.store(0, Ordering::Relaxed);
    IS_LAST.store(true, Ordering::Relaxed);
    write_and_be_left();
}

#[inline(never)]
fn deeper(room: &mut [u8; 4096], number: u64) {
    event!("deeper", number);
    // Something is done with the room, so that it is there.
    std::hint::black_box(room);
}

fn deeper_too(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let [thread] = &recording.threads[..] else { return Err("another thread".into()) };
    let deeper = numbers(thread, "deeper");
    check(deeper.into_iter().eq(0..100) && thread.open == 0, || format!("{} bytes open", thread.open))?;
    check(thread.left > 0 && thread.left <= 100, || format!("{} left", thread.left))
}

fn went_on(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let [thread] = &recording.threads[..] else { return Err("another thread".into()) };
    let after = numbers(thread, "after");
    check(after.into_iter().eq(0..AFTER) && thread.open == 0, || format!("{} bytes open", thread.open))?;
    let written: u64 = left.said.trim().parse()?;
    let before = numbers(thread, "before");
    let first = before.first().copied().unwrap_or_default();
    let lost = written - first - before.len() as u64;
    // One event at most for each jump, and not all of the jumps were in the middle of one.
    check(before.is_sorted() && lost <= WANTED, || format!("{lost} of {written} lost, {} left", thread.left))?;
    let counted = thread.left > 0 && thread.left <= WANTED && lost >= thread.left / 2;
    check(counted && thread.refused == 0, || format!("{lost} lost, {} left, {} refused", thread.left, thread.refused))
}
