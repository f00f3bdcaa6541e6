//! The Rust half: two links of the chain, and the scenes that only a Rust program has.

use std::ffi::c_void;
use std::io::Write;
use std::thread;
use std::time::Duration;

/// See `truth.h`; only C looks inside.
type Truth = c_void;
type Act = unsafe extern "C-unwind" fn(*mut Truth);

const EXACT: u64 = 1;
const WITHIN: u64 = 2;
const LIBRARY: u64 = 3;

unsafe extern "C-unwind" {
    static the_truth: *mut Truth;
    fn truth_push(truth: *mut Truth, kind: u64, address: u64);
    fn truth_pop(truth: *mut Truth);
    fn truth_begin(truth: *mut Truth);
    fn truth_arm(truth: *mut Truth);
    fn chain(truth: *mut Truth, act: Act);
    fn act_null_read(truth: *mut Truth);
    fn act_overflow(truth: *mut Truth);
    fn rust_panic(truth: *mut Truth);
    fn rust_panic_abort(truth: *mut Truth);
    fn link_middle(truth: *mut Truth);
    fn link_alloca(truth: *mut Truth);
}

/// The first Rust link, entered through `rust_first`, which passes the return address on.
///
/// # Safety
/// Called by the chain only.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn rust_first_body(truth: *mut Truth, back: u64) {
    let text = format!("{back}");
    // SAFETY: the chain passes its truth on.
    unsafe {
        truth_push(truth, EXACT, back);
        link_middle(truth);
        truth_pop(truth);
    }
    std::hint::black_box(text);
}

/// The second, called back by qsort.
///
/// # Safety
/// Called by the chain only.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn rust_second_body(truth: *mut Truth, back: u64) {
    let room = std::hint::black_box([back; 40]);
    // SAFETY: the chain passes its truth on.
    unsafe {
        truth_push(truth, EXACT, back);
        link_alloca(truth);
        truth_pop(truth);
    }
    std::hint::black_box(room);
}

/// Runs the scene if it is one of ours.
#[inline(never)]
pub fn run(scene: &str) -> bool {
    match scene {
        "std_thread_null" => in_thread(act_null_read),
        "overflow_std_thread" => in_thread(act_overflow),
        "panic_main" => at_bottom(rust_panic),
        "panic_thread" => in_thread(rust_panic),
        "panic_abort" => at_bottom(rust_panic_abort),
        "stderr_held" => {
            hold_stderr();
            at_bottom(act_null_read);
        }
        _ => return false,
    }
    true
}

#[inline(never)]
fn at_bottom(act: Act) {
    // SAFETY: the truth was mapped before any scene.
    unsafe {
        truth_begin(the_truth);
        chain(the_truth, act);
    }
    std::hint::black_box(());
}

fn in_thread(act: Act) {
    // A panic in the thread is the scene's own affair: the program ends well.
    let _ = thread::Builder::new().name("victim".into()).spawn(move || at_bottom(act)).map(|t| t.join());
}

/// Another thread holds Rust's lock of standard error for ever.
fn hold_stderr() {
    let (held, wait) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut lock = std::io::stderr().lock();
        let _ = lock.flush();
        let _ = held.send(());
        loop {
            thread::sleep(Duration::from_secs(100));
        }
    });
    let _ = wait.recv();
}

/// # Safety
/// Called at the bottom of the chain, with what the caller was entered with.
unsafe fn dies_in(truth: *mut Truth, back: u64, function: u64) {
    // SAFETY: the chain passes its truth on.
    unsafe {
        truth_push(truth, EXACT, back);
        truth_push(truth, WITHIN, function);
        truth_push(truth, LIBRARY, 0);
        truth_arm(truth);
    }
}

/// Entered through `rust_panic`.
///
/// # Safety
/// Called by the chain only.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn rust_panic_body(truth: *mut Truth, back: u64) {
    // SAFETY: as above.
    unsafe { dies_in(truth, back, rust_panic_body as *const () as u64) };
    panic!("the scene panics, and says {}", 42);
}

#[inline(never)]
extern "C" fn abort_at_the_edge() {
    panic!("the scene panics where it may not unwind");
}

/// Entered through `rust_panic_abort`.
///
/// # Safety
/// Called by the chain only.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn rust_panic_abort_body(truth: *mut Truth, back: u64) {
    // SAFETY: as above.
    unsafe { dies_in(truth, back, rust_panic_abort_body as *const () as u64) };
    abort_at_the_edge();
    std::hint::black_box(truth);
}
