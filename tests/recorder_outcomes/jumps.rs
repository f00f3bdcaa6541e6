//! Handlers that do not go back to the event that they interrupted.

use super::processes::interval;
use super::{Left, Scene, check, flight, numbers};
use libtest_mimic::Failed;
use std::cell::UnsafeCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use surestack::recorder::{event, start};

pub const SCENES: &[Scene] = &[Scene {
    name: "an_event_that_a_handler_left_by_siglongjmp_is_counted_and_later_ones_are_read",
    play: jump,
    judge: went_on,
}];

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
