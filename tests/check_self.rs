//! The decision over our own threads, held by ourselves.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use surestack::Error;
use surestack::consistency::own::{Options, check_self};
use surestack::consistency::{Named, Obstacle, Of, Overall, Reason, Request, Standing, Target, Vouch};

/// What is to be replaced.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn surestack_test_target(end: &AtomicBool, ready: &AtomicUsize) {
    ready.fetch_add(1, Ordering::Relaxed);
    while !end.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    black_box(ready);
}

/// The same, of the one test that looks again when its thread has left.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn surestack_test_left(end: &AtomicBool, ready: &AtomicUsize) {
    while !end.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
        ready.store(ready.load(Ordering::Relaxed).max(1), Ordering::Relaxed);
    }
    black_box((end, ready));
}

/// What is not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn surestack_test_other(end: &AtomicBool, ready: &AtomicUsize) {
    ready.fetch_add(1, Ordering::Relaxed);
    while !end.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    black_box(end);
}

/// What is to be replaced and was never entered: the stack of a thread that has ended is kept by libc, with whatever was on it,
/// and other tests leave such stacks behind.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn surestack_test_untouched(end: &AtomicBool) {
    black_box(end);
}

/// One test at a time: each stops all threads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn request() -> Request<'static> {
    let names = Named::list("surestack_test_target vouch").unwrap();
    // The test harness holds its tests in lists of pointers, and no coroutines.
    Request { names, vouches: vec![Vouch::NoJumps], ..Request::default() }
}

fn left() -> Request<'static> {
    Request { names: Named::list("surestack_test_left vouch").unwrap(), ..request() }
}

fn untouched() -> Request<'static> {
    // So that it is linked.
    black_box(surestack_test_untouched as *const ());
    Request { names: Named::list("surestack_test_untouched vouch").unwrap(), ..request() }
}

struct Threads {
    end: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(count: usize, work: impl Fn(usize, &AtomicBool, &AtomicUsize) + Send + Sync + 'static) -> Self {
        let (end, ready, work) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(work));
        let handles = (0..count)
            .map(|number| {
                let (end, ready, work) = (end.clone(), ready.clone(), work.clone());
                std::thread::spawn(move || work(number, &end, &ready))
            })
            .collect();
        while ready.load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
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
fn a_function_that_nobody_is_in_may_be_replaced_and_all_others_stand_meanwhile() {
    static TURNS: AtomicU64 = AtomicU64::new(0);
    let _alone = alone();
    let threads = Threads::start(3, |number, end, ready| match number {
        0 => {
            ready.fetch_add(1, Ordering::Relaxed);
            while !end.load(Ordering::Relaxed) {
                TURNS.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ => surestack_test_other(end, ready),
    });
    let began = Instant::now();
    let checked = check_self(&untouched(), &Options::default()).unwrap();
    let took = began.elapsed();
    let before = TURNS.load(Ordering::Relaxed);
    let word = std::sync::atomic::AtomicU32::new(0);
    let _ = surestack_capture::syscall::wait_while(&word, 0, 50_000_000);
    let (permitted, left) = match checked.permit() {
        Some(permit) => (permit.holds(), permit.left()),
        None => (false, Duration::ZERO),
    };
    let after = TURNS.load(Ordering::Relaxed);
    let answer = checked.answer().unwrap();
    eprintln!("took {took:?}, {left:?} left");
    assert_eq!(answer.decision.overall, Overall::Apply, "{:#?}", answer.decision);
    assert!(permitted && left > Duration::from_secs(1));
    assert_eq!(before, after, "somebody ran");
    assert!(answer.decision.threads.iter().all(|answer| answer.standing == Standing::Clear));
    assert!(answer.decision.threads.len() >= 4);
    let turns = TURNS.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    assert!(TURNS.load(Ordering::Relaxed) > turns, "they go on");
    drop(threads);
}

#[test]
fn a_thread_that_is_in_a_target_is_named_with_the_frame() {
    let _alone = alone();
    static LEAVE: AtomicBool = AtomicBool::new(false);
    let threads = Threads::start(2, |number, end, ready| {
        if number == 0 {
            ready.fetch_add(1, Ordering::Relaxed);
            surestack_test_left(&LEAVE, ready);
        }
        surestack_test_other(end, ready);
    });
    for _ in 0..3 {
        let checked = check_self(&left(), &Options::default()).unwrap();
        assert!(checked.permit().is_none());
        let answer = checked.answer().unwrap();
        let blocked = |standing: &Standing| matches!(standing, Standing::Blocked { wait: Some(_), .. });
        let count = answer.decision.threads.iter().filter(|answer| blocked(&answer.standing)).count();
        assert_eq!(count, 1, "{:#?}", answer.decision);
        assert!(matches!(answer.decision.overall, Overall::RetryLater(_)), "{:?}", answer.decision.overall);
    }
    // Once it has left the target, nothing that was said before stands in the way. (The stack of a thread that has ended
    // would: libc keeps it, with whatever was on it.)
    LEAVE.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(200));
    let answer = check_self(&left(), &Options::default()).unwrap().answer().unwrap();
    assert_eq!(answer.decision.overall, Overall::Apply, "{:#?}", answer.decision);
    drop(threads);
}

#[test]
fn who_asks_from_within_a_target_is_in_it() {
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn surestack_test_asks() -> bool {
        let names = Named::list("surestack_test_asks vouch").unwrap();
        let request = Request { names, ..Request::default() };
        let checked = check_self(&request, &Options::default()).unwrap();
        let permitted = checked.permit().is_some();
        let answer = checked.answer().unwrap();
        let us = surestack_capture::syscall::thread_id();
        let own = answer.decision.threads.iter().find(|answer| answer.of == Of::Thread(us)).unwrap();
        assert!(matches!(own.standing, Standing::Blocked { .. }), "{own:?}");
        permitted
    }
    let _alone = alone();
    assert!(!surestack_test_asks());
}

#[test]
fn a_hundred_times_while_everybody_allocates_there_is_an_answer_and_no_deadlock() {
    let _alone = alone();
    let threads = Threads::start(4, |number, end, ready| {
        ready.fetch_add(1, Ordering::Relaxed);
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut size = number + 1;
        while !end.load(Ordering::Relaxed) {
            // The one who judges needs a processor too.
            std::thread::yield_now();
            size = size * 7 % 100_003 + 1;
            kept.push(vec![0; size % 3000]);
            if kept.len() > 50 {
                kept.clear();
            }
        }
    });
    // To find a function by its name takes seconds in a program as large as this.
    let by_name = check_self(&request(), &Options::default()).unwrap().answer().unwrap();
    let targets = vec![Target::range("target", by_name.targets[0].parts[0].range.clone())];
    drop(by_name);
    let request = Request { targets, vouches: vec![Vouch::NoJumps], ..Request::default() };
    let (mut applied, mut longest) = (0, Duration::ZERO);
    for _ in 0..100 {
        let began = Instant::now();
        let checked = check_self(&request, &Options::default()).unwrap();
        let permitted = checked.permit().is_some();
        let answer = checked.answer().unwrap();
        assert_eq!(permitted, answer.decision.overall == Overall::Apply);
        applied += usize::from(permitted);
        longest = longest.max(began.elapsed());
    }
    eprintln!("{applied} of 100 could be applied, the longest took {longest:?}");
    assert!(applied > 0 && longest < Duration::from_secs(20));
    drop(threads);
}

#[test]
fn a_thread_that_blocks_all_signals_stands_in_the_way_by_name() {
    let _alone = alone();
    let threads = Threads::start(1, |_, end, ready| {
        // SAFETY: this thread's mask only.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        }
        surestack_test_other(end, ready);
    });
    let answer = check_self(&request(), &Options::default()).unwrap().answer().unwrap();
    let running = answer.decision.threads.iter().filter(|answer| answer.standing == Standing::Running).count();
    assert_eq!(running, 1, "{:#?}", answer.decision);
    assert!(matches!(&answer.decision.overall, Overall::RetryLater(_)), "{:?}", answer.decision.overall);
    drop(threads);
}

#[test]
fn a_permit_ends_with_the_time_and_so_does_the_standing() {
    let _alone = alone();
    let options = Options { stand: Duration::from_secs(6), answer: Duration::from_secs(6), ..Options::default() };
    let threads = Threads::start(1, |_, end, ready| surestack_test_other(end, ready));
    let checked = check_self(&untouched(), &options).unwrap();
    let before = checked.permit().is_some();
    // As long as both together.
    surestack_capture::syscall::sleep(13_000_000_000);
    let after = checked.permit().is_some();
    let answer = checked.answer().unwrap();
    assert_eq!((before, after), (true, false), "{:#?}", answer.decision);
    drop(threads);
}

#[test]
fn a_coroutine_in_the_heap_that_leads_into_a_target_is_found() {
    let _alone = alone();
    let inside = (surestack_test_target as *const () as u64) + 9;
    let mut parked = Box::new([inside ^ u64::MAX; 8]);
    black_box(&parked);
    for word in parked.iter_mut() {
        // SAFETY: ours.
        unsafe { std::ptr::from_mut(word).write_volatile(*word ^ u64::MAX) };
    }
    let answer = check_self(&request(), &Options::default()).unwrap().answer().unwrap();
    let at = std::ptr::from_ref(&parked[0]).addr() as u64;
    let Overall::RetryLater(reasons) = &answer.decision.overall else { panic!("{:?}", answer.decision.overall) };
    let found =
        |reason: &Reason| matches!(reason, Reason::Process(Obstacle::Unlisted { at: found, .. }) if *found == at);
    assert!(reasons.iter().any(found), "{reasons:?}");
    drop(answer);
    parked.iter_mut().for_each(|word| *word = 0);
    black_box(parked);
}

#[test]
fn a_name_that_is_no_functions_is_an_error_and_holds_nobody() {
    let _alone = alone();
    let names = Named::list("surestack_test_nobody").unwrap();
    let error = check_self(&Request { names, ..Request::default() }, &Options::default()).err().unwrap();
    assert!(matches!(&error, Error::Ourselves { why } if why.contains("surestack_test_nobody")), "{error}");
    drop(check_self(&request(), &Options::default()).unwrap());
}
