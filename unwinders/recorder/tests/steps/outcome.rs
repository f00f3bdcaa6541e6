//! What must be there after a run.

use crate::memory::{Event, Field, Memory, Thread};
use crate::runs::{Case, Wrote};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What was found, and how it came about.
pub struct Outcome<'a> {
    pub case: &'a Case,
    /// How often a handler has done what it does, all of it.
    pub handled: usize,
    pub status: ExitStatus,
    pub memory: &'a Memory,
    pub threads: Vec<Thread>,
}

fn must(holds: bool, sentence: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(sentence) }
}

fn text(text: &str) -> Field {
    Field::Text(text.to_owned(), text.len() as u64)
}

impl<'a> Outcome<'a> {
    /// What a process has left in memory.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn read(case: &'a Case, handled: usize, status: ExitStatus, memory: &'a Memory) -> Result<Self, String> {
        Ok(Self { case, handled, status, memory, threads: memory.threads()? })
    }

    /// Whether something was taken and not committed.
    pub fn is_open(&self) -> bool {
        self.threads.iter().any(|thread| thread.open > 0)
    }

    /// What does not hold, and what there is instead.
    pub fn check(&self) -> Result<(), String> {
        self.all_that_must_be().map_err(|sentence| {
            let said = self.threads.iter().map(|thread| {
                let names: Vec<&str> = thread.events.iter().rev().take(4).map(|event| &*event.name).collect();
                format!("slot of {}: {names:?}, {} open", thread.slot.tid, thread.open)
            });
            let said: Vec<String> = said.collect();
            format!("{sentence}; {} handled; {said:?}, {:?}", self.handled, self.memory.counters())
        })
    }

    fn all_that_must_be(&self) -> Result<(), &'static str> {
        let killed = self.status.signal() == Some(libc::SIGKILL);
        must(killed || self.status.success(), "it ends, or is killed")?;
        self.nobody_is_refused()?;
        self.what_was_before_is_there()?;
        must(self.events().all(is_whole), "each event that is shown is whole")?;
        match (self.case.wrote, killed) {
            (Wrote::Event, true) => self.only_open_events_are_missing(),
            (Wrote::Event, false) => self.all_events_are_there(),
            (Wrote::Annotation(key), _) => self.the_value_is_one_of_those(key, killed),
        }
    }

    fn nobody_is_refused(&self) -> Result<(), &'static str> {
        must(self.threads.iter().all(|thread| thread.holes == 0), "there are no holes")?;
        let refused = |thread: &Thread| thread.slot.refused + thread.slot.dropped + thread.slot.left;
        must(self.threads.iter().all(|thread| refused(thread) == 0), "nobody is refused")?;
        let counters = self.memory.counters();
        must(counters.undescribed + counters.annotations_lost == 0, "there is room for each description and each key")?;
        must(self.case.threads == 2 || counters.unplaced == 0, "there is a slot for each event")
    }

    fn what_was_before_is_there(&self) -> Result<(), &'static str> {
        let numbers: Vec<u64> = self.events().filter(|event| event.name == "before").map(number).collect();
        must(numbers.last() == Some(&(self.case.earlier - 1)), "the last event from before is there")?;
        must(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "those before it are there one after the other")?;
        must(self.memory.value("other") == Some(Field::Number(4711)), "another annotation is as it was")
    }

    fn only_open_events_are_missing(&self) -> Result<(), &'static str> {
        let open = self.is_open();
        must(self.count("stepped") <= 1, "the open event is there once at most")?;
        must(self.count("after") == 0, "nothing comes afterwards")?;
        let all = self.count("handled") + self.unplaced() >= self.handled;
        // What was written after the other one had committed is committed by it, too.
        must(all || open, "what handlers wrote is missing only where what they interrupted is open")
    }

    fn all_events_are_there(&self) -> Result<(), &'static str> {
        must(self.threads.iter().all(|thread| thread.open == 0), "nothing is open at the end")?;
        must(self.count("stepped") == 1, "what was interrupted is there")?;
        must(self.count("handled") + self.unplaced() == self.handled, "what handlers wrote is there, or counted")?;
        must(self.count("after") == 1, "what comes afterwards is there")
    }

    fn the_value_is_one_of_those(&self, key: &str, killed: bool) -> Result<(), &'static str> {
        let (old, all) = match key {
            "state" => (Some(text("before")), [text("a value that takes several words to write"), text("handled")]),
            _ => (None, [Field::Number(99), Field::Number(98)]),
        };
        let value = self.memory.value(key);
        let new = value.as_ref().is_some_and(|value| all.contains(value));
        must(new || value == old, "a value is whole")?;
        must(new || killed && self.handled == 0, "a value that was written is there")
    }

    /// Events for which there was no slot: one that was being taken.
    fn unplaced(&self) -> usize {
        self.memory.counters().unplaced as usize
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.threads.iter().flat_map(|thread| &thread.events)
    }

    fn count(&self, name: &str) -> usize {
        let counts = |event: &&Event| event.name == name && (name == "after" || number(event) == 1);
        self.events().filter(counts).count()
    }
}

/// The first field, of the events that begin with a number.
fn number(event: &Event) -> u64 {
    match event.fields.first() {
        Some(Field::Number(number)) => *number,
        _ => u64::MAX,
    }
}

/// Whether an event has the fields that it was written with.
fn is_whole(event: &Event) -> bool {
    let fields = event.fields.get(1..).unwrap_or_default();
    match (&*event.name, fields.len()) {
        ("before", _) => fields == [Field::Number(number(event) * 2), Field::Number(number(event) * 3)],
        ("stepped", 2) => fields == [Field::Signed(-2), Field::Float(0.5)],
        ("stepped", _) => fields == [text(crate::cases::LONG)],
        ("handled", _) => fields == [text("handled")],
        ("after", _) => event.fields.is_empty(),
        _ => false,
    }
}
