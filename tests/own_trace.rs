//! Our own stack, walked and judged from a handler of our own.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use surestack::this_process;
use surestack_capture::{ARCH, Interrupted, Mappings, See, Stopped, Surroundings, Traced, stop, trace};
use surestack_reliable::{Doubted, Missing, Noted, Verdict};
use surestack_walk::{End, Link, Registry, Regs, Root};

/// What the handler saw.
static PCS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
static LINKS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
static SEEN: AtomicUsize = AtomicUsize::new(0);
static MAPS: AtomicI32 = AtomicI32::new(-1);
static TRACED: Mutex<Option<Traced>> = Mutex::new(None);

struct Keep;

impl See for Keep {
    fn frame(&mut self, frame: &Noted, _regs: &Regs) -> ControlFlow<()> {
        let at = SEEN.fetch_add(1, Ordering::Relaxed);
        let Some((pc, link)) = PCS.get(at).zip(LINKS.get(at)) else { return ControlFlow::Break(()) };
        pc.store(frame.pc.value() as usize, Ordering::Relaxed);
        link.store(usize::from(frame.link == Link::Signal), Ordering::Relaxed);
        ControlFlow::Continue(())
    }

    fn doubt(&mut self, doubted: &Doubted) {
        eprintln!("{doubted:?}");
    }
}

extern "C" fn handler(_: i32, siginfo: *mut libc::siginfo_t, ucontext: *mut libc::c_void) {
    let interrupted = Interrupted { ucontext: ucontext.expose_provenance(), siginfo: siginfo.expose_provenance() };
    // SAFETY: they are what the kernel passed.
    let (regs, signal) = unsafe { (interrupted.registers().unwrap(), interrupted.signal().unwrap()) };
    let around = Surroundings::new(this_process::modules(), Mappings::new(Some(MAPS.load(Ordering::Relaxed))));
    let thread = Stopped { arch: ARCH, regs: &regs, stop: stop(&signal) };
    // SAFETY: the thread is this one, interrupted.
    let traced = unsafe { trace(&around, &Registry::default(), thread, &mut Keep) };
    *TRACED.lock().unwrap() = Some(traced);
}

#[inline(never)]
fn deep(levels: usize) -> usize {
    if levels == 0 {
        // SAFETY: the handler is installed.
        unsafe { libc::raise(libc::SIGUSR1) };
        return 1;
    }
    black_box(deep(black_box(levels - 1))) + 1
}

fn maps() -> RawFd {
    std::fs::File::open("/proc/self/maps").unwrap().into_raw_fd()
}

#[test]
fn a_thread_is_traced_from_its_handler_to_its_root() {
    this_process::refresh();
    MAPS.store(maps(), Ordering::Relaxed);
    // SAFETY: the handler only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    assert_eq!(deep(20), 21);
    let traced = TRACED.lock().unwrap().take().unwrap();
    let pcs: Vec<usize> = PCS.iter().take(SEEN.load(Ordering::Relaxed)).map(|pc| pc.load(Ordering::Relaxed)).collect();
    let start = deep as *const () as usize;
    let levels = pcs.iter().filter(|pc| (start..start + 200).contains(*pc)).count();
    assert_eq!(levels, 21, "{pcs:x?}");
    assert!(matches!(traced.end, End::Root(Root::UndefinedReturn)), "{traced:?}");
    assert_eq!(traced.verdict, Verdict::Pending(Missing::ROOT.and(Missing::ROW).and(Missing::TEXT)));
    assert_eq!(traced.believed, traced.frames);
}
