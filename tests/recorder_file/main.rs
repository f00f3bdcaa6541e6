//! Recorders of real programs, read by `surestack recorder`: after their death, while they run, and damaged.
#![cfg(target_os = "linux")]

mod child;
mod damaged;
mod ended;
mod living;
#[path = "../temporary/mod.rs"]
mod temporary;

use child::Program;
use libtest_mimic::{Arguments, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use surestack::recorder::{FieldValue, Recording};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let [_, child, what, path] = &*words
        && child == "child"
    {
        child::run(what.to_str().unwrap_or_default(), path.as_ref());
        return ExitCode::SUCCESS;
    }
    let here: [(&str, fn()); 4] = [
        ("what_a_killed_program_wrote_is_read_whole", what_a_killed_program_wrote_is_read_whole),
        ("text_says_when_who_what_and_where", text_says_when_who_what_and_where),
        ("json_has_every_value_with_its_type", json_has_every_value_with_its_type),
        ("threads_and_last_events_are_chosen", threads_and_last_events_are_chosen),
    ];
    let all = here.into_iter().chain(damaged::TESTS).chain(ended::TESTS).chain(living::TESTS);
    let trials = all.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// `surestack recorder` with these arguments.
fn surestack(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_surestack")).arg("recorder").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The file of a program that was killed.
fn killed(name: &str) -> PathBuf {
    let path = temporary::path(name);
    Program::start("killed", &path).end();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn what_a_killed_program_wrote_is_read_whole() {
    let recording = Recording::open(&killed("whole")).unwrap();
    assert_eq!(recording.damage, [""; 0]);
    assert_eq!(recording.losses.words(), [""; 0]);
    let annotations: Vec<_> = recording.annotations.iter().map(|one| (&*one.key, one.value.clone().unwrap())).collect();
    let version = FieldValue::Text { text: "4.2.1".to_owned(), length: 5 };
    assert_eq!(annotations, [("connections", FieldValue::Signed(18)), ("version", version)]);
    let events = recording.merged();
    let names: Vec<_> = events.iter().map(|(thread, event)| (thread.name.as_deref(), &*event.name)).collect();
    let main = recording.threads[0].name.as_deref();
    assert_eq!(names, [(main, "listening"), (Some("worker"), "slow"), (Some("worker"), "odd"), (main, "the end")]);
    assert!(events.is_sorted_by_key(|(_, event)| event.time));
    assert!(recording.header.program().ends_with(std::env::current_exe().unwrap().to_str().unwrap()));
    let (_, odd) = events[2];
    assert_eq!((&*odd.target, odd.level, odd.fields[1].1.cut().is_some()), ("recorder_file::child", None, true));
    assert!(odd.file.ends_with("child.rs"), "{}", odd.file);
}

fn text_says_when_who_what_and_where() {
    let path = killed("text");
    let output = surestack(&[text(&path)]);
    let printed = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], format!("recorder   {}", path.display()));
    assert!(lines.contains(&"  version      \"4.2.1\"") && lines.contains(&"  connections  18"), "{printed}");
    let line = |name: &str| *lines.iter().find(|line| line.contains(name)).unwrap();
    let listening = line("listening");
    let words: Vec<_> = listening.split_whitespace().collect();
    assert!(words[0].starts_with("20") && words[0].ends_with('Z') && words[1].starts_with("-0.0"), "{listening}");
    assert!(listening.contains("  info   listening  port=8080  address=0x7f000001  tls=true  tests/"), "{listening}");
    assert!(line("slow").contains("  worker/") || line("slow").contains(" worker/"), "{printed}");
    assert!(line("slow").contains("  warn   slow  path=\"/index\"  took=117.5  delta=-3  "), "{printed}");
    assert!(line("odd").contains("  -      odd  text=\"a\\u{1b}[31m\\\"b\\nc\"  long=\"xxx"), "{printed}");
    assert!(line("odd").contains("x\"+1"), "what is cut off is said: {printed}");
    assert!(line("the end").contains("  0.000000  "), "{printed}");
}

fn json_has_every_value_with_its_type() {
    let path = killed("json");
    let output = surestack(&["--json", text(&path)]);
    assert_eq!(output.status.code(), Some(0));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema_version"], surestack::recorder::json::SCHEMA_VERSION);
    assert_eq!(document["annotations"][1]["value"], "4.2.1");
    let events = document["events"].as_array().unwrap();
    let fields = |index: usize| &events[index]["fields"];
    assert_eq!(*fields(0), serde_json::json!({ "port": 8080, "address": "0x7f000001", "tls": true }));
    assert_eq!(*fields(1), serde_json::json!({ "path": "/index", "took": 117.5, "delta": -3 }));
    assert_eq!(fields(2)["text"], "a\x1b[31m\"b\nc");
    let kept = fields(2)["long"].as_str().unwrap().len() as u64;
    assert_eq!(events[2]["cut"], serde_json::json!({ "long": 2000 - kept }));
    assert_eq!((&events[1]["thread_name"], &events[1]["level"]), (&"worker".into(), &"warn".into()));
    assert_eq!(document["recorder"]["process"], events[0]["process"]);
    assert_eq!(document["losses"]["dropped"], 0);
    assert_eq!(document["damage"], serde_json::json!([]));
}

fn threads_and_last_events_are_chosen() {
    let path = killed("chosen");
    let recording = Recording::open(&path).unwrap();
    let worker = recording.threads[1].tid.to_string();
    let names = |arguments: &[&str]| {
        let output = surestack(&[&["--json"], arguments, &[text(&path)]].concat());
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        document["events"].as_array().unwrap().iter().map(|event| event["name"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--thread", &worker]), ["\"slow\"", "\"odd\""]);
    assert_eq!(names(&["--last", "2"]), ["\"odd\"", "\"the end\""]);
    assert_eq!(names(&["--thread", &worker, "--last", "1"]), ["\"odd\""]);
}
