//! Events as they are read.

use std::fmt;
use std::sync::Arc;
use surestack_recorder::Value;
use surestack_recorder::decode::Seen;

/// What a thread wrote, and what became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadEvents {
    /// Which slot it has: where threads and processes have the same numbers, what tells them apart.
    pub slot: u64,
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
    /// Its name when it first wrote.
    pub name: Option<String>,
    /// When that was, in nanoseconds of the monotonic clock.
    pub began: u64,
    /// Its events, oldest first; once its process has ended also those that are whole and were not committed.
    pub events: Vec<Event>,
    /// Events dropped because the ring was full.
    pub dropped: u64,
    /// Events refused because of nesting.
    pub refused: u64,
    /// Writers that never ended, because a handler that had interrupted them jumped elsewhere.
    pub left: u64,
    /// Bytes that were taken and never committed: of events in the middle of which it is, or was when it ended. Whole ones
    /// among those that are shown do not count.
    pub open: u64,
    /// Bytes that are gone for newer ones.
    pub overwritten: u64,
    /// Bytes that are no record: of writers that were left, or damaged.
    pub holes: u64,
    /// Bytes that the source does not have.
    pub missing: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, in nanoseconds of the monotonic clock.
    pub time: u64,
    /// Where it lies in its thread's ring: positions only grow.
    pub position: u64,
    /// Whether its thread, which has ended, had not committed it: mostly it is of a handler that interrupted another event, and
    /// that one was never finished.
    pub uncommitted: bool,
    /// What.
    pub name: Arc<str>,
    /// In which part of the program.
    pub target: Arc<str>,
    /// In which file of its source; empty where that is not known.
    pub file: Arc<str>,
    /// In which line.
    pub line: u32,
    /// How important: `error`, `warn`, `info`, `debug`, `trace`.
    pub level: Option<&'static str>,
    /// Names and values.
    pub fields: Vec<(Arc<str>, FieldValue)>,
}

/// What a field or an annotation says.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A number without a sign.
    Unsigned(u64),
    /// A number with a sign.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// An address.
    Address(u64),
    /// Text, or its beginning.
    Text {
        /// What was kept of it.
        text: String,
        /// Bytes of the whole.
        length: u64,
    },
}

impl FieldValue {
    pub(super) fn of(seen: &Seen<'_>) -> Self {
        match seen.value {
            Value::Unsigned(value) => Self::Unsigned(value),
            Value::Signed(value) => Self::Signed(value),
            Value::Float(value) => Self::Float(value),
            Value::Bool(value) => Self::Bool(value),
            Value::Address(value) => Self::Address(value),
            Value::Text(text) => Self::Text { text: text.to_owned(), length: seen.length },
        }
    }

    /// How many bytes of a text were cut off.
    pub fn cut(&self) -> Option<u64> {
        let Self::Text { text, length } = self else { return None };
        length.checked_sub(text.len() as u64).filter(|cut| *cut > 0)
    }
}

/// Text in quotes, what would move the cursor escaped, and how much of it is cut off.
impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Address(value) => write!(f, "{value:#x}"),
            Self::Text { text, .. } => {
                let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{}\"", super::text::printable(&quoted))?;
                self.cut().map_or(Ok(()), |cut| write!(f, "+{cut}"))
            }
        }
    }
}

/// The events of several threads, oldest first.
pub fn merged(threads: &[ThreadEvents]) -> Vec<(&ThreadEvents, &Event)> {
    let each = threads.iter().flat_map(|thread| thread.events.iter().map(move |event| (thread, event)));
    let mut all: Vec<_> = each.collect();
    all.sort_by_key(|(thread, event)| (event.time, thread.slot, event.position));
    all
}
