//! What is stepped, and what must be there afterwards.

use crate::runs::{Case, Thread, Wrote};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use surestack_recorder::{Field, Site, annotate, write};

/// Writes an event. What becomes of it is counted there.
macro_rules! event {
    ($name:literal $(, $field:ident = $value:expr)*) => {{
        static SITE: Site = Site::new($name, module_path!(), file!(), line!(), 3, &[$(stringify!($field)),*]);
        let _ = write(&SITE, &[$($value.value()),*]);
    }};
}

/// So many records of three numbers, five words each, fill a page but for less than one.
const PAGEFUL: u64 = 512 / 5;

pub const LONG: &str = "a text that is longer than one word, and of no whole number of them";

fn before(count: u64) {
    (0..count).for_each(|number| event!("before", number = number, twice = number * 2, thrice = number * 3));
    annotate("state", "before").unwrap();
    annotate("other", 4711_u64).unwrap();
}

/// Which events count: those of round 1. Before it, descriptions are made.
static ROUND: AtomicU64 = AtomicU64::new(1);

fn numbers() {
    event!("stepped", round = ROUND.load(Relaxed), minus = black_box(-2_i64), half = black_box(0.5));
}

fn text() {
    event!("stepped", round = ROUND.load(Relaxed), text = black_box(LONG));
}

fn handled() {
    event!("handled", round = ROUND.load(Relaxed), text = black_box("handled"));
}

fn state() {
    let _ = annotate("state", black_box("a value that takes several words to write"));
}

fn key() {
    let _ = annotate("new", black_box(99_u64));
}

fn handled_state() {
    let _ = annotate("state", black_box("handled"));
}

fn handled_key() {
    let _ = annotate("new", black_box(98_u64));
}

/// As above, and descriptions are there from now on.
fn described(count: u64) {
    ROUND.store(0, Relaxed);
    numbers();
    text();
    handled();
    ROUND.store(1, Relaxed);
    before(count);
}

const PLAIN: Case = Case {
    name: "an event of three numbers",
    threads: 4,
    earlier: 5,
    before: described,
    what: numbers,
    thread: Thread::Main,
    handle: handled,
    wrote: Wrote::Event,
    after: || event!("after"),
};

/// All of them.
pub static CASES: [Case; 9] = [
    PLAIN,
    Case { name: "an event with text", what: text, ..PLAIN },
    Case { name: "the first event of a place in the code", before, ..PLAIN },
    Case { name: "the first event of a thread", what: text, thread: Thread::New, before, ..PLAIN },
    Case {
        name: "the first event of a thread that takes the last slot",
        threads: 2,
        what: text,
        thread: Thread::New,
        before,
        ..PLAIN
    },
    Case {
        name: "an event across the edge of a page",
        // Those and these fill the page but for less than one more.
        earlier: PAGEFUL - 5,
        ..PLAIN
    },
    Case { name: "an event that overwrites a page", earlier: 8 * PAGEFUL - 5, ..PLAIN },
    Case { name: "an annotation", what: state, handle: handled_state, wrote: Wrote::Annotation("state"), ..PLAIN },
    Case {
        name: "the first annotation with a key",
        what: key,
        handle: handled_key,
        wrote: Wrote::Annotation("new"),
        ..PLAIN
    },
];
