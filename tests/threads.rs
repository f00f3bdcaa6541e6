//! All threads of this process asked to stand still: who answers, what their stacks are, who is named, who goes on.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "threads/shadow.rs"]
mod shadow;

use shadow::Shadow;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use surestack::this_process;
use surestack::walk::{Register, Registry, Stop};
use surestack_capture::threads::{
    Parked, Purpose, Refused, Room, Slot, Standing, Times, add_room, install, name, park,
};
use surestack_capture::{ARCH, Mappings, See, Stopped, Surroundings, trace};

const SECOND: u64 = 1_000_000_000;
const TIMES: Times = Times { answer: 5 * SECOND, stand: 20 * SECOND };
/// Frames of one thread that are kept.
const FRAMES: usize = 64;

static FIRST: [Slot; 700] = [const { Slot::empty() }; 700];
static FIRST_ROOM: Room = Room::of(&FIRST);

/// One test at a time: each stops all threads, those of the others too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static INSTALLED: Once = Once::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    INSTALLED.call_once(|| {
        add_room(&FIRST_ROOM);
        std::mem::forget(install(None).unwrap());
        this_process::refresh();
    });
    alone
}

/// What was seen of one thread, in memory that was there before: nothing may be allocated while threads stand that may
/// hold the allocator's lock.
#[derive(Clone)]
struct Seen {
    thread: u32,
    standing: Standing,
    pcs: Vec<u64>,
    sp: u64,
}

impl Seen {
    fn room(threads: usize) -> Vec<Self> {
        vec![Self { thread: 0, standing: Standing::Silent, pcs: vec![], sp: 0 }; threads]
            .into_iter()
            .map(|seen| Self { pcs: Vec::with_capacity(FRAMES), ..seen })
            .collect()
    }
}

struct Pcs<'p>(&'p mut Vec<u64>);

impl See for Pcs<'_> {
    fn frame(&mut self, frame: &surestack_reliable::Noted) -> ControlFlow<()> {
        if self.0.len() < FRAMES {
            self.0.push(frame.pc.value());
        }
        ControlFlow::Continue(())
    }

    fn doubt(&mut self, _doubted: &surestack::Doubted) {}
}

/// Walks whoever stands. Allocates nothing.
fn look(parked: &Parked, into: &mut [Seen]) -> usize {
    let maps = surestack_capture::syscall::open_at(-100, c"/proc/self/maps", 0, 0).ok();
    let around = Surroundings::new(this_process::modules(), Mappings::new(maps));
    let mut places = into.iter_mut();
    let mut count = 0;
    parked
        .each(|thread, standing| {
            count += 1;
            let Some(seen) = places.next() else { return };
            (seen.thread, seen.standing) = (thread, standing);
            // SAFETY: it stands.
            let Ok(regs) = (unsafe { standing.registers() }) else { return };
            seen.sp = regs.get(ARCH.sp).unwrap_or(0);
            let stopped = Stopped { arch: ARCH, regs: &regs, stop: Stop::default() };
            let registry = Registry::default();
            // SAFETY: it stands, so its stack stays.
            unsafe { trace(&around, &registry, stopped, &mut Pcs(&mut seen.pcs)) };
        })
        .unwrap();
    let _ = maps.map(surestack_capture::syscall::close);
    count
}

fn thread_id() -> u32 {
    surestack_capture::syscall::thread_id()
}

/// Threads that run until they are told to end.
struct Threads {
    end: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(count: usize, stack: usize, work: impl Fn(usize, &AtomicBool) + Send + Sync + 'static) -> Self {
        let (end, work) = (Arc::new(AtomicBool::new(false)), Arc::new(work));
        let handles = (0..count)
            .map(|number| {
                let (end, work) = (end.clone(), work.clone());
                let builder = std::thread::Builder::new().name(format!("number {number}")).stack_size(stack);
                builder.spawn(move || work(number, &end)).unwrap()
            })
            .collect();
        Self { end, handles }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for handle in self.handles.drain(..) {
            handle.join().unwrap();
        }
    }
}

#[test]
fn each_of_500_threads_is_walked_as_its_own_shadow_says() {
    const THREADS: usize = 500;
    let _alone = alone();
    static SHADOWS: [Mutex<Option<Shadow>>; THREADS] = [const { Mutex::new(None) }; THREADS];
    static READY: AtomicUsize = AtomicUsize::new(0);
    let threads = Threads::start(THREADS, 128 << 10, |number, end| {
        let shadow = Shadow::new(thread_id());
        *SHADOWS[number].lock().unwrap() = Some(shadow.clone());
        shadow.descend(number % 20 + 1, &mut || {
            READY.fetch_add(1, Ordering::Relaxed);
            while !end.load(Ordering::Relaxed) {
                // Some wait in the kernel, some run.
                if number % 10 == 0 {
                    std::hint::spin_loop();
                } else {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
    });
    while READY.load(Ordering::Relaxed) < THREADS {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut seen = Seen::room(THREADS + 100);
    for _ in 0..3 {
        seen.iter_mut().for_each(|seen| seen.pcs.clear());
        let began = Instant::now();
        let parked = park(Purpose::Check, TIMES).unwrap();
        let asked = began.elapsed();
        let complete = parked.is_complete();
        let count = look(&parked, &mut seen);
        let walked = began.elapsed();
        drop(parked);
        eprintln!("{count} threads asked in {asked:?}, walked after {walked:?}");
        assert!(complete);
        for shadow in &SHADOWS {
            let shadow = shadow.lock().unwrap().clone().unwrap();
            let seen = seen[..count].iter().find(|seen| seen.thread == shadow.thread).expect("a thread is missing");
            assert!(matches!(seen.standing, Standing::At { .. }), "{:?}", seen.standing);
            assert_eq!(shadow.of(&seen.pcs), shadow.expected(), "thread {}", shadow.thread);
        }
    }
    drop(threads);
}

#[test]
fn threads_with_the_smallest_stacks_and_none_to_spare_are_asked_too() {
    let _alone = alone();
    static READY: AtomicUsize = AtomicUsize::new(0);
    let threads = Threads::start(8, 16 << 10, |_, end| {
        READY.fetch_add(1, Ordering::Relaxed);
        while !end.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    });
    while READY.load(Ordering::Relaxed) < 8 {
        std::thread::yield_now();
    }
    let parked = park(Purpose::Check, TIMES).unwrap();
    let complete = parked.is_complete();
    drop(parked);
    assert!(complete);
    drop(threads);
}

#[test]
fn a_thread_that_blocks_all_signals_is_named() {
    let _alone = alone();
    static DEAF: AtomicU32 = AtomicU32::new(0);
    let threads = Threads::start(1, 128 << 10, |_, end| {
        // SAFETY: this thread's mask only.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        }
        DEAF.store(thread_id(), Ordering::Relaxed);
        while !end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // What is queued would be delivered now: nobody may be hurt by it.
        // SAFETY: as above.
        unsafe {
            let none: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
    });
    while DEAF.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let deaf = DEAF.load(Ordering::Relaxed);
    let short = Times { answer: SECOND / 10, stand: 20 * SECOND };
    for (purpose, expected) in [(Purpose::Check, Standing::Unasked), (Purpose::Crash, Standing::Silent)] {
        let mut found = None;
        let began = Instant::now();
        let parked = park(purpose, short).unwrap();
        let complete = parked.is_complete();
        parked.each(|thread, standing| found = found.or((thread == deaf).then_some(standing))).unwrap();
        let named = name(deaf).unwrap();
        drop(parked);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!((complete, found), (false, Some(expected)));
        assert_eq!(named.bytes(), b"number 0");
    }
    // Asked a hundred times, it has one question to answer.
    let queued = || {
        let status = std::fs::read_to_string(format!("/proc/self/task/{deaf}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("SigQ:")).unwrap().to_owned();
        line.split(['\t', '/']).nth(1).unwrap().trim().parse::<u64>().unwrap()
    };
    let before = queued();
    for _ in 0..100 {
        drop(park(Purpose::Check, Times { answer: SECOND / 1000, ..short }).unwrap());
    }
    assert_eq!(queued(), before);
    drop(threads);
    let parked = park(Purpose::Check, TIMES).unwrap();
    let complete = parked.is_complete();
    drop(parked);
    assert!(complete, "afterwards nobody is owed");
}

#[test]
fn beyond_the_room_threads_are_named_and_with_more_room_they_are_asked() {
    const THREADS: usize = 720;
    let _alone = alone();
    static READY: AtomicUsize = AtomicUsize::new(0);
    let threads = Threads::start(THREADS, 64 << 10, |_, end| {
        READY.fetch_add(1, Ordering::Relaxed);
        while !end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    while READY.load(Ordering::Relaxed) < THREADS {
        std::thread::sleep(Duration::from_millis(5));
    }
    let counts = || {
        let (mut standing, mut without) = (HashSet::with_capacity(2000), HashSet::with_capacity(2000));
        let parked = park(Purpose::Check, TIMES).unwrap();
        let complete = parked.is_complete();
        parked
            .each(|thread, found| {
                match found {
                    Standing::At { .. } => standing.insert(thread),
                    Standing::NoRoom => without.insert(thread),
                    _ => false,
                };
            })
            .unwrap();
        drop(parked);
        (standing, without, complete)
    };
    let room = surestack_capture::threads::room();
    if room == FIRST.len() {
        let (standing, without, complete) = counts();
        assert_eq!(standing.len(), room);
        assert!(!complete && standing.len() + without.len() >= THREADS, "{} of no room", without.len());
        let more: Vec<Slot> = (0..1000).map(|_| Slot::empty()).collect();
        add_room(Box::leak(Box::new(Room::of(Box::leak(more.into_boxed_slice())))));
    }
    let (standing, without, complete) = counts();
    assert_eq!((complete, without.len(), standing.len() >= THREADS), (true, 0, true), "{}", standing.len());
    drop(threads);
}

#[test]
fn parked_threads_go_on_when_the_asker_never_comes_back() {
    let _alone = alone();
    static TURNS: AtomicU64 = AtomicU64::new(0);
    let threads = Threads::start(4, 128 << 10, |_, end| {
        while !end.load(Ordering::Relaxed) {
            TURNS.fetch_add(1, Ordering::Relaxed);
            std::hint::spin_loop();
        }
    });
    while TURNS.load(Ordering::Relaxed) < 100 {
        std::thread::yield_now();
    }
    let parked = park(Purpose::Check, Times { answer: SECOND, stand: SECOND / 2 }).unwrap();
    let before = TURNS.load(Ordering::Relaxed);
    let sleep = |milliseconds: u64| {
        let word = AtomicU32::new(0);
        let _ = surestack_capture::syscall::wait_while(&word, 0, milliseconds * 1_000_000);
    };
    sleep(100);
    let (held, during) = (parked.holds(), TURNS.load(Ordering::Relaxed));
    sleep(900);
    let (holds, after) = (parked.holds(), TURNS.load(Ordering::Relaxed));
    // Never let go: as if this thread had died.
    std::mem::forget(parked);
    assert_eq!((held, before), (true, during), "they stood");
    assert!(!holds && after > during, "they went on, and that is known");
    drop(threads);
    // Who asks next: the asker is gone or not, his time is over.
    assert_eq!(park(Purpose::Check, TIMES).err(), Some(Refused::Busy(thread_id())));
    drop(park(Purpose::Crash, TIMES).unwrap());
    drop(park(Purpose::Check, TIMES).unwrap());
}

#[test]
fn threads_that_come_and_go_meanwhile_are_all_found_or_it_is_said() {
    let _alone = alone();
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let threads = Threads::start(4, 128 << 10, |number, end| {
        let library = std::ffi::CString::new(["libm.so.6", "libdl.so.2"][number % 2]).unwrap();
        while !end.load(Ordering::Relaxed) {
            if number < 2 {
                let started = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
                    STARTED.fetch_add(1, Ordering::Relaxed);
                });
                started.unwrap().join().unwrap();
            } else {
                // SAFETY: a library without constructors that matter.
                unsafe {
                    let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
                    if !handle.is_null() {
                        libc::dlclose(handle);
                    }
                }
            }
        }
    });
    let mut complete = 0;
    for _ in 0..200 {
        let parked = park(Purpose::Check, TIMES).unwrap();
        if parked.is_complete() {
            complete += 1;
            // Nobody runs who could start a thread.
            let before = STARTED.load(Ordering::Relaxed);
            let word = AtomicU32::new(0);
            let _ = surestack_capture::syscall::wait_while(&word, 0, 1_000_000);
            let after = STARTED.load(Ordering::Relaxed);
            let still = parked.is_complete();
            drop(parked);
            assert_eq!((before, still), (after, true));
        }
    }
    eprintln!("{complete} of 200 complete, {} threads were started", STARTED.load(Ordering::Relaxed));
    assert!(complete >= 190, "{complete}");
    drop(threads);
}

#[test]
fn a_call_that_can_be_begun_again_is_and_one_that_cannot_fails_with_eintr() {
    let _alone = alone();
    static FAILED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    let mut pipe = [0; 2];
    // SAFETY: two descriptors are written.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let threads = Threads::start(2, 128 << 10, move |number, _| {
        let mut byte = 0_u8;
        let mut poll = libc::pollfd { fd: pipe[0], events: libc::POLLIN, revents: 0 };
        // SAFETY: one byte, one structure of ours.
        let answer = unsafe {
            match number {
                0 => libc::read(pipe[0], (&raw mut byte).cast(), 1),
                _ => libc::poll(&raw mut poll, 1, 10_000) as isize,
            }
        };
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap();
        FAILED[number].store(if answer < 0 { errno.cast_unsigned() } else { 1000 }, Ordering::Relaxed);
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(park(Purpose::Check, TIMES).unwrap());
    std::thread::sleep(Duration::from_millis(100));
    let failed = FAILED.each_ref().map(|failed| failed.load(Ordering::Relaxed));
    // SAFETY: one byte of a constant.
    assert_eq!(unsafe { libc::write(pipe[1], b"x".as_ptr().cast(), 1) }, 1);
    drop(threads);
    assert_eq!(failed, [0, libc::EINTR.cast_unsigned()]);
    assert_eq!(FAILED[0].load(Ordering::Relaxed), 1000);
}

#[test]
fn a_forked_child_has_only_itself() {
    let _alone = alone();
    let threads = Threads::start(4, 128 << 10, |_, end| {
        while !end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    // Some stand when it is forked.
    let parked = park(Purpose::Check, TIMES).unwrap();
    // SAFETY: the child makes system calls only.
    let child = unsafe { surestack_capture::syscall::fork() }.unwrap();
    if child.is_none() {
        let mut others = 0;
        let status = match park(Purpose::Check, TIMES) {
            Ok(parked) => {
                let listed = parked.each(|_, _| others += 1);
                if listed.is_ok() && others == 0 && parked.is_complete() { 0 } else { 1 }
            }
            Err(_) => 2,
        };
        surestack_capture::syscall::exit(status);
    }
    drop(parked);
    let mut status = 0;
    // SAFETY: our child.
    unsafe { libc::waitpid(child.unwrap().cast_signed(), &raw mut status, 0) };
    assert_eq!(status, 0);
    drop(threads);
}

#[test]
fn a_signal_of_the_same_number_from_somebody_else_is_not_an_answer() {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    extern "C" fn theirs(signal: i32) {
        TAKEN.store(signal.cast_unsigned(), Ordering::Relaxed);
    }
    const OURS: &str = "a_signal_of_the_same_number_from_somebody_else_is_not_an_answer";
    // In a process of its own: the signal is installed once.
    if std::env::var_os("SURESTACK_TEST_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", OURS, "--test-threads=1"])
            .env("SURESTACK_TEST_CHILD", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let signal = libc::SIGRTMIN() + 5;
    // SAFETY: stores a number.
    unsafe { libc::signal(signal, theirs as *const () as libc::sighandler_t) };
    let installed = install(Some(signal)).unwrap();
    // SAFETY: to this thread.
    unsafe { libc::raise(signal) };
    assert_eq!(TAKEN.load(Ordering::Relaxed), signal.cast_unsigned());
    drop(installed);
    // SAFETY: reads.
    let now = unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now);
        now.sa_sigaction
    };
    assert_eq!(now, theirs as *const () as usize, "and it is put back");
}

#[test]
fn a_parked_thread_has_the_registers_that_it_had() {
    let _alone = alone();
    static AT: AtomicU64 = AtomicU64::new(0);
    let threads = Threads::start(1, 128 << 10, |_, end| shadow::spin_with_known_registers(&AT, end));
    while AT.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    let mut seen = None;
    let parked = park(Purpose::Check, TIMES).unwrap();
    parked
        .each(|_, standing| {
            // SAFETY: it stands.
            if let Ok(regs) = unsafe { standing.registers() }
                && regs.get(ARCH.sp) == Some(AT.load(Ordering::Acquire))
            {
                seen = Some(regs);
            }
        })
        .unwrap();
    drop(parked);
    drop(threads);
    let seen = seen.expect("the thread is missing");
    for (number, value) in shadow::KNOWN {
        assert_eq!(seen.get(Register::general(number).unwrap()), Some(value), "register {number}");
    }
}
