//! Records that are taken up at the next start, and how many a directory holds.
#![cfg(target_arch = "x86_64")]

mod recording;
mod temporary;

use recording::{Running, TIME, program, record};
use std::path::PathBuf;
use std::process::Command;
use surestack::previous::{Limits, limit, previous_crash_in};
use surestack::{Verdict, previous_crash};
use surestack_capture::record::Name;

/// A directory of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = temporary::path(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A record that was made so many seconds after the first.
    fn put(&self, seconds: u64, bytes: &[u8]) -> String {
        let name = Name::new(TIME + seconds * 1_000_000_000, 7, 0x1234);
        let name = String::from_utf8(name.as_bytes().to_vec()).unwrap();
        std::fs::write(self.0.join(&name), bytes).unwrap();
        name
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The name of the next record that is handed out.
    fn next(&self) -> Option<String> {
        let crash = previous_crash_in(&self.0).unwrap()?;
        Some(crash.path().file_name().unwrap().to_str().unwrap().to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_record_is_handed_out_once_the_newest_first() {
    let folder = Folder::new("once");
    let names = [5, 1, 9].map(|seconds| folder.put(seconds, b""));
    std::fs::write(folder.0.join("notes.surestack"), b"").unwrap();
    let (five, one, nine) = (names[0].clone(), names[1].clone(), names[2].clone());
    assert_eq!(folder.next(), Some(nine));
    let newer = folder.put(7, b"");
    assert_eq!(
        [folder.next(), folder.next(), folder.next(), folder.next()],
        [Some(newer), Some(five), Some(one), None]
    );
    assert!(previous_crash_in(&folder.0.join("nowhere")).unwrap().is_none());
}

#[test]
fn of_many_that_ask_at_once_each_record_goes_to_one() {
    let folder = Folder::new("many");
    let mut names: Vec<_> = (0..40).map(|seconds| folder.put(seconds, b"")).collect();
    let take = || std::iter::from_fn(|| folder.next()).collect::<Vec<_>>();
    let mut taken = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
    });
    taken.sort();
    names.sort();
    assert_eq!(taken, names);
}

#[test]
fn what_was_taken_is_the_report_that_the_command_prints() {
    let folder = Folder::new("report");
    let running = Running::new(program());
    let name = folder.put(0, &record(running.pid(), running.hold().snapshot()));
    let crash = previous_crash_in(&folder.0).unwrap().unwrap();
    let printed = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
        let output = command.arg("report").args(more).arg(folder.0.join(&name)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let report = crash.report().unwrap();
    assert!(report.threads.iter().all(|thread| thread.verdict == Verdict::Reliable));
    assert_eq!(report.head.unwrap().process.pid, Some(running.pid()));
    assert_eq!(crash.text().unwrap(), printed(&[]));
    assert_eq!(crash.json().unwrap(), printed(&["--json"]));

    let (text, json) = (crash.write_text().unwrap(), crash.write_json().unwrap());
    assert_eq!(std::fs::read_to_string(&text).unwrap(), printed(&[]));
    assert_eq!(std::fs::read_to_string(&json).unwrap(), printed(&["--json"]));
    let stem = name.strip_suffix(".surestack").unwrap();
    let all = ["json", "surestack", "taken", "txt"].map(|suffix| format!("{stem}.{suffix}"));
    assert_eq!(folder.names(), all);
    crash.remove().unwrap();
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_and_stays() {
    let folder = Folder::new("broken");
    let name = folder.put(0, b"no record");
    let crash = previous_crash_in(&folder.0).unwrap().unwrap();
    assert!(crash.report().unwrap_err().to_string().contains("is not a record"));
    assert!(folder.names().contains(&name));
}

#[test]
fn the_directory_is_the_one_that_the_environment_names() {
    const INSIDE: &str = "SURESTACK_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        println!("found {:?}", previous_crash().unwrap().map(|crash| crash.path().to_owned()));
        return;
    }
    let folder = Folder::new("environment");
    let own = folder.0.join(format!("surestack-{}", own_user()));
    std::fs::create_dir(&own).unwrap();
    let name = folder.put(0, b"");
    std::fs::copy(folder.0.join(&name), own.join(&name)).unwrap();
    let inside = |variable: &str, directory: &PathBuf| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_directory_is_the_one_that_the_environment_names", "--nocapture"]);
        let output = command.env(INSIDE, "1").env_remove("SURESTACK_DIR").env(variable, directory).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let found = |path: &PathBuf| format!("found {:?}", Some(path.join(&name)));
    assert!(inside("SURESTACK_DIR", &folder.0).contains(&found(&folder.0)));
    assert!(inside("SURESTACK_DIR", &folder.0).contains("found None"));
    assert!(inside("TMPDIR", &folder.0).contains(&found(&own)));
    // A directory that others may write to is not believed.
    std::fs::remove_file(own.join(&name).with_extension("taken")).unwrap();
    Command::new("chmod").arg("777").arg(&own).status().unwrap();
    assert!(inside("TMPDIR", &folder.0).contains("found None"));
}

fn own_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

#[test]
fn the_oldest_records_go_first_with_all_that_was_made_of_them() {
    let folder = Folder::new("limits");
    let names: Vec<_> = (0..6).map(|seconds| folder.put(seconds, &[0; 1000])).collect();
    for suffix in ["txt", "taken", "json"] {
        std::fs::write(folder.0.join(&names[1]).with_extension(suffix), [0; 500]).unwrap();
    }
    let others = ["20261121T172000125-4-x.surestack", "core.1234", "mine.txt"];
    others.iter().for_each(|name| std::fs::write(folder.0.join(name), [0; 9000]).unwrap());
    let left = |expected: &[&String]| {
        let names = folder.names();
        let records: Vec<_> = names.iter().filter(|name| !others.contains(&name.as_str())).collect();
        assert_eq!(records, expected);
        assert_eq!(names.len(), expected.len() + others.len());
    };
    let limits = |records, bytes| limit(&folder.0, Limits { records, bytes }).unwrap();
    assert_eq!(limits(6, 7500), 0);
    assert_eq!(limits(6, 7499), 1);
    assert_eq!(limits(4, u64::MAX), 1);
    left(&[&names[2], &names[3], &names[4], &names[5]]);
    assert_eq!(limits(100, 2500), 2);
    left(&[&names[4], &names[5]]);
    assert_eq!(limits(0, 0), 1);
    left(&[&names[5]]);
    assert_eq!(limit(&folder.0.join("nowhere"), Limits::default()).unwrap(), 0);
}
