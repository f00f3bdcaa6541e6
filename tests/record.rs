//! Records: what is reported of them is what is reported of the process, and of what is left of them the rest.
#![cfg(target_arch = "x86_64")]

mod recorder;
mod schema;
mod temporary;

use recorder::{Running, program, record};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the command.
fn surestack(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_surestack")).args(arguments).output().unwrap()
}

/// A file with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = temporary::path(&format!("{name}.surestack"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn text(path: &Path, more: &[&str]) -> (String, Option<i32>) {
    let output = surestack(&[&["report", path.to_str().unwrap()], more].concat());
    (String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// The report on a record, and the exit code; it obeys the schema.
fn json(path: &Path, more: &[&str]) -> (Value, Option<i32>) {
    let (text, code) = text(path, &[&["--json"], more].concat());
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let breaks = schema::breaks(include_str!("../docs/report.schema.json"), &value);
    assert!(breaks.is_empty(), "{breaks:#?}");
    (value, code)
}

/// What a report says of its threads, without what only a live process tells.
fn threads(report: &Value) -> Vec<String> {
    let told = |thread: &Value| {
        let mut ids = vec![thread["thread_id"].clone()];
        ids.extend(thread["same_stack"].as_array().unwrap().iter().map(|other| other["thread_id"].clone()));
        format!("{ids:?} {} {} {}", thread["frame_count"], thread["verdict"], frames(thread))
    };
    let mut all: Vec<String> = report["threads"].as_array().unwrap().iter().map(told).collect();
    all.sort();
    all
}

fn frames(thread: &Value) -> String {
    let told = |frame: &Value| {
        let mut frame = frame.clone();
        // Where registers were saved is not recorded, and those of the first frame are not printed of a live process.
        let fields = frame.as_object_mut().unwrap();
        fields.remove("registers_saved_at");
        fields
            .remove("registers")
            .filter(|_| fields["frame"] != 0)
            .map(|regs| fields.insert("registers".to_owned(), regs));
        format!("\n{frame}")
    };
    thread["frames"].as_array().unwrap().iter().map(told).collect()
}

#[test]
fn a_record_is_reported_as_the_process_is_that_it_was_made_of() {
    let running = Running::new(program());
    let bytes = record(running.pid(), running.hold().snapshot());
    let process = surestack(&["process", "--json", &running.pid().to_string()]);
    let process: Value = serde_json::from_slice(&process.stdout).unwrap();
    let (report, code) = json(&file("same", &bytes), &[]);
    assert_eq!(threads(&report), threads(&process));
    assert_eq!((code, &report["gaps"]), (Some(0), &serde_json::json!([])));
    let verdicts: Vec<_> = report["threads"].as_array().unwrap().iter().map(|one| &one["verdict"]["verdict"]).collect();
    assert_eq!(verdicts, ["reliable"; 3]);
}
