//! The sites of what `tracing` registers: found by address, without a lock.
//!
//! Who writes: whoever needs a site that is not there yet, by putting it at the head of its list. Who reads: every event, at
//! any time. Nothing is ever changed or taken out, so a list that is walked while it grows is one that was whole a moment ago;
//! two who need the same site at the same time may both put one, and either will do.

use crate::recorder::event::level;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use surestack_recorder::Site;
use surestack_recorder::layout::record::FIELDS;
use tracing_core::{Level, Metadata};

/// What a place in the code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Something happened.
    Event,
    /// A span began.
    Open,
    /// A thread went into a span.
    Enter,
    /// It came out of it.
    Exit,
    /// Fields were added to a span.
    Record,
    /// A span ended.
    Close,
}

/// A place in the code, what it says, and which of its fields are there: a bit for each.
#[derive(Clone, Copy)]
pub struct Place {
    /// What `tracing` knows of it.
    pub metadata: &'static Metadata<'static>,
    /// What it says.
    pub moment: Moment,
    /// Its fields.
    pub fields: u16,
}

struct Known {
    place: Place,
    site: Site,
    next: AtomicPtr<Self>,
}

/// How many lists there are.
const LISTS: usize = 256;
static KNOWN: [AtomicPtr<Known>; LISTS] = [const { AtomicPtr::new(ptr::null_mut()) }; LISTS];

/// Describes what a place in the code can say if it says all.
pub fn register(metadata: &'static Metadata<'static>) {
    let all = (1 << metadata.fields().len().min(FIELDS)) - 1;
    let moments: &[_] = if metadata.is_event() {
        &[(Moment::Event, all)]
    } else {
        &[(Moment::Open, all), (Moment::Enter, 0), (Moment::Exit, 0), (Moment::Close, 0)]
    };
    for &(moment, fields) in moments {
        find(Place { metadata, moment, fields });
    }
}

/// The site of this place; it is made if it is not there.
pub fn find(place: Place) -> &'static Site {
    let address = ptr::from_ref(place.metadata).addr();
    let list = &KNOWN[(address >> 4 ^ address >> 12) % LISTS];
    // Acquire pairs with the Release in `put`: what is in the list is whole.
    let mut known = list.load(Ordering::Acquire);
    // SAFETY: null, or what was put into the list, which lives for ever.
    while let Some(here) = unsafe { known.as_ref() } {
        if here.place.is(&place) {
            return &here.site;
        }
        known = here.next.load(Ordering::Relaxed);
    }
    put(list, place)
}

impl Place {
    fn is(&self, other: &Self) -> bool {
        ptr::eq(self.metadata, other.metadata) && self.moment == other.moment && self.fields == other.fields
    }

    fn site(&self) -> Site {
        let Self { metadata, moment, fields } = *self;
        let all = metadata.fields();
        let there =
            all.iter().filter(|field| fields.checked_shr(field.index() as u32).is_some_and(|bits| bits & 1 != 0));
        let span = (moment != Moment::Event).then_some("span");
        let names: Vec<&'static str> = span.into_iter().chain(there.map(|field| field.name())).collect();
        let name = match moment {
            // What `tracing` calls an event for which no name is given: its place, which is told anyway.
            Moment::Event if metadata.name().starts_with("event ") => "event",
            Moment::Event => metadata.name(),
            Moment::Open => named("open", metadata),
            Moment::Enter => named("enter", metadata),
            Moment::Exit => named("exit", metadata),
            Moment::Record => named("record", metadata),
            Moment::Close => named("close", metadata),
        };
        let (file, line) = (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        Site::new(name, metadata.target(), file, line, number(*metadata.level()), names.leak())
    }
}

#[cold]
fn put(list: &AtomicPtr<Known>, place: Place) -> &'static Site {
    let known: &'static Known = Box::leak(Box::new(Known { site: place.site(), place, next: AtomicPtr::default() }));
    let mut first = list.load(Ordering::Relaxed);
    loop {
        known.next.store(first, Ordering::Relaxed);
        // Release pairs with the Acquire in `find`; Acquire, since what is put in front of may be another thread's.
        let this = ptr::from_ref(known).cast_mut();
        match list.compare_exchange_weak(first, this, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return &known.site,
            Err(other) => first = other,
        }
    }
}

fn named(what: &str, metadata: &Metadata<'_>) -> &'static str {
    format!("{what} {}", metadata.name()).leak()
}

fn number(at: Level) -> u8 {
    match at {
        Level::ERROR => const { level("error") },
        Level::WARN => const { level("warn") },
        Level::INFO => const { level("info") },
        Level::DEBUG => const { level("debug") },
        Level::TRACE => const { level("trace") },
    }
}
