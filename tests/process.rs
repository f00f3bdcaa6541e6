//! Live processes: what is reported of them, what is refused, and that they run on as if nothing had been.
#![cfg(target_arch = "x86_64")]

mod temporary;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use surestack::error::{Error, Refusal};
use surestack::snapshot::process::hold::{Hold, Options};
use surestack::snapshot::{Absence, Identity};

/// User and group that own nothing.
const NOBODY: u32 = 65534;

/// A program that anybody may run.
fn program(name: &str, make: impl FnOnce(&PathBuf)) -> PathBuf {
    let path = temporary::path(name);
    make(&path);
    path
}

fn targets() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        program("targets", |path| {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/targets.c");
            let built = Command::new("cc").args(["-O1", "-g", "-pthread", source, "-o"]).arg(path).status().unwrap();
            assert!(built.success());
        })
    })
}

/// `surestack process`, where anybody may run it.
fn surestack() -> Command {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    let copy = || program("cli", |path| assert!(std::fs::copy(env!("CARGO_BIN_EXE_surestack"), path).is_ok()));
    let mut command = Command::new(COPY.get_or_init(copy));
    command.arg("process");
    command
}

/// A process to be looked at.
struct Target {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
}

impl Target {
    fn new(what: &str) -> Self {
        Self::of(Command::new(targets()).arg(what))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        assert!(said.starts_with("ready"), "{said}");
        std::thread::sleep(Duration::from_millis(50));
        Self { child, out, said }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn hold(&self) -> Hold {
        Hold::stop(self.pid(), &Options::default()).unwrap()
    }

    /// Its state and its tracer.
    fn state(&self) -> (char, u32) {
        state(self.pid())
    }

    fn signal(&self, signal: i32) {
        // SAFETY: takes numbers only; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid().cast_signed(), signal) }, 0);
    }

    /// What it says until its end.
    fn rest(mut self) -> String {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state(pid: u32) -> (char, u32) {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap();
    let status = String::from_utf8_lossy(&status).into_owned();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    (field("State:").chars().next().unwrap(), field("TracerPid:").parse().unwrap())
}

/// Waits until a process is in a state and nobody's tracee.
fn comes_to(pid: u32, states: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let (state, tracer) = state(pid);
        if states.contains(state) && tracer == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn refusal(pid: u32) -> Refusal {
    match Hold::stop(pid, &Options::default()) {
        Err(Error::Held { why, .. }) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{pid} was stopped"),
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn run(pid: u32, arguments: &[&str]) -> Output {
    surestack().args(arguments).arg(pid.to_string()).output().unwrap()
}

#[test]
fn a_process_is_reported_with_every_thread_and_runs_on() {
    let target = Target::new("threads");
    let output = run(target.pid(), &[]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
    assert!(report.contains(&format!("pid {}, user ", target.pid())) && report.contains(", 4 threads, "), "{report}");
    assert!(report.contains("and let go as it was") && report.contains("sleeps+"), "{report}");
    assert!(comes_to(target.pid(), "S"), "{:?}", target.state());

    let output = run(target.pid(), &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["schema_version"], "1.4.0");
    assert_eq!((&json["thread_count"], &json["partial"]), (&4.into(), &false.into()));
    assert!(json["stopped_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(json["threads"][0]["thread_id"], target.pid());
    assert!(json["threads"][0]["doing"].as_str().unwrap().starts_with("sleeping"));
    assert_eq!(run(target.pid(), &["--threads", "1"]).status.code(), Some(2), "there is no such thread");
}

#[test]
fn what_is_no_process_that_can_be_stopped_is_called_by_its_name() {
    let target = Target::new("zombie");
    let zombie = target.said.trim_start_matches("ready ").trim().parse().unwrap();
    assert_eq!(refusal(zombie), Refusal::Zombie);
    assert_eq!(state(zombie), ('Z', 0));
    assert_eq!(refusal(4_190_000), Refusal::NoProcess);
    assert_eq!(refusal(0), Refusal::NoProcess);
    assert_eq!(refusal(std::process::id()), Refusal::Ourselves);
    if std::fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
        assert_eq!(refusal(2), Refusal::Kernel);
    }
    let threads = Target::new("threads");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", threads.pid())).unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
    let thread = ids.filter(|id| *id != threads.pid()).last().unwrap();
    assert_eq!(refusal(thread), Refusal::Thread { of: threads.pid() });
    let output = run(thread, &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    assert!(text(&output.stderr).contains(&format!("it is a thread of process {}; give that", threads.pid())));
}

#[test]
fn a_process_that_somebody_traces_is_refused_with_the_tracers_name_and_left_to_it() {
    let target = Target::new("threads");
    let hold = target.hold();
    let output = run(target.pid(), &[]);
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    assert!(error.contains("traces it already") && error.contains("process "), "{error}");
    assert!(hold.still_holds());
    drop(hold);
    assert!(comes_to(target.pid(), "S"), "{:?}", target.state());
}

#[test]
fn what_job_control_stopped_stays_stopped_and_can_be_continued() {
    let target = Target::new("threads");
    target.signal(libc::SIGSTOP);
    assert!(comes_to(target.pid(), "T"));
    let hold = target.hold();
    assert_eq!((hold.snapshot().threads.len(), hold.still_holds()), (4, true));
    drop(hold);
    assert!(comes_to(target.pid(), "T"), "{:?}", target.state());
    target.signal(libc::SIGCONT);
    assert!(comes_to(target.pid(), "S"), "{:?}", target.state());
}

#[test]
fn a_stop_signal_that_comes_while_it_is_held_takes_effect_afterwards() {
    let target = Target::new("threads");
    let hold = target.hold();
    target.signal(libc::SIGSTOP);
    drop(hold);
    assert!(comes_to(target.pid(), "T"), "{:?}", target.state());
}

#[test]
fn system_calls_that_were_interrupted_go_on_as_if_nothing_had_been() {
    let target = Target::new("calls");
    for _ in 0..30 {
        drop(target.hold());
        std::thread::sleep(Duration::from_millis(10));
    }
    // It waits until its input ends, however long this took.
    assert_eq!(target.rest(), "done\n");
}

#[test]
fn no_signal_is_lost_and_none_comes_twice() {
    const SENT: usize = 2000;
    let target = Target::new("listens");
    let pid = target.pid().cast_signed();
    let sender = std::thread::spawn(move || {
        for _ in 0..SENT {
            // SAFETY: takes numbers only; the child has not been waited for.
            while unsafe { libc::kill(pid, libc::SIGRTMIN()) } != 0 {}
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let mut met = 0;
    while !sender.is_finished() {
        let hold = target.hold();
        met += usize::from(hold.snapshot().threads[0].stop.signal != 0);
    }
    sender.join().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    eprintln!("stopped {met} times with a signal about to be delivered");
    assert_eq!(target.rest(), format!("received {SENT}\n"));
}

#[test]
fn threads_that_come_and_go_are_all_caught() {
    let target = Target::new("churn");
    for _ in 0..20 {
        let hold = target.hold();
        let snapshot = hold.snapshot();
        assert!(hold.still_holds());
        std::thread::sleep(Duration::from_millis(5));
        assert!(hold.still_holds(), "nobody made a thread meanwhile");
        let known = snapshot.threads.iter().map(|thread| thread.id);
        let known: Vec<u32> = known.chain(snapshot.absent.iter().map(|task| task.id)).collect();
        for task in std::fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap() {
            let id: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
            assert!(known.contains(&id), "{id} is not among {known:?}");
        }
        assert!(snapshot.absent.iter().all(|task| task.why == Absence::Exited), "{:?}", snapshot.absent);
    }
    assert!(comes_to(target.pid(), "RSD"));
}

#[test]
fn hundreds_of_threads_stand_still_and_run_on() {
    let target = Target::new("many");
    for _ in 0..5 {
        let options = Options { deadline: Duration::from_secs(20), ..Options::default() };
        let hold = Hold::stop(target.pid(), &options).unwrap();
        let snapshot = hold.snapshot();
        assert!(snapshot.threads.len() >= 225, "{} threads", snapshot.threads.len());
        assert!(hold.still_holds() && hold.is_mapped_as_read());
        assert!(snapshot.absent.iter().all(|task| task.why == Absence::Exited), "{:?}", snapshot.absent);
    }
    let output = run(target.pid(), &["--timeout", "20000"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(comes_to(target.pid(), "S"));
}

#[test]
fn killed_at_any_moment_we_leave_the_process_running_with_all_its_signals() {
    const KILLS: usize = 100;
    let target = Target::new("listens");
    let churn = Target::new("churn");
    let mut sent = 0;
    for round in 0..KILLS {
        let pid = if round % 2 == 0 { target.pid() } else { churn.pid() };
        let mut ours = surestack().arg(pid.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_micros(u64::try_from(round).unwrap() * 397 % 30_000);
        while Instant::now() < until {
            target.signal(libc::SIGRTMIN());
            sent += 1;
            std::thread::sleep(Duration::from_micros(500));
        }
        ours.kill().unwrap();
        ours.wait().unwrap();
        assert!(comes_to(pid, "RSD"), "{:?}", state(pid));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(target.rest(), format!("received {sent}\n"));
}

#[test]
fn a_process_that_exits_half_way_gets_a_clear_answer() {
    let (mut whole, mut refused) = (0, 0);
    for round in 0..60u32 {
        let target = Target::of(Command::new(targets()).args(["short", &(50_000_000 + round * 1_000_000).to_string()]));
        let output = run(target.pid(), &["--timeout", "300"]);
        let error = text(&output.stderr);
        match output.status.code() {
            Some(0 | 4) => whole += 1,
            Some(3) => {
                refused += 1;
                let known = ["it exited while", "no such process", "has exited (a zombie"];
                assert!(known.iter().any(|known| error.contains(known)), "{error}");
            }
            other => panic!("{other:?} {error}"),
        }
    }
    eprintln!("{whole} reports, {refused} had exited");
}

#[test]
fn a_vfork_parent_is_named_as_running_and_its_child_is_one_of_the_threads() {
    let target = Target::new("vfork");
    assert!(comes_to(target.pid(), "D"));
    let before = Instant::now();
    let hold =
        Hold::stop(target.pid(), &Options { deadline: Duration::from_millis(300), ..Options::default() }).unwrap();
    assert!(before.elapsed() < Duration::from_secs(20), "the stop is bounded");
    let [parent] = hold.snapshot().absent.as_slice() else { panic!("{:?}", hold.snapshot().absent) };
    assert_eq!((parent.id, parent.why), (target.pid(), Absence::Running));
    let [child] = hold.snapshot().threads.as_slice() else { panic!("one task can be stopped") };
    assert!(hold.doing(child.id).unwrap().contains("shares the memory"));
    let child = child.id;
    assert!(hold.snapshot().space.may_change && !hold.is_mapped_as_read(), "its parent may map what it wants");
    drop(hold);
    assert!(comes_to(target.pid(), "D"));
    assert!(comes_to(child, "S"));
    let output = run(target.pid(), &["--timeout", "300", "--json"]);
    assert_eq!(output.status.code(), Some(4), "the report is partial");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = json["threads"][0]["verdict"].to_string();
    assert!(verdict.contains("unreliable") && verdict.contains("modules-changed"), "{verdict}");
    // SAFETY: takes numbers only; the child lives as long as its parent waits for it.
    unsafe { libc::kill(child.cast_signed(), libc::SIGKILL) };
}

#[test]
fn a_task_that_shares_the_memory_is_stopped_like_a_thread() {
    let target = Target::new("clone");
    let hold = target.hold();
    let [first, other] = hold.snapshot().threads.as_slice() else { panic!("two tasks") };
    assert_eq!(first.id, target.pid());
    assert!(hold.doing(other.id).unwrap().contains("shares the memory"));
    assert_eq!((hold.snapshot().absent.len(), hold.snapshot().gaps.len()), (0, 0));
    let other = other.id;
    assert!(hold.still_holds());
    drop(hold);
    assert!(comes_to(other, "S"));
    // SAFETY: takes numbers only; the target is its parent and does not wait for it.
    unsafe { libc::kill(other.cast_signed(), libc::SIGKILL) };
}

#[test]
fn a_process_whose_first_thread_has_exited_is_read_by_another() {
    let target = Target::new("headless");
    let hold = target.hold();
    let snapshot = hold.snapshot();
    assert_eq!(snapshot.threads.len(), 1);
    assert!(snapshot.space.modules.len() > 2 && snapshot.process.pid == Some(target.pid()));
    assert!(matches!(snapshot.absent.as_slice(), [task] if task.why == Absence::Exited && task.id == target.pid()));
}

#[test]
fn names_that_are_no_text_are_printed_without_harm() {
    let target = Target::new("name");
    let output = run(target.pid(), &[]);
    assert_eq!(output.status.code(), Some(0));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("a\u{fffd})"), "{report}");
}

#[test]
fn files_are_found_deleted_and_in_other_mount_namespaces_with_and_without_capabilities() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let copy = program("deleted", |path| assert!(std::fs::copy(targets(), path).is_ok()));
    let deleted = Target::of(Command::new(&copy).arg("threads"));
    std::fs::remove_file(&copy).unwrap();
    let script = "mount -t tmpfs none /mnt && cp \"$0\" /mnt/only-here && exec /mnt/only-here threads";
    let elsewhere = Target::of(Command::new("unshare").args(["-m", "sh", "-c", script]).arg(targets()));
    for target in [&deleted, &elsewhere] {
        let hold = target.hold();
        let modules = &hold.snapshot().space.modules;
        assert!(modules.iter().filter(|module| module.identity == Identity::Mapped).count() >= 3, "{modules:?}");
        drop(hold);
        // Without the capability that /proc/PID/map_files asks for.
        let mut bare = Command::new("setpriv");
        bare.args(["--bounding-set", "-sys_admin,-checkpoint_restore", "--"]).arg(surestack().get_program());
        let output = bare.args(["process", &target.pid().to_string()]).output().unwrap();
        let report = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
        assert!(report.contains("sleeps+"), "{report}");
    }
}

#[test]
fn an_owner_may_look_and_others_are_told_which_permission_is_missing() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let as_nobody = |pid: u32| surestack().arg(pid.to_string()).uid(NOBODY).gid(NOBODY).output().unwrap();
    let own = Target::of(Command::new(targets()).arg("threads").uid(NOBODY).gid(NOBODY));
    let output = as_nobody(own.pid());
    let report = text(&output.stdout);
    assert!(report.contains("sleeps+") && report.contains("main+"), "{report}{}", text(&output.stderr));
    assert!(comes_to(own.pid(), "S"), "{:?}", own.state());

    let theirs = Target::new("threads");
    let output = as_nobody(theirs.pid());
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    assert!(error.contains("runs as user 0 and we as user 65534") && error.contains("CAP_SYS_PTRACE"), "{error}");
    let hidden = Target::of(Command::new(targets()).arg("hidden").uid(NOBODY).gid(NOBODY));
    let error = text(&as_nobody(hidden.pid()).stderr);
    assert!(error.contains("not dumpable") && error.contains("CAP_SYS_PTRACE"), "{error}");
    assert!(comes_to(theirs.pid(), "S") && comes_to(hidden.pid(), "S"));
}
