//! Recorders that are still written.

use crate::child::Program;
use crate::{killed, stdout, surestack, temporary, text};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use surestack::recorder::{Recording, Source};
use surestack_recorder::layout::slot;

pub const TESTS: [(&str, fn()); 8] = [
    ("events_are_followed_in_their_order_until_the_program_ends", events_are_followed_in_their_order),
    ("what_was_overwritten_before_it_was_read_is_counted_and_nothing_is_torn", nothing_torn_is_followed),
    ("a_reader_beside_the_writer_sees_whole_events_only", a_reader_beside_the_writer_sees_whole_events),
    ("a_recorder_is_found_by_the_process_that_has_it", a_recorder_is_found_by_its_process),
    ("what_is_overwritten_while_it_is_read_is_not_shown", what_is_overwritten_while_it_is_read_is_not_shown),
    ("a_slot_taken_over_while_it_is_read_is_the_new_threads", a_slot_taken_over_while_it_is_read),
    ("a_slot_that_is_written_while_it_is_copied_is_copied_again", a_slot_that_is_written_while_it_is_copied),
    ("a_full_ring_that_keeps_what_it_has_counts_what_it_drops", drops_are_counted),
];

/// Follows a program for so long, which then ends. Gives the lines.
fn followed(what: &str, path: &Path, time: Duration) -> Vec<Value> {
    let program = Program::start(what, path);
    let mut follow = Command::new(env!("CARGO_BIN_EXE_surestack"));
    let arguments = ["recorder", "--follow", "--json", "--last", "10", text(path)];
    let follow = follow.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    thread::sleep(time);
    program.end();
    let output = follow.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers that a thread said, after each was seen to be whole.
fn said(lines: &[Value]) -> HashMap<String, Vec<u64>> {
    let mut all = HashMap::<String, Vec<u64>>::new();
    for event in lines.iter().map(|line| line.get("event").unwrap_or(line)).filter(|event| event["name"] == "said") {
        let fields = &event["fields"];
        let index = fields["index"].as_u64().unwrap();
        assert_eq!(fields["again"].as_u64(), Some(!index), "{event}");
        assert_eq!(fields["text"], "abcdefghijklmnopqrstuvwxyz".repeat((index % 7) as usize), "{event}");
        all.entry(event["thread_name"].as_str().unwrap().to_owned()).or_default().push(index);
    }
    all
}

fn events_are_followed_in_their_order() {
    let lines = followed("talks", &temporary::path("followed"), Duration::from_millis(1500));
    let times: Vec<_> = lines.iter().filter_map(|line| line["event"]["monotonic_ns"].as_u64()).collect();
    assert!(times.is_sorted() && times.len() > 100, "{} events", times.len());
    let said = said(&lines);
    assert_eq!(said.len(), 2);
    for (name, numbers) in said {
        let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "{name}");
    }
    assert_eq!(lines[0]["begin"]["schema_version"], surestack::recorder::json::SCHEMA_VERSION);
    assert!(lines.last().unwrap()["end"]["losses"].is_object());
}

fn nothing_torn_is_followed() {
    let lines = followed("shouts", &temporary::path("shouted"), Duration::from_millis(1500));
    let missed: u64 = lines.iter().filter_map(|line| line["missed"]["about_events"].as_u64()).sum();
    let said = said(&lines);
    let (mut seen, mut gone) = (0, 0);
    for (name, numbers) in &said {
        assert!(numbers.is_sorted_by(|one, other| one < other), "{name}");
        seen += numbers.len() as u64;
        gone += numbers.last().unwrap() - numbers[0] + 1 - numbers.len() as u64;
    }
    assert!(seen > 100 && gone > 0, "{seen} seen, {gone} gone");
    // It is an estimate, by the size of those that were read.
    assert!(missed > gone / 2 && missed < gone * 2 + 1000, "{gone} gone, {missed} said");
}

fn a_reader_beside_the_writer_sees_whole_events() {
    let path = temporary::path("beside");
    let program = Program::start("shouts", &path);
    for _ in 0..30 {
        let output = surestack(&["--json", text(&path)]);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (name, numbers) in said(document["events"].as_array().unwrap()) {
            assert!(numbers.is_sorted_by(|one, other| one < other), "{name}: {numbers:?}");
        }
    }
    program.end();
}

fn a_recorder_is_found_by_its_process() {
    for path in [temporary::path("by-pid"), "memory".into()] {
        let program = Program::start("drops", &path);
        let pid = program.child.id().to_string();
        let output = surestack(&["--pid", &pid, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["recorder"]["process"].to_string(), pid);
        assert!(document["events"].as_array().unwrap().len() > 100);
        program.end();
    }
    let none = surestack(&["--pid", &std::process::id().to_string()]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(none.status.code() == Some(3) && said.contains("it has none mapped"), "{said}");
}

fn drops_are_counted() {
    let path = temporary::path("drops");
    let program = Program::start("drops", &path);
    let output = surestack(&["--json", text(&path)]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let events = document["events"].as_array().unwrap();
    let kept = events.iter().map(|event| event["fields"]["index"].as_u64().unwrap());
    assert!(kept.eq(0..events.len() as u64), "the first are kept");
    assert_eq!(document["losses"]["dropped"].as_u64(), Some(2000 - events.len() as u64));
    let printed = stdout(&surestack(&[text(&path)]));
    assert!(printed.contains(" events dropped: the ring of their thread was full"), "{printed}");
    program.end();
}

/// A recorder whose first slot becomes another once its ring was looked at.
struct Written {
    bytes: RefCell<Vec<u8>>,
    ring: u64,
    slot: usize,
    then: Vec<(usize, u64)>,
}

impl Written {
    fn new(name: &str, then: impl Fn(u64) -> Vec<(usize, u64)>) -> Self {
        let path = killed(name);
        let header = Recording::open(&path).unwrap().header;
        let (ring, slot) = (header.page(0, 0).unwrap(), header.slot(0).unwrap() as usize);
        Self { bytes: RefCell::new(std::fs::read(path).unwrap()), ring, slot, then: then(header.ring_size) }
    }
}

impl Source for Written {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let read = self.bytes.borrow().as_slice().read(offset, into);
        if offset == self.ring {
            for (word, value) in &self.then {
                self.bytes.borrow_mut()[self.slot + word..][..8].copy_from_slice(&value.to_le_bytes());
            }
        }
        read
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.borrow().len() as u64)
    }
}

fn what_is_overwritten_while_it_is_read_is_not_shown() {
    let source = Written::new("overwritten", |ring| vec![(slot::RESERVE, ring + 8)]);
    let found = Recording::read(&source).unwrap();
    let thread = &found.threads[0];
    assert_eq!((thread.events.len(), thread.overwritten > 0, found.damage.len()), (0, true, 0));
    assert_eq!(found.threads[1].events.len(), 2);
}

fn a_slot_taken_over_while_it_is_read() {
    let positions = [(slot::BASE, 4096), (slot::RESERVE, 4096), (slot::COMMIT, 4096)];
    let source = Written::new("taken-over", |_| [&positions[..], &[(slot::OWNER, 7 << 32 | 9)]].concat());
    let found = Recording::read(&source).unwrap();
    let thread = &found.threads[0];
    assert_eq!((thread.pid, thread.tid, thread.events.len(), found.damage.len()), (7, 9, 0, 0));
}

/// A recorder whose first slot was copied once while its thread wrote: from before and from after.
struct Torn {
    bytes: Vec<u8>,
    slot: u64,
    copies: Cell<usize>,
}

impl Source for Torn {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let read = self.bytes.as_slice().read(offset, into);
        if offset == self.slot && self.copies.replace(self.copies.get() + 1) == 0 {
            into.copy_within(slot::BASE..slot::BASE + 8, slot::RESERVE);
        }
        read
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
}

fn a_slot_that_is_written_while_it_is_copied() {
    let path = killed("torn");
    let slot = Recording::open(&path).unwrap().header.slot(0).unwrap();
    let source = Torn { bytes: std::fs::read(path).unwrap(), slot, copies: Cell::new(0) };
    let found = Recording::read(&source).unwrap();
    assert!(source.copies.get() > 1 && !found.threads[0].events.is_empty(), "{:?}", found.threads[0]);
    assert_eq!(found.damage, [""; 0]);
}
