//! `surestack crash-helper`: a process that crashed and waits in its handler, read from outside.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "SURESTACK_TEST_CRASHES_IN";

extern "C" fn sleeper(_signal: i32) {
    loop {
        std::thread::sleep(Duration::from_secs(100));
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn surestack_test_crashes(at: *mut u8) {
    // SAFETY: none: this is the crash.
    unsafe { at.write_volatile(1) };
    std::hint::black_box(at);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn surestack_test_waits() {
    std::thread::sleep(Duration::from_secs(100));
    std::hint::black_box(());
}

/// Not a test of its own: what the others start. Crashes, reports, and waits in the handler that was there before.
#[test]
fn a_child_crashes_and_waits() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    // SAFETY: sleeps.
    unsafe { libc::signal(libc::SIGSEGV, sleeper as *const () as libc::sighandler_t) };
    surestack::Handler::builder().directory(&directory).install().unwrap().keep();
    for _ in 0..3 {
        std::thread::Builder::new().name("waits".to_owned()).spawn(|| surestack_test_waits()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    surestack_test_crashes(std::hint::black_box(std::ptr::without_provenance_mut(0x10)));
}

struct Crashed {
    child: Child,
    directory: PathBuf,
    record: PathBuf,
}

impl Crashed {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("surestack-helper-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_child_crashes_and_waits", "--nocapture"])
            .env(CHILD, &directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        // The file has its final name when the report is done.
        let record = loop {
            let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
            let done = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.len() > 1000);
            if let Some(record) = files.filter(|path| path.extension().is_some_and(|e| e == "surestack")).find(done) {
                break record;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "no record in {}", directory.display());
            std::thread::sleep(Duration::from_millis(50));
        };
        std::thread::sleep(Duration::from_secs(1));
        Self { child, directory, record }
    }

    fn helper(&self, arguments: &[&str]) -> Output {
        let mut helper = Command::new(env!("CARGO_BIN_EXE_surestack"));
        helper.args(["crash-helper", &self.child.id().to_string(), "--record"]).arg(&self.record);
        helper.args(arguments).current_dir(&self.directory).output().unwrap()
    }

    /// The letter of each thread's state.
    fn states(&self) -> Vec<char> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stat = |path: &Path| fs::read_to_string(path.join("stat")).unwrap();
        let state = |stat: String| stat.rsplit(") ").next().unwrap().chars().next().unwrap();
        tasks.map(|entry| state(stat(&entry.unwrap().path()))).collect()
    }
}

impl Drop for Crashed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn functions(thread: &Value) -> Vec<&str> {
    let frames = thread["frames"].as_array().unwrap();
    frames.iter().filter_map(|frame| frame["function"].as_str()).collect()
}

#[test]
fn every_thread_is_walked_with_the_evidence_of_files_and_goes_on() {
    let crashed = Crashed::new("whole");
    let output = crashed.helper(&["--json", "out.json", "--text", "out.txt", "--deadline", "120000"]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(crashed.directory.join("out.json")).unwrap()).unwrap();
    let threads = report["threads"].as_array().unwrap();
    let first = functions(&threads[0]);
    assert!(first[0].contains("surestack_test_crashes"), "{first:?}");
    assert_eq!(threads[0]["verdict"]["verdict"], "reliable", "{}", threads[0]["verdict"]);
    let waits = |thread: &&Value| functions(thread).iter().any(|name| name.contains("surestack_test_waits"));
    let waiting: usize =
        threads.iter().filter(waits).map(|group| 1 + group["same_stack"].as_array().unwrap().len()).sum();
    assert_eq!(waiting, 3, "{:?}", threads.iter().map(functions).collect::<Vec<_>>());
    let text = fs::read_to_string(crashed.directory.join("out.txt")).unwrap();
    assert!(text.contains("SIGSEGV") && text.contains("surestack_test_crashes"), "{text}");
    assert!(crashed.states().iter().all(|state| matches!(state, 'S' | 'R')), "{:?}", crashed.states());
}

#[test]
fn where_it_may_not_be_read_the_record_is_reported_and_that_is_said() {
    let crashed = Crashed::new("traced");
    let pid = crashed.child.id();
    // Whoever traces it already keeps others from doing so.
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) }, 0);
    let output = crashed.helper(&["--deadline", "120000"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("surestack_test_crashes"), "{text}");
    assert!(text.contains("the helper process should have added") && text.contains("traces it already"), "{text}");
}

#[test]
fn when_the_time_is_over_it_ends_and_nobody_stays_stopped() {
    let crashed = Crashed::new("deadline");
    let began = Instant::now();
    let output = crashed.helper(&["--deadline", "30"]);
    assert_eq!(output.status.signal(), Some(libc::SIGALRM), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(began.elapsed() < Duration::from_secs(20));
    std::thread::sleep(Duration::from_millis(200));
    assert!(crashed.states().iter().all(|state| matches!(state, 'S' | 'R')), "{:?}", crashed.states());
}
