//! What cannot be looked at gets a clear answer from `process` and from `check`, and is left as it was.
#![cfg(target_arch = "x86_64")]

mod schema;
mod temporary;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use surestack::snapshot::process::hold::{Hold, Options};

/// User and group that own nothing.
const NOBODY: u32 = 65534;
/// Higher than any pid.
const NO_PID: u32 = 4_194_305;

/// The target program, `surestack`, and a list of one function, where anybody may read and run them.
struct Files {
    targets: PathBuf,
    surestack: PathBuf,
    functions: PathBuf,
}

fn files() -> &'static Files {
    static MADE: OnceLock<Files> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = temporary::path;
        let made = Files { targets: path("targets"), surestack: path("cli"), functions: path("functions") };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/targets.c");
        let mut cc = Command::new("cc");
        assert!(cc.args(["-O1", "-g", "-pthread", source, "-o"]).arg(&made.targets).status().unwrap().success());
        std::fs::copy(env!("CARGO_BIN_EXE_surestack"), &made.surestack).unwrap();
        std::fs::write(&made.functions, "timed_read").unwrap();
        made
    })
}

/// A process to be looked at.
struct Target {
    child: Child,
    said: String,
}

impl Target {
    fn new(what: &str) -> Self {
        Self::of(Command::new(&files().targets).arg(what))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        Self { child, said }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of both commands that look at a process.
fn commands() -> [Vec<String>; 2] {
    let functions = files().functions.display().to_string();
    [vec!["process".to_owned()], vec!["check".to_owned(), "--functions".to_owned(), functions]]
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// State, tracer, and signals that are pending, for the thread and for the process.
fn condition(pid: u32) -> Option<Vec<String>> {
    let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status).into_owned();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
    ["State:", "TracerPid:", "SigPnd:", "ShdPnd:"].iter().map(|name| field(name)).collect()
}

/// Waits until it is in a state again in which it was.
fn is_as_it_was(pid: u32, before: &Option<Vec<String>>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while condition(pid) != *before {
        assert!(Instant::now() < deadline, "{before:?} became {:?}", condition(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until it is in this state and nobody's.
fn comes_to(pid: u32, state: &str) -> Option<Vec<String>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let now = condition(pid);
        if now.as_ref().is_some_and(|now| now[0].starts_with(state) && now[1] == "0") {
            return now;
        }
        assert!(Instant::now() < deadline, "{now:?} is not {state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Both commands refuse it, say why, print nothing else, and leave it alone.
fn refused(pid: u32, why: &str, run: impl Fn(&[String]) -> Output) {
    let before = condition(pid);
    for command in commands() {
        let output = run(&command);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {}", error(&output));
        assert!(error(&output).contains(why), "{command:?}: {}", error(&output));
        assert!(output.stdout.is_empty(), "{command:?}");
        is_as_it_was(pid, &before);
    }
}

fn ask(pid: u32) -> impl Fn(&[String]) -> Output {
    move |command| Command::new(&files().surestack).args(command).arg(pid.to_string()).output().unwrap()
}

fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn what_is_no_process_is_called_by_its_name_and_left_alone() {
    refused(NO_PID, "no such process", ask(NO_PID));
    let target = Target::new("zombie");
    let zombie = target.said.trim_start_matches("ready ").trim().parse().unwrap();
    refused(zombie, "it has exited (a zombie", ask(zombie));
    if std::fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
        refused(2, "it is a thread of the kernel", ask(2));
    } else {
        eprintln!("skipped: no thread of the kernel is to be seen");
    }
    let threads = Target::new("threads");
    comes_to(threads.pid(), "S");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", threads.pid())).unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
    let thread = ids.filter(|id| *id != threads.pid()).last().unwrap();
    comes_to(thread, "S");
    refused(thread, &format!("it is a thread of process {}", threads.pid()), ask(thread));
}

#[test]
fn what_somebody_else_traces_stays_with_its_tracer() {
    let target = Target::new("threads");
    comes_to(target.pid(), "S");
    let hold = Hold::stop(target.pid(), &Options::default()).unwrap();
    refused(target.pid(), "traces it already", ask(target.pid()));
    assert!(hold.still_holds());
    drop(hold);
    comes_to(target.pid(), "S");
}

#[test]
fn other_users_are_told_which_permission_is_missing() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let as_nobody = |pid: u32| {
        move |command: &[String]| {
            let mut ours = Command::new(&files().surestack);
            ours.args(command).arg(pid.to_string()).uid(NOBODY).gid(NOBODY).output().unwrap()
        }
    };
    let theirs = Target::new("threads");
    comes_to(theirs.pid(), "S");
    refused(theirs.pid(), "runs as user 0 and we as user 65534", as_nobody(theirs.pid()));
    let hidden = Target::of(Command::new(&files().targets).arg("hidden").uid(NOBODY).gid(NOBODY));
    comes_to(hidden.pid(), "S");
    refused(hidden.pid(), "not dumpable", as_nobody(hidden.pid()));
    let Ok(scope) = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") else {
        eprintln!("skipped: this kernel has no Yama");
        return;
    };
    let own = Target::of(Command::new(&files().targets).arg("threads").uid(NOBODY).gid(NOBODY));
    comes_to(own.pid(), "S");
    if scope.trim() != "0" {
        refused(own.pid(), "ptrace scope", as_nobody(own.pid()));
    }
}

#[test]
fn what_proc_hides_is_said_to_be_hidden_perhaps() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let target = Target::new("threads");
    comes_to(target.pid(), "S");
    let pid = target.pid().to_string();
    let script = "mount -t proc -o hidepid=2 proc /proc || exit 99; id=$1; shift; \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$@\" $id";
    let run = |command: &[String]| {
        let mut hidden = Command::new("unshare");
        hidden.args(["--mount", "sh", "-c", script, "sh", &pid]).arg(&files().surestack).args(command);
        hidden.output().unwrap()
    };
    if run(&commands()[0]).status.code() == Some(99) {
        eprintln!("skipped: /proc cannot be mounted with hidepid");
        return;
    }
    refused(target.pid(), "or /proc hides it (hidepid)", run);
}

#[test]
fn a_process_in_another_pid_namespace_is_looked_at_from_outside_and_is_not_to_be_seen_from_inside() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let targets = files().targets.display().to_string();
    let inside = Target::of(Command::new("unshare").args(["--pid", "--fork", "--mount-proc", &targets, "threads"]));
    let children = format!("/proc/{0}/task/{0}/children", inside.pid());
    let pid: u32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    comes_to(pid, "S");
    for command in commands() {
        let output = ask(pid)(&command);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", error(&output));
        comes_to(pid, "S");
    }
    let outside = Target::new("threads");
    comes_to(outside.pid(), "S");
    // Pids in there are small.
    if outside.pid() < 100 {
        eprintln!("skipped: the pid may exist inside, too");
    } else {
        refused(outside.pid(), "no such process", |command| {
            let mut within = Command::new("unshare");
            within.args(["--pid", "--fork", "--mount-proc"]).arg(&files().surestack).args(command);
            within.arg(outside.pid().to_string()).output().unwrap()
        });
    }
    // SAFETY: takes numbers only; the process lives as long as its parent is not waited for.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

fn check(pid: u32, functions: &str, more: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let path = files().functions.with_extension(format!("{pid}-{}", functions.len()));
    std::fs::write(&path, functions).unwrap();
    let mut command = Command::new(&files().surestack);
    let output = command.args(["check", "--json", "--functions"]).arg(&path).args(more).arg(pid.to_string()).output();
    let output = output.unwrap();
    let _ = std::fs::remove_file(&path);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if !json.is_null() {
        let schema = include_str!("../docs/check.schema.json");
        assert_eq!(schema::breaks(schema, &json), Vec::<String>::new(), "{json}");
    }
    (output.status.code(), error(&output), json)
}

#[test]
fn names_that_fit_nothing_or_several_functions_stop_nothing_for_long() {
    let target = Target::new("threads");
    let before = comes_to(target.pid(), "S");
    for (functions, why) in [
        ("no_such_function", "no function is called `no_such_function`"),
        ("0x10", "is no target"),
        ("0x10-0x20", "0x10"),
        ("buildid:00:0x0-0x10", "00"),
    ] {
        let (code, error, _) = check(target.pid(), functions, &[]);
        assert!(code == Some(2) && error.contains(why), "{functions}: {code:?} {error}");
        is_as_it_was(target.pid(), &before);
    }
    let missing = Command::new(&files().surestack).args(["check", "--functions", "/nowhere", "1"]).output().unwrap();
    assert!(missing.status.code() == Some(3) && error(&missing).contains("/nowhere"));
    let (code, _, json) = check(target.pid(), "timed_read", &[]);
    assert_eq!((code, &json["decision"]), (Some(0), &"apply".into()), "{json}");
    is_as_it_was(target.pid(), &before);
}

#[test]
fn a_process_without_its_first_thread_is_decided_by_the_others() {
    let target = Target::new("headless");
    comes_to(target.pid(), "Z");
    let (code, error, json) = check(target.pid(), "timed_read", &[]);
    assert_eq!(code, Some(0), "{error}{json}");
    let standings: Vec<_> = json["threads"].as_array().unwrap().iter().map(|thread| &thread["standing"]).collect();
    assert_eq!(standings, ["clear", "gone"]);
    assert_eq!(check(target.pid(), "sleeps", &[]).0, Some(1), "the other one is in there");
    assert_eq!(condition(target.pid()).unwrap()[1], "0");
}

#[test]
fn a_thread_that_does_not_stop_is_waited_for_and_its_child_is_stopped() {
    let target = Target::new("vfork");
    let before = comes_to(target.pid(), "D");
    let (code, error, json) = check(target.pid(), "timed_read", &[]);
    assert_eq!(code, Some(1), "{error}{json}");
    let standings: Vec<_> = json["threads"].as_array().unwrap().iter().map(|thread| &thread["standing"]).collect();
    assert!(standings.contains(&&"running".into()), "{json}");
    let reasons: Vec<_> = json["reasons"].as_array().unwrap().iter().map(|reason| &reason["kind"]).collect();
    assert!(reasons.contains(&&"modules_changed".into()), "{json}");
    is_as_it_was(target.pid(), &before);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", target.pid())).unwrap();
    // SAFETY: takes numbers only; the child lives as long as its parent waits for it.
    unsafe { libc::kill(children.trim().parse().unwrap(), libc::SIGKILL) };
}

#[test]
fn a_process_that_exits_half_way_through_a_check_gets_a_clear_answer() {
    for round in 0..12 {
        let nanoseconds = (20_000_000 + round * 5_000_000).to_string();
        let target = Target::of(Command::new(&files().targets).args(["short", &nanoseconds]));
        let (code, error, json) = check(target.pid(), "timed_read", &[]);
        match code {
            Some(0 | 1) => assert!(json["decision"].is_string()),
            Some(3) => assert!(["exited", "no such process"].iter().any(|known| error.contains(known)), "{error}"),
            other => panic!("{other:?} {error}{json}"),
        }
    }
}

#[test]
fn killed_while_it_checks_it_leaves_the_process_with_its_signals() {
    let target = Target::new("threads");
    comes_to(target.pid(), "S");
    // Stopped by job control with a signal pending: neither may get lost.
    // SAFETY: take numbers only; the child has not been waited for.
    unsafe {
        libc::kill(target.pid().cast_signed(), libc::SIGSTOP);
        libc::kill(target.pid().cast_signed(), libc::SIGURG);
    }
    let before = comes_to(target.pid(), "T");
    for round in 0..30 {
        let mut command = Command::new(&files().surestack);
        command.args(&commands()[1]).arg(target.pid().to_string()).stdout(Stdio::null());
        let mut ours = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 1700));
        ours.kill().unwrap();
        ours.wait().unwrap();
        is_as_it_was(target.pid(), &before);
    }
    assert!(Path::new(&format!("/proc/{}", target.pid())).exists());
}
