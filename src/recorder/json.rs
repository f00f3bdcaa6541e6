//! A recorder as JSON.
//!
//! Addresses are strings of hexadecimal digits, numbers that JSON has none for (infinities) strings, and nothing is written
//! as zero for "not known": it is null.
//!
//! ```text
//! document   schema_version  recorder {..}  annotations [{key value cut}]  threads [{..}]  events [EVENT]  losses {..}  damage [..]
//! EVENT      time  monotonic_ns  process  thread_id  thread_name  level  name  target  file  line  fields {..}  cut {..}  uncommitted
//! followed   a line each: {begin}, then {event} and {missed} as they come, then {end}
//! ```

use super::text::{Wall, wall};
use super::{Annotation, Event, FieldValue, Followed, Header, Losses, Recording, ThreadEvents};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};
use std::sync::Arc;
use surestack_recorder::layout::mode;

/// Version of the shape: the first number changes when something is taken away or means something else.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// The whole as one document, with these of its events.
pub fn document<'r>(recording: &'r Recording, shown: &[(&'r ThreadEvents, &'r Event)]) -> impl Serialize + use<'r> {
    #[derive(Serialize)]
    struct Document<'r> {
        schema_version: &'static str,
        recorder: Value,
        annotations: Vec<Value>,
        threads: Vec<Value>,
        events: Vec<Line<'r>>,
        losses: Losses,
        damage: &'r [String],
    }
    let header = &recording.header;
    Document {
        schema_version: SCHEMA_VERSION,
        recorder: head(header),
        annotations: recording.annotations.iter().map(annotation).collect(),
        threads: recording.threads.iter().map(thread).collect(),
        events: shown.iter().map(|(thread, event)| Line::of(header, thread, event)).collect(),
        losses: recording.losses,
        damage: &recording.damage,
    }
}

/// What is said first of a recorder that is followed.
pub fn begin(header: &Header) -> Value {
    json!({ "begin": { "schema_version": SCHEMA_VERSION, "recorder": head(header) } })
}

/// What came, as one line.
pub fn followed(header: &Header, what: &Followed) -> Value {
    match what {
        Followed::Event(thread, event) => json!({ "event": Line::of(header, thread, event) }),
        Followed::Missed(thread, bytes, about) => {
            json!({ "missed": { "thread_id": thread.tid, "bytes": bytes, "about_events": about } })
        }
    }
}

/// What is said last of a recorder that was followed.
pub fn end(losses: &Losses, damage: &[String]) -> Value {
    json!({ "end": { "losses": losses, "damage": damage } })
}

fn head(header: &Header) -> Value {
    json!({
        "program": header.program(),
        "process": header.process,
        "began": Wall(header.realtime).to_string(),
        "began_monotonic_ns": header.monotonic,
        "identity": format!("{:#018x}", header.identity),
        "when_full": if header.mode == mode::OVERWRITE { "overwrite" } else { "drop_newest" },
        "ring_bytes": header.ring_size,
        "thread_slots": header.thread_slots,
    })
}

fn annotation(annotation: &Annotation) -> Value {
    let value = annotation.value.as_ref();
    json!({ "key": annotation.key, "value": value.map(Plain), "cut": value.and_then(FieldValue::cut) })
}

fn thread(thread: &ThreadEvents) -> Value {
    json!({
        "slot": thread.slot,
        "process": thread.pid,
        "thread_id": thread.tid,
        "thread_name": thread.name,
        "events": thread.events.len(),
        "dropped": thread.dropped,
        "refused": thread.refused,
        "left": thread.left,
        "open_bytes": thread.open,
        "overwritten_bytes": thread.overwritten,
        "no_record_bytes": thread.holes,
        "missing_bytes": thread.missing,
    })
}

/// An event.
#[derive(Serialize)]
struct Line<'r> {
    time: String,
    monotonic_ns: u64,
    process: u32,
    thread_id: u32,
    thread_name: Option<&'r str>,
    level: Option<&'static str>,
    name: &'r str,
    target: Option<&'r str>,
    file: Option<&'r str>,
    line: Option<u32>,
    fields: Fields<'r>,
    /// There where it is true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    uncommitted: bool,
    /// By field: how many bytes of its text were cut off.
    #[serde(skip_serializing_if = "Cut::is_nothing")]
    cut: Cut<'r>,
}

impl<'r> Line<'r> {
    fn of(header: &Header, thread: &'r ThreadEvents, event: &'r Event) -> Self {
        let known = |text: &'r Arc<str>| Some(&**text).filter(|text| !text.is_empty());
        let file = known(&event.file);
        Self {
            time: Wall(wall(header, event.time)).to_string(),
            monotonic_ns: event.time,
            process: thread.pid,
            thread_id: thread.tid,
            thread_name: thread.name.as_deref(),
            level: event.level,
            name: &event.name,
            target: known(&event.target),
            file,
            line: file.map(|_| event.line),
            fields: Fields(&event.fields),
            uncommitted: event.uncommitted,
            cut: Cut(&event.fields),
        }
    }
}

struct Fields<'r>(&'r [(Arc<str>, FieldValue)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (&**name, Plain(value))))
    }
}

struct Cut<'r>(&'r [(Arc<str>, FieldValue)]);

impl Cut<'_> {
    fn is_nothing(&self) -> bool {
        self.0.iter().all(|(_, value)| value.cut().is_none())
    }
}

impl Serialize for Cut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, cut) in self.0.iter().filter_map(|(name, value)| Some((name, value.cut()?))) {
            map.serialize_entry(&**name, &cut)?;
        }
        map.end()
    }
}

/// A value as JSON has it.
struct Plain<'r>(&'r FieldValue);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            FieldValue::Unsigned(value) => serializer.serialize_u64(*value),
            FieldValue::Signed(value) => serializer.serialize_i64(*value),
            FieldValue::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            FieldValue::Float(value) => serializer.collect_str(value),
            FieldValue::Bool(value) => serializer.serialize_bool(*value),
            FieldValue::Address(value) => serializer.collect_str(&format_args!("{value:#x}")),
            FieldValue::Text { text, .. } => serializer.serialize_str(text),
        }
    }
}
