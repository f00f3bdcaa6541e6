//! A thread's own trace: taken anywhere, in handlers too, without allocating, and judged later.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "threads/shadow.rs"]
#[allow(dead_code)]
mod shadow;

use shadow::Shadow;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use surestack::this_process::{Trace, refresh};
use surestack::walk::{End, Link};
use surestack::{Doubt, Doubted, Verdict};

struct Counting;

/// The thread whose allocations are counted, and how many there were.
static WATCHED: AtomicU32 = AtomicU32::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's, counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WATCHED.load(Ordering::Relaxed) == surestack_capture::syscall::thread_id() {
            ALLOCATED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn pcs<const FRAMES: usize>(trace: &Trace<FRAMES>) -> Vec<u64> {
    trace.frames().map(|frame| frame.pc.value()).collect()
}

#[test]
fn a_captured_trace_is_what_the_shadow_says_and_becomes_reliable_with_files() {
    refresh();
    let shadow = Shadow::new(0);
    let mut captured = None;
    shadow.descend(7, &mut || {
        let trace: Trace = Trace::capture();
        assert_eq!(shadow.of(&pcs(&trace)), shadow.expected());
        captured = Some(trace);
    });
    let trace = captured.unwrap();
    assert!(matches!(trace.end(), Some(End::Root(_))), "{:?}", trace.end());
    assert!(matches!(trace.verdict(), Verdict::Pending(_)), "{trace:?}");
    // The thread has long gone on: what is judged are the notes.
    let judged = trace.judge().unwrap();
    assert_eq!(judged.verdict, Verdict::Reliable, "{judged:?}");
    assert_eq!(judged.believed, trace.depth());
}

#[test]
fn traces_that_are_judged_together_are_judged_as_each_alone() {
    refresh();
    let shadow = Shadow::new(0);
    let mut traces: Vec<Trace> = vec![];
    for depth in [3, 9, 1] {
        shadow.descend(depth, &mut || traces.push(Trace::capture()));
    }
    // One that ended before its outermost frame.
    let cut = std::cell::Cell::new(None);
    shadow.descend(2, &mut || cut.set(Some(Trace::<4>::capture())));
    let cut = cut.take().unwrap();
    let together = Trace::judge_each(&traces).unwrap();
    let alone: Vec<_> = traces.iter().map(|trace| trace.judge().unwrap()).collect();
    assert_eq!(together, alone);
    assert!(together.iter().all(|judged| judged.verdict == Verdict::Reliable), "{together:?}");
    let believed: Vec<usize> = together.iter().map(|judged| judged.believed).collect();
    assert_eq!(believed, traces.iter().map(Trace::depth).collect::<Vec<_>>());
    let [one, other] = &Trace::judge_each([&cut, &cut]).unwrap()[..] else { panic!("two of two") };
    assert_eq!((one.verdict, one), (Verdict::Unreliable, other));
}

#[test]
fn capturing_allocates_nothing() {
    refresh();
    let mut trace: Trace = Trace::EMPTY;
    WATCHED.store(surestack_capture::syscall::thread_id(), Ordering::Relaxed);
    trace.capture_here();
    let captured = ALLOCATED.swap(0, Ordering::Relaxed);
    drop(black_box(vec![0_u8; 10]));
    let counted = ALLOCATED.load(Ordering::Relaxed);
    WATCHED.store(0, Ordering::Relaxed);
    assert!(trace.depth() > 3);
    assert_eq!((captured, counted), (0, 1));
}

#[test]
fn a_stack_deeper_than_the_room_is_not_believed() {
    refresh();
    let shadow = Shadow::new(0);
    shadow.descend(20, &mut || {
        let trace: Trace<16> = Trace::capture();
        assert!(trace.depth() > 40 && trace.frames().count() == 16);
        assert_eq!(trace.verdict(), Verdict::Unreliable);
        assert_eq!(trace.judge().unwrap().verdict, Verdict::Unreliable);
    });
}

static IN_HANDLER: Mutex<[Trace; 2]> = Mutex::new([Trace::EMPTY, Trace::EMPTY]);
static INTERRUPTED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handler(_signal: i32, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let mut kept = IN_HANDLER.try_lock().unwrap();
    // SAFETY: the kernel's argument; it is alive until we return.
    unsafe {
        INTERRUPTED.store((*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[16] as usize, Ordering::Relaxed);
        kept[0].capture_ucontext(context);
    }
    kept[1].capture_here();
}

#[test]
fn in_a_handler_there_are_the_trace_of_what_was_interrupted_and_ones_own_through_the_signal_frame() {
    // Without it a walk does not leave the alternate stack.
    let directory = std::env::temp_dir();
    surestack::Handler::builder().directory(directory).install().unwrap().keep();
    refresh();
    // SAFETY: the handler takes these; all of the structure may be zero.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let shadow = Shadow::new(0);
    shadow.descend(5, &mut || {
        // SAFETY: to this thread.
        unsafe { libc::raise(libc::SIGUSR1) };
        let [interrupted, own] = IN_HANDLER.lock().unwrap().clone();
        let at = INTERRUPTED.load(Ordering::Relaxed) as u64;
        assert_eq!(pcs(&interrupted)[0], at);
        assert_eq!(shadow.of(&pcs(&interrupted)), shadow.expected());
        let through = own.frames().position(|frame| frame.link == Link::Signal).expect("a signal frame");
        assert_eq!(pcs(&own)[through..], pcs(&interrupted)[..], "the same from there on");
        assert_eq!(interrupted.judge().unwrap().verdict, Verdict::Reliable);
        let judged = own.judge().unwrap();
        // What the compiler made of the handler may not be provable; nothing else speaks against it.
        let undecided = |doubted: &Doubted| matches!(doubted.doubt, Doubt::RowUndecided { .. });
        assert!(judged.doubts.iter().all(undecided), "{judged:?}");
    });
}
