//! Records: what is reported of them is what is reported of the process, and of what is left of them the rest.
#![cfg(target_arch = "x86_64")]

mod recording;
mod schema;
mod temporary;

use recording::{Running, program, program_with, record, written};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use surestack::analyze::{self, Options, Outcome};
use surestack::report::Report;
use surestack::{Doubt, Doubted, Verdict};
use surestack_capture::record::{Failure, Gap, Item, Items, MessageKind, Occasion, Storm, ThreadState};

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

/// A record of the program, made once, whose process is gone.
fn recorded() -> &'static [u8] {
    static RECORD: OnceLock<Vec<u8>> = OnceLock::new();
    RECORD.get_or_init(|| {
        let running = Running::new(program());
        record(running.pid(), running.hold().snapshot())
    })
}

/// The record with each item replaced by those that `edit` makes of it.
fn edited(edit: impl for<'a> Fn(Item<'a>) -> Vec<Item<'a>>) -> Vec<u8> {
    written(&Items::new(recorded()).flat_map(|item| edit(item.unwrap())).collect::<Vec<_>>())
}

/// The thread that wrote it.
fn crashed_thread() -> u32 {
    let process = Items::new(recorded()).find_map(|item| match item.unwrap() {
        Item::Process { tid, .. } => Some(tid),
        _ => None,
    });
    process.unwrap()
}

fn verdicts(report: &Value) -> Vec<&str> {
    let threads = report["threads"].as_array().unwrap().iter();
    threads.map(|thread| thread["verdict"]["verdict"].as_str().unwrap()).collect()
}

fn names(report: &Value, thread: usize) -> Vec<&str> {
    let frames = report["threads"][thread]["frames"].as_array().unwrap().iter();
    frames.filter_map(|frame| frame["function"].as_str()).collect()
}

fn gaps(report: &Value) -> String {
    report["gaps"].to_string()
}

#[test]
fn without_the_program_nothing_is_doubted_and_nothing_decided() {
    let elsewhere = edited(|item| match item {
        Item::Process { pid, ppid, tid, uid, realtime, monotonic, page, .. } => {
            vec![Item::Process { pid, ppid, tid, uid, realtime, monotonic, page, exe: b"/nowhere/recorded" }]
        }
        other => vec![other],
    });
    let path = file("elsewhere", &elsewhere);
    let (report, code) = json(&path, &[]);
    assert_eq!((code, verdicts(&report)), (Some(4), vec!["pending"; 3]));
    assert!(gaps(&report).contains("/nowhere/recorded"), "{}", gaps(&report));
    assert_eq!(names(&report, 0), ["__libc_pause", "__libc_start_call_main", "__libc_start_main_impl"]);
    let (report, code) = json(&path, &["--exe", program().to_str().unwrap()]);
    assert_eq!((code, verdicts(&report)), (Some(0), vec!["reliable"; 3]));
}

#[test]
fn a_file_with_another_build_id_is_not_used() {
    let other = edited(|item| match item {
        Item::Module { start, end, bias, path, .. } if path.is_empty() => {
            vec![Item::Module { start, end, bias, build_id: b"another build", path }]
        }
        other => vec![other],
    });
    let path = file("replaced", &other);
    let (report, code) = json(&path, &[]);
    assert_eq!((code, verdicts(&report)), (Some(4), vec!["pending"; 3]));
    assert!(report["modules"].to_string().contains("\"kind\":\"replaced\""));
    assert!(text(&path, &[]).0.contains("is not the file that ran"));
}

#[test]
fn code_that_nobody_said_to_be_unchanged_leaves_a_trace_pending() {
    let unsaid = edited(|item| if matches!(item, Item::Unchanged { .. }) { vec![] } else { vec![item] });
    let (report, code) = json(&file("unsaid", &unsaid), &[]);
    assert_eq!((code, verdicts(&report)), (Some(0), vec!["pending"; 3]));
    let missing = &report["threads"][0]["verdict"]["missing"];
    assert_eq!(missing, "that all code has the bytes of its file");
}

#[test]
fn what_was_doubted_at_the_time_stays_doubted() {
    let (tid, doubt) = (crashed_thread(), Doubt::OffStack { address: 0x1234 });
    let doubted = edited(|item| match item {
        Item::End { tid: thread, .. } if thread == tid => {
            vec![Item::Doubted { tid, doubted: Doubted { frame: 3, doubt } }, item]
        }
        other => vec![other],
    });
    let (report, _) = json(&file("doubted", &doubted), &[]);
    let verdict = &report["threads"][0]["verdict"];
    assert_eq!((&verdict["verdict"], &verdict["believed"]), (&"unreliable".into(), &3.into()));
    assert_eq!(verdict["doubts"][0]["doubt"], doubt.to_string());
    // A doubt that was counted and is not in the record.
    let lost = edited(|item| match item {
        Item::End { tid, end, verdict, frames, .. } => vec![Item::End { tid, end, verdict, frames, doubts: 1 }],
        other => vec![other],
    });
    assert_eq!(verdicts(&json(&file("lost", &lost), &[]).0), ["unreliable"; 3]);
}

#[test]
fn a_trace_with_a_missing_frame_ends_there_and_is_not_reliable() {
    for lost in [0, 4, 9] {
        let tid = crashed_thread();
        let without = edited(|item| match item {
            Item::Frame { tid: thread, index, .. } if thread == tid && index == lost => vec![],
            other => vec![other],
        });
        let (report, _) = json(&file(&format!("without-{lost}"), &without), &[]);
        let thread = &report["threads"][0];
        assert_eq!((&thread["frame_count"], verdicts(&report)[0]), (&lost.into(), "unreliable"), "frame {lost}");
        assert_eq!(thread["end"]["error"], format!("it was broken off after {lost} frames"));
    }
}

#[test]
fn everything_that_went_wrong_in_the_handler_is_said_in_text_and_json() {
    let (name, fault) = (b"slow".as_slice(), Failure::Fault { signal: 11, code: 1, address: 0x10, pc: 0x4000 });
    let thread = |tid, state| Item::Thread { tid, state, pc: Some(0x1000), sp: None, name };
    let gaps = [
        Gap::Threads,
        Gap::ThreadList,
        Gap::Modules,
        Gap::Mappings,
        Gap::Message,
        Gap::Place,
        Gap::Bytes,
        Gap::Signals,
        Gap::Crashes,
        Gap::AlternateStack,
        Gap::ThreadStorage,
        Gap::Budget,
        Gap::Helper,
    ];
    let storm =
        Storm { pid: 1, tid: 91, signal: 11, code: 1, address: 0x18, pc: 0x4001, sp: 0x7001, count: 4, realtime: 1 };
    let mut more = vec![
        thread(91, ThreadState::Silent),
        thread(92, ThreadState::NotAsked),
        thread(93, ThreadState::Refused),
        thread(94, ThreadState::Exited),
        thread(95, ThreadState::Answered),
        Item::StepFailed { step: 4, failure: fault },
        Item::StepFailed { step: 5, failure: Failure::TimedOut { ns: 1_500_000 } },
        Item::StepFailed { step: 6, failure: Failure::Refused { errno: 24 } },
        Item::Message { kind: MessageKind::Abort, text: b"free(): invalid pointer\n" },
        Item::Message { kind: MessageKind::Panic, text: b"first line\nsecond \x1b[31mline" },
        Item::Storm(storm),
    ];
    more.extend(gaps.iter().zip(28..).map(|(what, number)| Item::Gap { what: *what, number }));
    let whole = edited(|item| if matches!(item, Item::Done { .. }) { more.clone() } else { vec![item] });
    let path = file("wrong", &whole);
    let (report, code) = json(&path, &[]);
    let told = text(&path, &[]).0;
    assert_eq!((code, &report["partial"]), (Some(4), &true.into()));
    let absent: Vec<_> =
        report["absent"].as_array().unwrap().iter().map(|task| task["why"].as_str().unwrap()).collect();
    assert_eq!(absent, ["silent", "not_asked", "refused", "exited"]);
    assert_eq!(report["absent"][0]["thread_name"], "slow");
    assert_eq!(report["threads"].as_array().unwrap().len(), 4, "one answered with its pc alone");
    let said = |what: &str| {
        assert!(told.contains(what), "not in the text: {what}\n{told}");
        assert!(report.to_string().contains(what), "not in the JSON: {what}\n{report}");
    };
    said("step 4: SIGSEGV (SEGV_MAPERR) at 0x10 at pc 0x4000 of the handler");
    said("step 5: not done within 1.5ms");
    said("step 6: Too many open files");
    said("28 threads, for which there was no room");
    said(
        "the handler itself took SIGSEGV (SEGV_MAPERR) at 0x18 in thread 91 at pc 0x4001, stack pointer 0x7001, after 4",
    );
    said("the record has no end");
    assert_eq!(report["gaps"].as_array().unwrap().len(), 3 + 13 + 2, "{}", report["gaps"]);
    assert!(
        told.contains(
            "  abort    free(): invalid pointer\n  panic    first line\n           second \u{fffd}[31mline\n"
        )
    );
    assert_eq!(report["recorded"]["messages"][1]["text"], "first line\nsecond \u{1b}[31mline");
    assert!(told.contains("task 91 (slow) did not answer in time"));
}

/// A `siginfo_t`.
fn siginfo(number: i32, code: i32, detail: u64) -> [u8; 128] {
    let mut info = [0; 128];
    info[..4].copy_from_slice(&number.to_le_bytes());
    info[8..12].copy_from_slice(&code.to_le_bytes());
    info[16..24].copy_from_slice(&detail.to_le_bytes());
    info
}

/// The record of a process that took this signal.
fn signalled(info: &[u8; 128]) -> Vec<u8> {
    let tid = crashed_thread();
    edited(|item| match item {
        Item::Registers { tid: thread, regs } if thread == tid => {
            vec![Item::Signal { tid, info: info.to_vec().leak() }, Item::Registers { tid, regs }]
        }
        other => vec![other],
    })
}

#[test]
fn a_signal_is_told_with_who_sent_it() {
    let sent = file("sent", &signalled(&siginfo(11, 0, 7 << 32 | 4)));
    let (report, _) = json(&sent, &[]);
    assert_eq!(report["description"], "SIGSEGV sent by pid 4 (uid 7); the thread was in __libc_pause");
    assert_eq!(report["crash_info"]["sender"], serde_json::json!({"pid": 4, "uid": 7}));
    assert_eq!(
        (&report["crashing_thread"]["thread_id"], &report["threads"][0]["crashed"]),
        (&crashed_thread().into(), &true.into())
    );
    assert!(text(&sent, &["--brief"]).0.contains("signal   SIGSEGV (SI_USER) sent by pid 4 (uid 7)"));
    let own = u64::from(crashed_thread());
    let raised = json(&file("raised", &signalled(&siginfo(6, -6, own))), &[]).0;
    assert_eq!(raised["description"], "SIGABRT raised by the process itself (abort)");
    let fault = json(&file("fault", &signalled(&siginfo(11, 1, 0x18))), &[]).0;
    assert_eq!(fault["description"], "SIGSEGV: access to null pointer + 0x18 in __libc_pause");
}

#[test]
fn without_a_signal_the_occasion_says_why_there_is_a_record() {
    let of = |occasion| {
        let other = edited(|item| match item {
            Item::Occasion(_) => vec![Item::Occasion(occasion)],
            other => vec![other],
        });
        let (report, code) = json(&file(&format!("{occasion:?}"), &other), &[]);
        (report["description"].as_str().unwrap().to_owned(), code)
    };
    assert_eq!(of(Occasion::Requested), ("no crash: somebody asked for the report".to_owned(), Some(0)));
    assert_eq!(of(Occasion::Panic), ("a panic".to_owned(), Some(0)));
    let text = b"panicked at src/main.rs:4:5:\nindex out of bounds\nmore".as_slice();
    let tid = crashed_thread();
    let panicked = edited(|item| match item {
        Item::Occasion(_) => vec![
            Item::Occasion(Occasion::Panic),
            // By which the thread asked for the report.
            Item::Signal { tid, info: siginfo(64, -1, 0).to_vec().leak() },
            Item::Message { kind: MessageKind::Panic, text },
        ],
        other => vec![other],
    });
    let report = json(&file("panicked", &panicked), &[]).0;
    assert_eq!(report["description"], "panic: index out of bounds, at src/main.rs:4:5");
    assert_eq!((&report["crash_info"], &report["crashing_thread"]["thread_id"]), (&Value::Null, &tid.into()));
    // A handler that was not called for a signal has none to tell of.
    let none = json(&file("none-told", &signalled(&[0; 128])), &[]).0;
    assert_eq!(none["crash_info"], Value::Null);
}

#[test]
fn a_record_that_is_cut_anywhere_is_reported_as_far_as_it_goes() {
    let whole = recorded();
    let frames =
        |report: &Report| report.threads.iter().map(|thread| thread.depth * thread.threads.len()).sum::<usize>();
    let of = |length: usize| {
        let mut report = Report::default();
        let path = file("cut", &whole[..length]);
        let outcome = analyze::record(&path, &Options::default(), &mut report);
        (outcome, report)
    };
    let mut last = 0;
    for length in (0..=whole.len()).step_by(whole.len() / 60).chain([whole.len()]) {
        let (outcome, report) = of(length);
        match outcome {
            Ok(Outcome::Whole) => assert_eq!(length, whole.len()),
            Ok(Outcome::Partial) => assert!((16..whole.len()).contains(&length)),
            Err(error) => assert!(length < 16, "{error}"),
        }
        assert!(frames(&report) >= last, "{length} bytes");
        last = frames(&report);
        let reliable = report.threads.iter().filter(|thread| thread.verdict == Verdict::Reliable).count();
        assert!(reliable == 0 || length > whole.len() / 2, "modules come last");
    }
    assert_eq!(last, 10 + 2 * 12 + 8);
    let cut = file("half", &whole[..whole.len() / 3]);
    assert_eq!(text(&cut, &[]).1, Some(4));
}

#[test]
fn what_is_no_record_is_refused_with_what_to_give() {
    for bytes in [b"".as_slice(), b"\x7fELF", &[7; 4096]] {
        let (said, code) = text(&file("none", bytes), &[]);
        assert_eq!(code, Some(3));
        assert!(
            said.contains("is not a record: it does not begin as one") && said.contains("NAME.surestack"),
            "{said}"
        );
    }
    let mut other = recorded().to_vec();
    other[10] ^= 0xff;
    assert!(text(&file("machine", &other), &[]).0.contains("of a machine that is not supported"));
    assert_eq!(text(Path::new("/nowhere"), &[]).1, Some(3));
    assert_eq!(text(&file("option", recorded()), &["--unwinder", "cfi"]).1, Some(2));
    assert_eq!(text(&file("thread", recorded()), &["--threads", "1"]).1, Some(2));
}

#[test]
fn a_storm_alone_is_a_report() {
    let storm = Storm {
        pid: 7,
        tid: 8,
        signal: 7,
        code: 2,
        address: 0x18,
        pc: 0x40,
        sp: 0x70,
        count: 1,
        realtime: recording::TIME,
    };
    let (report, code) = json(&file("storm", &storm.to_bytes()), &[]);
    assert_eq!((code, &report["pid"]), (Some(4), &7.into()));
    assert_eq!(report["description"], "a crash: what happened is not in the record any more");
    assert!(gaps(&report).contains("the handler itself took SIGBUS"), "{}", gaps(&report));
    assert_eq!(report["recorded"]["time"], "2026-11-21T17:20:00.125Z");
    assert_eq!((&report["threads"][0]["thread_id"], &report["threads"][0]["frame_count"]), (&8.into(), &0.into()));
}

#[test]
fn chosen_threads_are_reported_alone() {
    let path = file("chosen", recorded());
    let crashed = json(&path, &["--threads", "crashed"]).0;
    assert_eq!(crashed["threads"].as_array().unwrap().len(), 1);
    assert_eq!(crashed["threads"][0]["thread_id"], crashed_thread());
    let all = json(&path, &[]).0;
    let last = &all["threads"][2]["thread_id"];
    let one = json(&path, &["--threads", &last.to_string()]).0;
    assert_eq!((&one["threads"][0]["thread_id"], one["threads"].as_array().unwrap().len()), (last, 1));
    assert_eq!(all["thread_count"], 4);
}

#[test]
fn the_signature_is_found_again_from_the_frames_and_that_of_functions_survives_another_build() {
    let with = json(&file("signed", recorded()), &[]).0;
    let unsigned = edited(|item| if matches!(item, Item::Signature(_)) { vec![] } else { vec![item] });
    let without = json(&file("unsigned", &unsigned), &[]).0;
    assert_eq!(with["recorded"], without["recorded"]);
    // The same program elsewhere, and another build of it.
    let folder = temporary::path("folder");
    std::fs::create_dir(&folder).unwrap();
    let elsewhere = folder.join(program().file_name().unwrap());
    let of = |program: &Path| {
        let running = Running::new(program);
        json(&file("again", &record(running.pid(), running.hold().snapshot())), &[]).0["recorded"].clone()
    };
    std::fs::copy(program(), &elsewhere).unwrap();
    let copied = of(&elsewhere);
    std::fs::remove_file(&elsewhere).unwrap();
    std::fs::rename(program_with("other-build", &["-DPADDING"]), &elsewhere).unwrap();
    let built = of(&elsewhere);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(copied, with["recorded"]);
    assert_ne!(built["signature"], copied["signature"]);
    assert_eq!(built["function_signature"], copied["function_signature"]);
    assert_ne!(built["function_signature"], Value::Null);
}
