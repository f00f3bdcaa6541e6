//! The crash handler, and what writes into the flight recorder, can reach nothing that is not safe at signal time, in a program
//! and in a library, in debug and in release; and an allocation in it would be found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use surestack::verify::{self, Beliefs, Offence, Options, Thread, Verified};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What the project allows itself.
const ANNOTATIONS: usize = 5;

/// Builds the program and the library with the handler that lie in `root`, in one profile.
fn built(root: &Path, profile: &str, target: &Path) -> [PathBuf; 2] {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(root.join("tests/own-handler"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = target.join(if profile == "dev" { "debug" } else { profile });
    ["own-handler", "libsurestack_own_handler.so"].map(|name| folder.join(name))
}

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn options() -> Options {
    let annotations = verify::annotations(&Path::new(ROOT).join("unwinders/capture/indirect-calls.txt")).unwrap();
    assert!(annotations.len() <= ANNOTATIONS);
    Options { annotations, ..Options::default() }
}

fn text(found: &Verified, file: &Path) -> String {
    let mut text = Vec::new();
    found.text(&file.display().to_string(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The system calls that are on the list, by number.
fn listed() -> BTreeMap<u64, String> {
    let list = fs::read_to_string(Path::new(ROOT).join("unwinders/capture/system-calls.txt")).unwrap();
    let line = |line: &str| line.split_once(' ').map(|(number, name)| (number.parse().unwrap(), name.to_owned()));
    list.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

#[test]
fn the_handler_reaches_nothing_unsafe_and_only_the_listed_system_calls() {
    let listed = listed();
    let mut made = BTreeSet::new();
    for profile in ["dev", "release"] {
        for file in built(Path::new(ROOT), profile, &target("own-handler")) {
            let found = verify::file(&file, &options()).unwrap();
            let all = text(&found, &file);
            assert!(found.violations.is_empty(), "{all}");
            assert!(found.functions.len() > 50, "{all}");
            assert!(found.annotated.len() <= ANNOTATIONS && found.unused.is_empty(), "{all}");
            for call in &found.system_calls {
                let numbers = call.numbers.as_ref().unwrap_or_else(|| panic!("any number: {call:?}"));
                let other = numbers.iter().find(|number| !listed.contains_key(number));
                assert_eq!(other, None, "not in system-calls.txt: {:#x} in {}", call.address, call.function);
                made.extend(numbers.iter().copied());
            }
        }
    }
    let unmade: Vec<_> = listed.iter().filter(|(number, _)| !made.contains(number)).collect();
    assert!(unmade.is_empty(), "in system-calls.txt, and not made: {unmade:?}");
}

/// What writing into the flight recorder calls of libc: a clock, and when a thread first writes what the kernel has for it;
/// all of them bare system calls, or less.
const WRITING: [&str; 7] =
    ["__errno_location", "clock_gettime", "getpid", "madvise", "prctl", "sigaltstack", "syscall"];

#[test]
fn writing_an_event_and_an_annotation_reaches_seven_functions_of_libc_and_in_release_no_panic() {
    for (profile, beliefs) in [("dev", Beliefs::Listed), ("release", Beliefs::Refused)] {
        for file in built(Path::new(ROOT), profile, &target("own-handler")) {
            let options = Options {
                roots: vec!["surestack_own_writes".to_owned()],
                allowed: WRITING.map(str::to_owned).to_vec(),
                thread: Thread::Allowed,
                beliefs,
                ..Options::default()
            };
            let found = verify::file(&file, &options).unwrap();
            let all = text(&found, &file);
            assert!(found.violations.is_empty() && found.system_calls.is_empty(), "{all}");
            assert!(found.functions.len() >= 6, "{all}");
            assert!(WRITING.iter().all(|name| found.allowed.contains(*name)), "{all}");
        }
    }
}

/// Copies a folder and what is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if path.is_dir() { copy(&path, &target) } else { fs::write(&target, fs::read(&path).unwrap()).unwrap() }
    }
}

#[test]
fn a_push_to_a_vec_in_the_handler_is_found_with_the_way_to_it() {
    // The handler with one more line, in a workspace of its own.
    let root = target("own-handler-that-allocates");
    let _ = fs::remove_dir_all(&root);
    for folder in ["unwinders", "tests/own-handler"] {
        copy(&Path::new(ROOT).join(folder), &root.join(folder));
    }
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let (workspace, _) = manifest.split_once("\n[package]\n").unwrap();
    let (before, rest) = workspace.split_once("members = [").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    fs::write(root.join("Cargo.toml"), format!("{before}members = [\"unwinders/*\"]{after}")).unwrap();
    let edit = |file: &str, from: &str, to: &str| {
        let path = root.join("unwinders/capture/src").join(file);
        let source = fs::read_to_string(&path).unwrap();
        assert!(source.contains(from), "{from} in {file}");
        fs::write(path, source.replacen(from, to, 1)).unwrap();
    };
    edit("lib.rs", "\nmod ", "\nextern crate alloc;\nmod ");
    let head = "fn surestack_handle(signal: i32, siginfo: usize, ucontext: usize, stack: usize) -> Next {\n";
    let push = "let mut kept = alloc::vec::Vec::new(); kept.push(core::hint::black_box(signal));\n";
    edit("handler.rs", head, &format!("{head}{push} core::hint::black_box(&mut kept);\n"));

    // A target of its own: the other test builds the same program at the same time.
    let [program, _] = built(&root, "release", &target("own-handler-cheat"));
    let found = verify::file(&program, &options()).unwrap();
    let is_allocation = |what: &Offence| matches!(what, Offence::Function(name) if name.ends_with("__rust_alloc"));
    let violation = found.violations.iter().find(|violation| is_allocation(&violation.what));
    let path = &violation.unwrap_or_else(|| panic!("{}", text(&found, &program))).path;
    let functions: Vec<&str> = path.iter().map(|hop| hop.function.as_str()).collect();
    assert_eq!(functions.first(), Some(&verify::ENTRY));
    assert!(functions.iter().any(|name| name.ends_with("surestack_handle")), "{functions:?}");
}
