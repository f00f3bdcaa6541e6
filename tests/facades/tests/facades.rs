//! What is said with `tracing` and `log` is in the recorder as it was said.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use surestack::recorder::{self, Event, Options, Recorder, Recording};
use tracing_subscriber::layer::SubscriberExt;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, asked by way of a number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many times `then` allocates.
fn allocations(then: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    then();
    ALLOCATIONS.with(Cell::get) - before
}

/// The recorder of this process.
fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| recorder::start(Options::memory()).unwrap())
}

/// What this thread has written, as `name{level} field=value …`.
fn said() -> Vec<String> {
    let recording = Recording::open(recorder().path()).unwrap();
    assert_eq!((recording.damage.len(), recording.losses.words().len()), (0, 0));
    let line = |event: &Event| {
        let fields = event.fields.iter().map(|(name, value)| format!(" {name}={value}"));
        format!("{}{{{}}}{}", event.name, event.level.unwrap_or_default(), fields.collect::<String>())
    };
    events(&recording).iter().map(line).collect()
}

fn events(recording: &Recording) -> Vec<Event> {
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let own: u32 = own.file_name().and_then(|tid| tid.to_str()).unwrap().parse().unwrap();
    recording.threads.iter().find(|thread| thread.tid == own).map(|thread| thread.events.clone()).unwrap_or_default()
}

/// With our layer, on this thread.
fn traced(then: impl FnOnce()) {
    recorder();
    let subscriber = tracing_subscriber::registry().with(recorder::tracing::Layer);
    tracing::subscriber::with_default(subscriber, then);
}

#[test]
fn an_event_of_tracing_keeps_its_level_its_place_and_the_types_of_its_fields() {
    traced(|| {
        tracing::warn!(target: "cache", key = 42_u64, delta = -1, rate = 0.5, hit = false, path = "/index", "miss {}", 7);
        tracing::event!(name: "named", tracing::Level::TRACE, peer = ?Some(1), shown = %"as it is");
        tracing::error!(error = &std::fmt::Error as &dyn std::error::Error);
    });
    assert_eq!(
        said(),
        [
            "event{warn} message=\"miss 7\" key=42 delta=-1 rate=0.5 hit=false path=\"/index\"",
            "named{trace} peer=\"Some(1)\" shown=\"as it is\"",
            "event{error} error=\"an error occurred when formatting an argument\"",
        ]
    );
    let first = &events(&Recording::open(recorder().path()).unwrap())[0];
    assert_eq!((&*first.target, &*first.file), ("cache", file!()));
    assert!((70..90).contains(&first.line), "{}", first.line);
}

#[test]
fn a_span_is_opened_entered_left_and_closed_under_its_number() {
    traced(|| {
        let span = tracing::info_span!("request", id = 7, status = tracing::field::Empty);
        span.in_scope(|| tracing::debug!("inside"));
        span.record("status", 200);
    });
    let said = said();
    let number = said[0].split_once("span=").and_then(|(_, rest)| rest.split(' ').next()).unwrap();
    let expected = [
        "open request{info} span=# id=7",
        "enter request{info} span=#",
        "event{debug} message=\"inside\"",
        "exit request{info} span=#",
        "record request{info} span=# status=200",
        "close request{info} span=#",
    ];
    assert_eq!(said, expected.map(|line| line.replace('#', number)));
}

#[test]
fn fields_that_an_event_leaves_out_are_not_there_and_of_many_the_first_twelve_are() {
    traced(|| {
        for found in [Some(1), None, Some(3)] {
            tracing::info!(before = true, found, after = "x");
        }
        tracing::info!(a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i = 9, j = 10, k = 11, l = 12, m = 13);
        tracing::info!(long = "ä".repeat(2000), behind = 1);
    });
    let said = said();
    assert_eq!(
        said[..4],
        [
            "event{info} before=true found=1 after=\"x\"",
            "event{info} before=true after=\"x\"",
            "event{info} before=true found=3 after=\"x\"",
            "event{info} a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 i=9 j=10 k=11 l=12",
        ]
    );
    assert!(said[4].starts_with("event{info} long=\"ää") && said[4].ends_with("ä\" behind=1"), "{}", said[4]);
}

#[test]
fn what_is_logged_is_kept_with_its_level_target_and_place() {
    recorder();
    recorder::log::Sink.install(log::LevelFilter::Debug).unwrap();
    log::warn!(target: "net", "{} connections left", 3);
    log::trace!("not asked for");
    log::debug!("{}", "long ".repeat(300));
    let said = said();
    let place = format!("target=\"net\" file=\"{}\" line=", file!());
    assert!(said[0].starts_with(&format!("log{{warn}} message=\"3 connections left\" {place}")), "{}", said[0]);
    assert!(said[1].starts_with("log{debug} message=\"long long"), "{}", said[1]);
    assert!(said[1].contains(" target=\"facades\" file="), "{}", said[1]);
    assert_eq!(said.len(), 2);
}

#[test]
fn after_the_first_time_neither_allocates() {
    traced(|| {
        let say = |number: u64| {
            tracing::info!(number, text = "text", debug = ?number, "and {number} formatted");
            let mut record = log::Record::builder();
            let sink = recorder::log::Sink;
            log::Log::log(&sink, &record.args(format_args!("{number} logged")).level(log::Level::Info).build());
        };
        say(0);
        assert_eq!(allocations(|| (1..1000).for_each(say)), 0);
    });
    let last = said().pop().unwrap();
    assert!(last.starts_with("log{info} message=\"999 logged\""), "{last}");
}
