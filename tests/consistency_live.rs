//! The decision over running processes, and the permit that comes with it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use surestack::consistency::{Named, Obstacle, Overall, Reason, Request, Standing, State, check};
use surestack::snapshot::process::hold::{Hold, Options};
use surestack::trace::Known;

const PROGRAM: &str = r#"
#include <pthread.h>
#include <unistd.h>
#define APART __attribute__((noinline, noclone))
volatile long sink;
APART long idle(long n) { sink = n; return n + 1; }
APART static long waits(void) { pause(); return sink; }
static pthread_barrier_t ready;
APART static void *worker(void *p) { pthread_barrier_wait(&ready); sink = waits(); return p; }
int main(void) {
    pthread_t thread;
    pthread_barrier_init(&ready, 0, 4);
    for (int i = 0; i < 3; i++) pthread_create(&thread, 0, worker, 0);
    sink = idle(1);
    pthread_barrier_wait(&ready);
    usleep(500000);
    (void)!write(1, "!", 1);
    waits();
    return 0;
}
"#;

/// Four terabytes of which one page was written: a word that leads into `parked`, as a coroutine's stack would have. And a page
/// like that which nobody may read or write at the moment.
const SPARSE: &str = r#"
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long parked(long n) { __asm__ volatile("nop; nop; nop; nop" : "+r"(n)); return n * 3; }
int main(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *sparse = mmap(0, 1ul << 42, PROT_READ | PROT_WRITE, flags, -1, 0);
    char *shut = mmap(0, 1ul << 42, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (sparse == MAP_FAILED || shut == MAP_FAILED) return 1;
    ((uintptr_t *)(sparse + (1ul << 41)))[9] = (uintptr_t)parked + 2;
    ((uintptr_t *)(shut + (1ul << 41)))[9] = (uintptr_t)parked + 2;
    mprotect(shut, 1ul << 42, PROT_NONE);
    (void)!write(1, "!", 1);
    pause();
    return 0;
}
"#;

/// The program, running.
struct Running {
    directory: PathBuf,
    child: Child,
}

impl Running {
    fn new(name: &str) -> Self {
        Self::of(name, PROGRAM)
    }

    fn of(name: &str, source: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("surestack-live-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("prog.c"), source).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-O2", "-pthread", "-o", "prog", "prog.c"]).current_dir(&directory);
        assert!(gcc.status().unwrap().success());
        let mut child = Command::new(directory.join("prog")).stdout(Stdio::piped()).spawn().unwrap();
        // It writes a byte when all of its threads wait.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        sleep(Duration::from_millis(200));
        Self { directory, child }
    }

    fn hold(&self) -> Hold {
        Hold::stop(self.child.id(), &Options::default()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn request(targets: &str) -> Request<'static> {
    Request { names: Named::list(targets).unwrap(), ..Request::default() }
}

#[test]
fn a_function_that_nobody_is_in_may_be_replaced_while_the_process_is_held() {
    let mut running = Running::new("clear");
    let hold = running.hold();
    let checked = check(&hold, &Known::default(), &request("idle")).unwrap();
    assert_eq!(checked.examined().decision.overall, Overall::Apply);
    let permit = checked.permit().unwrap();
    assert!(permit.holds() && permit.targets()[0].name == "idle");
    // Nobody can keep a process from being killed, and a permit says so.
    running.child.kill().unwrap();
    sleep(Duration::from_millis(200));
    assert!(!permit.holds());
    assert!(checked.permit().is_none());
    let again = check(&hold, &Known::default(), &request("idle")).unwrap();
    let changed = Reason::Process(Obstacle::ThreadsChanged);
    match &again.examined().decision.overall {
        Overall::Apply => panic!("over a dead process"),
        Overall::RetryLater(reasons) | Overall::Refuse(reasons) => assert!(reasons.contains(&changed), "{reasons:?}"),
    }
    drop(hold);
    let _ = running.child.wait();
}

#[test]
fn what_was_learned_before_somebody_patched_a_function_on_the_stack_allows_nothing() {
    let running = Running::new("patched");
    let known = Known::default();
    let hold = running.hold();
    let checked = check(&hold, &known, &request("idle")).unwrap();
    assert_eq!(checked.examined().decision.overall, Overall::Apply);
    let State::InCall { behind: trace, .. } = &checked.examined().traces[0].state else { panic!("it waits in a call") };
    let in_waits = trace.frames[1].pc.value();
    drop(hold);
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", running.child.id())).unwrap();
    memory.write_all_at(&[0xeb, 0xfe], in_waits).unwrap();
    let hold = running.hold();
    let decision = check(&hold, &known, &request("idle")).unwrap().examined().decision.clone();
    assert_ne!(decision.overall, Overall::Apply);
    let untrusted = |standing: &Standing| matches!(standing, Standing::Untrusted { .. });
    assert!(decision.threads.iter().all(|answer| untrusted(&answer.standing)), "{:?}", decision.threads);
}

#[test]
fn memory_that_was_never_written_is_passed_over_and_what_lies_in_the_middle_of_it_is_found() {
    let running = Running::of("sparse", SPARSE);
    let hold = running.hold();
    let checked = check(&hold, &Known::default(), &request("parked")).unwrap();
    let Overall::RetryLater(reasons) = &checked.examined().decision.overall else {
        panic!("{:?}", checked.examined().decision)
    };
    let words = reasons.iter().filter(|reason| matches!(reason, Reason::Process(Obstacle::Unlisted { .. })));
    assert_eq!((words.count(), reasons.len()), (2, 2), "{reasons:?}");
}

#[test]
fn every_thread_that_waits_in_a_target_is_named_and_no_permit_given() {
    let running = Running::new("blocked");
    let hold = running.hold();
    let checked = check(&hold, &Known::default(), &request("waits")).unwrap();
    let decision = &checked.examined().decision;
    let blocked = |standing: &Standing| matches!(standing, Standing::Blocked { wait: Some(_), .. });
    assert_eq!(decision.threads.len(), 4);
    assert!(decision.threads.iter().all(|answer| blocked(&answer.standing)), "{:?}", decision.threads);
    assert_eq!(decision.overall, Overall::RetryLater((0..4).map(Reason::Thread).collect()));
    assert!(checked.permit().is_none());
    let workers = check(&hold, &Known::default(), &request("worker")).unwrap();
    let clear = workers.examined().decision.threads.iter().filter(|answer| answer.standing == Standing::Clear);
    assert_eq!(clear.count(), 1, "main is no worker");
}

#[test]
fn the_command_lets_the_process_run_on_and_a_dead_one_is_unreadable() {
    let running = Running::new("command");
    let targets = running.directory.join("targets");
    let run = |pid: &str, text: &str| {
        std::fs::write(&targets, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
        command.args(["check", "--retries", "2", "--every", "10", pid, "--functions"]).arg(&targets);
        command.output().unwrap().status.code().unwrap()
    };
    let pid = running.child.id().to_string();
    assert_eq!((run(&pid, "idle"), run(&pid, "waits"), run(&pid, "nothing")), (0, 1, 2));
    assert_eq!(run(&pid, "pause"), 5, "the C library has functions that nothing describes");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("State:\tS"), "{status}");
    assert_eq!(run("4194305", "idle"), 3);
}
