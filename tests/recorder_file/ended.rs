//! Recorders of processes that ended in the middle of something, and files that say what cannot be.

use crate::{killed, stdout, temporary, text};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use surestack::recorder::{FieldValue, Recording, Source};
use surestack_recorder::layout::{annotation, header, slot, state, sum};

pub const TESTS: [(&str, fn()); 6] = [
    ("whole_events_that_were_not_committed_are_shown_of_a_process_that_has_ended", uncommitted_events_are_shown),
    ("a_slot_that_is_being_taken_over_is_no_damage", a_slot_that_is_being_taken_over_is_no_damage),
    ("of_two_annotations_with_one_key_the_first_from_where_it_belongs_is_shown", one_annotation_of_a_key_is_shown),
    ("of_words_that_nothing_explains_no_more_are_shown_than_an_event_has_fields", few_words_are_shown),
    ("letters_that_change_the_direction_of_others_are_escaped", letters_that_change_direction_are_escaped),
    ("following_ends_where_the_header_does_not_say_when_its_process_began", following_a_process_of_no_time_ends),
];

fn put(bytes: &mut [u8], at: u64, value: u64) {
    bytes[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
}

/// What a process writes that is there still.
struct Written(Vec<u8>);

impl Source for Written {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        self.0.as_slice().read(offset, into)
    }

    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn has_ended(&self, _process: u32, _started: Option<u64>) -> bool {
        false
    }
}

fn uncommitted_events_are_shown() {
    let path = killed("uncommitted");
    let (mut bytes, expected) = (fs::read(&path).unwrap(), Recording::open(&path).unwrap());
    let (header, events) = (&expected.header, &expected.threads[1].events);
    // The first event was never finished, and nothing was committed.
    let size = events[1].position - events[0].position;
    let at = header.page(1, events[0].position).unwrap() + events[0].position % 4096;
    put(&mut bytes, at, 0);
    put(&mut bytes, header.slot(1).unwrap() + slot::COMMIT as u64, events[0].position);
    fs::write(&path, &bytes).unwrap();
    let found = Recording::open(&path).unwrap();
    let mut last = events[1].clone();
    last.uncommitted = true;
    assert_eq!((&found.threads[1].events, found.threads[1].open), (&vec![last], size));
    assert_eq!((found.threads[1].holes, &found.threads[0]), (0, &expected.threads[0]));
    assert_eq!(found.damage, [""; 0]);
    let printed = stdout(&crate::surestack(&[text(&path)]));
    assert!(printed.contains("  odd  (not committed)  text="), "{printed}");
    let output = crate::surestack(&["--json", text(&path)]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["events"][1]["name"], &document["events"][1]["uncommitted"]), (&"odd".into(), &true.into()));
    let output = stdout(&crate::surestack(&["--follow", text(&path)]));
    assert_eq!(output.matches("(not committed)").count(), 1, "{output}");

    let found = Recording::read(&Written(bytes)).unwrap();
    assert_eq!((found.threads[1].events.len(), found.threads[1].open > size), (0, true));
}

fn a_slot_that_is_being_taken_over_is_no_damage() {
    let path = killed("claimed");
    let (mut bytes, expected) = (fs::read(&path).unwrap(), Recording::open(&path).unwrap());
    let at = expected.header.slot(1).unwrap();
    put(&mut bytes, at + slot::STATE as u64, state::CLAIMED);
    put(&mut bytes, at + slot::RESERVE as u64, 0);
    let found = Recording::read(&bytes.as_slice()).unwrap();
    assert_eq!((found.threads.len(), found.damage), (1, Vec::new()));
}

fn one_annotation_of_a_key_is_shown() {
    let path = killed("keys");
    let bytes = fs::read(&path).unwrap();
    let header = Recording::open(&path).unwrap().header;
    let place = |index: usize| header.annotation(index as u64 % header.annotation_slots).unwrap() as usize;
    let has_key = |index: &usize| bytes[place(*index) + annotation::KEY..].starts_with(b"connections\0");
    let first = (0..8).find(has_key).unwrap();
    let second = (first..first + 8).find(|index| bytes[place(*index)] == 0).unwrap();
    let whole = bytes[place(first)..][..annotation::SIZE].to_vec();
    // As it was before its newest value, and before any.
    let cells = |from: usize| {
        let mut slot = whole.clone();
        slot[annotation::CELLS + from * annotation::CELL..].fill(0);
        slot
    };
    for (one, other, expected) in [(&whole, &cells(1), 18), (&cells(1), &whole, 17), (&cells(0), &cells(1), 17)] {
        let mut bytes = bytes.clone();
        bytes[place(first)..][..annotation::SIZE].copy_from_slice(one);
        bytes[place(second)..][..annotation::SIZE].copy_from_slice(other);
        let found = Recording::read(&bytes.as_slice()).unwrap().annotations;
        let values: Vec<_> =
            found.iter().filter(|found| found.key == "connections").map(|found| &found.value).collect();
        assert_eq!(values, [&Some(FieldValue::Signed(expected))]);
    }
}

fn few_words_are_shown() {
    let path = killed("words");
    let mut bytes = fs::read(&path).unwrap();
    let header = Recording::open(&path).unwrap().header;
    bytes[header.sites as usize..][..header.sites_size as usize].fill(0);
    let found = Recording::read(&bytes.as_slice()).unwrap();
    let [slow, odd] = &*found.threads[1].events else { panic!("{:?}", found.threads[1]) };
    assert_eq!((odd.fields.len(), &*odd.fields[11].0), (12, "word11"));
    assert!(Arc::ptr_eq(&slow.fields[0].0, &odd.fields[0].0) && Arc::ptr_eq(&slow.file, &odd.target));
}

fn letters_that_change_direction_are_escaped() {
    for letter in ['\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'] {
        let value = FieldValue::Text { text: format!("a{letter}ü"), length: 6 };
        assert_eq!(value.to_string(), format!("\"a\\u{{{:x}}}ü\"", u32::from(letter)));
    }
}

/// Whether following a file ends by itself.
fn ends(path: &Path) -> bool {
    let mut follow = Command::new(env!("CARGO_BIN_EXE_surestack"));
    let mut follow = follow.args(["recorder", "--follow", text(path)]).stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let has_ended = loop {
        if follow.try_wait().unwrap().is_some() {
            break true;
        }
        if began.elapsed() > Duration::from_secs(10) {
            break false;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let _ = follow.kill();
    let _ = follow.wait();
    has_ended
}

fn following_a_process_of_no_time_ends() {
    let path = temporary::path("no-time");
    let mut bytes = fs::read(killed("a-time")).unwrap();
    for copy in header::COPIES {
        put(&mut bytes, (copy + header::PROCESS) as u64, u64::from(std::process::id()));
        put(&mut bytes, (copy + header::PROCESS_STARTED) as u64, 0);
        let found = sum(&bytes[copy..copy + header::SUM]);
        put(&mut bytes, (copy + header::SUM) as u64, found);
    }
    fs::write(&path, bytes).unwrap();
    assert!(ends(&path));
}
