//! Who keeps an event, and how.

use std::collections::VecDeque;
use std::error::Error;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use surestack::recorder::{self, annotate, event};
use tracing_subscriber::layer::SubscriberExt;

/// One of them.
pub struct Contender {
    pub name: &'static str,
    /// How much of the clock it may take.
    pub asked: &'static str,
    /// Keeps the events with these numbers.
    pub work: fn(Range<u64>),
}

const fn contender(name: &'static str, asked: &'static str, work: fn(Range<u64>)) -> Contender {
    Contender { name, asked, work }
}

/// One event after the other.
macro_rules! each {
    ($one:expr) => {
        |calls| calls.for_each($one)
    };
}

/// The clock first: everything is beside it.
pub const CONTENDERS: &[Contender] = &[
    contender("`clock_gettime`, the vDSO's", "", each!(clock)),
    contender("event, two numbers: 32 bytes in the ring", "2.5", each!(two_numbers)),
    contender("event, 32 bytes of fields: four numbers", "2.5", each!(four_numbers)),
    contender("event, 32 bytes of text", "2.5", each!(text)),
    contender("annotation, a number", "1.0", each!(number)),
    contender("annotation, 32 bytes of text", "1.0", each!(words)),
    contender("the same four numbers through the `tracing` layer", "", ours_traced),
    contender("the same four numbers as text through the `log` sink", "", each!(logged)),
    contender("`Mutex<VecDeque>`, the clock and four numbers", "", each!(queue)),
    contender("`tracing-subscriber`'s `fmt` into `/dev/null`", "", formatted),
];

const TEXT: &str = "GET /a/path/of/thirty-two/bytes/";

/// Starts the recorder, in memory.
pub fn prepare() -> Result<(), Box<dyn Error>> {
    assert_eq!(TEXT.len(), 32);
    recorder::start(recorder::Options::memory())?;
    Ok(())
}

fn clock(_: u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel's page writes one structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    black_box(&time);
}

fn two_numbers(call: u64) {
    event!("request", id = call, size = black_box(4711_u64));
}

fn four_numbers(call: u64) {
    event!("request", id = call, size = black_box(4711_u64), from = black_box(-1_i64), took = black_box(0.25_f64));
}

fn text(_: u64) {
    event!("request", path = black_box(TEXT));
}

fn number(call: u64) {
    annotate("request", call);
}

fn words(_: u64) {
    annotate("request path", black_box(TEXT));
}

thread_local! {
    /// A subscriber with our layer, and one that formats; both of this thread, as the other contenders must not see them.
    static OURS: tracing::Dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(recorder::tracing::Layer));
    static FORMATS: tracing::Dispatch = tracing::Dispatch::new(
        tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(null)),
    );
}

/// `/dev/null`, opened once.
fn null() -> impl io::Write {
    static NULL: std::sync::LazyLock<std::fs::File> =
        std::sync::LazyLock::new(|| std::fs::File::create("/dev/null").expect("/dev/null can be opened"));
    &*NULL
}

fn trace(call: u64) {
    tracing::info!(
        id = call,
        size = black_box(4711_u64),
        from = black_box(-1_i64),
        took = black_box(0.25_f64),
        "request"
    );
}

fn ours_traced(calls: Range<u64>) {
    OURS.with(|ours| tracing::dispatcher::with_default(ours, || calls.for_each(trace)));
}

fn formatted(calls: Range<u64>) {
    FORMATS.with(|formats| tracing::dispatcher::with_default(formats, || calls.for_each(trace)));
}

fn logged(call: u64) {
    let [size, from, took] = [black_box(4711_i64), black_box(-1), black_box(25)];
    log::Log::log(
        &recorder::log::Sink,
        &log::Record::builder()
            .level(log::Level::Info)
            .target("bench")
            .file_static(Some(file!()))
            .line(Some(line!()))
            .args(format_args!("request {call} {size} {from} {took}"))
            .build(),
    );
}

/// What a queue keeps.
struct Kept {
    _time: std::time::Instant,
    _name: &'static str,
    _numbers: [u64; 4],
}

fn queue(call: u64) {
    const ROOM: usize = 1024;
    static QUEUE: Mutex<VecDeque<Kept>> = Mutex::new(VecDeque::new());
    let kept = Kept {
        _time: std::time::Instant::now(),
        _name: "request",
        _numbers: [call, black_box(4711), black_box(u64::MAX), black_box(25)],
    };
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    if queue.len() == ROOM {
        queue.pop_front();
    }
    queue.push_back(kept);
}
