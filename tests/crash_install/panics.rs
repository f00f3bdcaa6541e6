//! The panic hook: ours among others, and what it keeps.

use super::system::child;
use super::{Scene, passes};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use surestack::crash::{AlternateStacks, Handler};
use surestack_capture::message::{PANICS, TEXT};

pub fn scenes() -> Vec<Scene> {
    let scene = |name, play| Scene { name, variables: &[], play, judge: passes };
    vec![
        scene("a_panic_is_kept_and_the_hook_that_was_there_is_called", kept),
        scene("uninstall_puts_the_hook_back_that_was_there", put_back),
        scene("a_hook_set_over_ours_stays_and_ours_only_passes_on", beneath),
        scene("a_panic_that_is_caught_makes_a_report", caught),
        scene("a_panic_that_ends_in_an_abort_makes_no_second_report", aborts),
        scene("an_abort_after_a_panic_that_was_caught_makes_its_own_report", aborts_later),
        scene("a_guard_dropped_by_a_panic_leaves_a_hook_that_passes_on", by_panic),
    ]
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static OVER: AtomicUsize = AtomicUsize::new(0);

/// Sets a hook that counts its calls.
fn count() {
    panic::set_hook(Box::new(|_| {
        CALLS.fetch_add(1, Ordering::SeqCst);
    }));
}

/// Panics, and says how often the first hook was called by that.
fn calls(message: &str) -> usize {
    let before = CALLS.load(Ordering::SeqCst);
    panic::catch_unwind(|| panic!("{message}")).unwrap_err();
    CALLS.load(Ordering::SeqCst) - before
}

/// What this thread said last.
fn said() -> Option<String> {
    let mut text = [0; TEXT];
    // SAFETY: asks for a number.
    let thread = unsafe { libc::gettid() };
    let length = PANICS.of(thread.cast_unsigned())?.read(&mut text)?;
    Some(String::from_utf8(text[..length].to_vec()).unwrap())
}

fn kept() {
    count();
    let _guard = surestack::install().unwrap();
    assert_eq!((calls("a word"), said().is_some()), (1, true));
    let first = said().unwrap();
    assert!(first.starts_with("panicked at tests/crash_install/panics.rs:") && first.ends_with(":\na word"), "{first}");
    let long = "\u{e4}".repeat(TEXT);
    assert_eq!(calls(&long), 1);
    let cut = said().unwrap();
    assert!(cut.len() > TEXT - 2 && cut.ends_with('\u{e4}'), "{}", cut.len());
    panic::catch_unwind(|| panic::panic_any(7)).unwrap_err();
    assert!(said().unwrap().ends_with(":\na value that is no text"));
    std::thread::spawn(|| assert!((calls("elsewhere"), said().unwrap().ends_with("elsewhere")) == (1, true)))
        .join()
        .unwrap();
    assert!(said().unwrap().ends_with("no text"));
}

fn put_back() {
    count();
    for turn in 0..3 {
        let guard = surestack::install().unwrap();
        assert_eq!(calls("installed"), 1);
        drop(guard);
        assert_eq!(calls("not installed"), 1, "turn {turn}");
        assert!(said().unwrap().ends_with("\ninstalled"));
    }
    // The one that was there, and none of ours around it.
    let first = panic::take_hook();
    assert_eq!(size_of_val(&*first), 0);
}

/// Sets a hook over the one there is.
fn over() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        OVER.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
}

fn beneath() {
    count();
    let guard = surestack::install().unwrap();
    over();
    assert_eq!((calls("first"), OVER.load(Ordering::SeqCst)), (1, 1));
    drop(guard);
    assert_eq!((calls("second"), OVER.load(Ordering::SeqCst)), (1, 2));
    assert!(said().unwrap().ends_with("first"));
    let guard = surestack::install().unwrap();
    assert_eq!((calls("third"), OVER.load(Ordering::SeqCst)), (1, 3));
    assert!(said().unwrap().ends_with("third"));
    // Whoever is over us throws us away.
    count();
    drop(guard);
    assert_eq!((calls("fourth"), OVER.load(Ordering::SeqCst)), (1, 3));
    let _guard = surestack::install().unwrap();
    assert_eq!(calls("fifth"), 1);
    assert!(said().unwrap().ends_with("fifth"));
}

fn by_panic() {
    count();
    panic::catch_unwind(|| {
        let _guard = surestack::install().unwrap();
        panic!("with a guard");
    })
    .unwrap_err();
    assert!(said().unwrap().ends_with("with a guard"));
    assert_eq!(calls("later"), 1);
    assert!(said().unwrap().ends_with("with a guard"));
    let guard = surestack::install().unwrap();
    assert_eq!(calls("again"), 1);
    assert!(said().unwrap().ends_with("again"));
    drop(guard);
    assert_eq!(calls("at last"), 1);
}

/// How many records a child leaves that does this with a handler, and how it ends.
fn records(play: impl FnOnce()) -> (usize, i32) {
    let folder = std::env::temp_dir().join(format!("surestack-panics-{}", std::process::id()));
    let status = child(|| {
        let handler = Handler::builder().directory(&folder).alternate_stacks(AlternateStacks::This);
        handler.install().unwrap().keep();
        play();
    });
    let left = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
    let left: Vec<_> = left.collect();
    assert!(left.iter().all(|path| path.metadata().unwrap().len() > 100), "{left:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    (left.len(), status)
}

fn caught() {
    count();
    assert_eq!(records(|| assert_eq!(calls("one"), 1)), (1, 0));
    // Two of the same second and the same frames would have the same name.
    let two = records(|| {
        assert_eq!(calls("here"), 1);
        assert!(std::thread::spawn(|| panic!("elsewhere")).join().is_err());
    });
    assert_eq!(two, (2, 0));
}

/// Nobody may unwind through it: std panics a second time, and aborts in the frame that called the hook.
extern "C" fn wall() {
    panic!("against the wall");
}

fn aborts() {
    count();
    let (records, status) = records(|| wall());
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:#x}");
    assert_eq!(records, 2, "one for each panic, none for the abort");
}

fn aborts_later() {
    count();
    let (records, status) = records(|| {
        assert_eq!(calls("caught"), 1);
        std::process::abort();
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:#x}");
    assert_eq!(records, 2);
}
