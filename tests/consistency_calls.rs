//! Threads stopped where the kernel decides how they go on: in system calls that may be begun anew, before signals, and
//! where only a tracer stops them. Never is one called clear that will be in a target.
#![cfg(target_arch = "x86_64")]

mod temporary;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use surestack::consistency::{Examined, Named, Overall, Request, Standing, Target, Vouch, check, examine};
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack::snapshot::process::hold::{Hold, Options};
use surestack::trace::Known;
use surestack::walk::{Register, Regs, Stop};

/// Where the calls of old lie that the kernel emulates.
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = temporary::path("calls");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/calls/calls.c");
        let flags = ["-g", "-O1", "-fno-omit-frame-pointer", source, "-o"];
        assert!(Command::new("gcc").args(flags).arg(&path).status().unwrap().success());
        path
    })
}

struct Running(Child);

impl Running {
    /// The program, waiting in its scene.
    fn new(scene: &str) -> Self {
        let mut command = Command::new(program());
        let mut child = command.arg(scene).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let running = Self(child);
        running.comes_to('S');
        running
    }

    /// Waits until it sleeps, and has for a while.
    fn comes_to(&self, state: char) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut seen = 0;
        while seen < 5 {
            assert!(Instant::now() < deadline, "it does not come to {state}");
            std::thread::sleep(Duration::from_millis(5));
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            let now = stat.rsplit(')').next().unwrap().trim_start().chars().next();
            seen = if now == Some(state) { seen + 1 } else { 0 };
        }
    }

    fn signal(&self, number: i32) {
        // SAFETY: takes numbers only; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0.id().cast_signed(), number) }, 0);
    }

    fn hold(&self) -> Hold {
        Hold::stop(self.0.id(), &Options::default()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the only thread stands to a function.
fn standing(hold: &Hold, target: &str) -> Standing {
    let request = Request { names: Named::list(&format!("{target} vouch")).unwrap(), ..Request::default() };
    only(check(hold, &Known::default(), &request).unwrap().examined())
}

fn only(examined: &Examined) -> Standing {
    let [answer] = &examined.decision.threads[..] else { panic!("one thread") };
    answer.standing.clone()
}

fn is_blocked(standing: &Standing) -> bool {
    matches!(standing, Standing::Blocked { .. })
}

#[test]
fn a_call_that_is_the_last_instruction_of_a_function_can_be_begun_anew_in_it() {
    for scene in ["pauses", "sleeps"] {
        let running = Running::new(scene);
        let hold = running.hold();
        let snapshot = hold.snapshot();
        let regs = &snapshot.threads[0].regs;
        let anew = snapshot.restarted(regs).unwrap();
        assert_eq!(anew.get(Register::PC), regs.get(Register::PC).map(|pc| pc - 2));
        let standings = ["ends", "begins", "main", "idle", "skips"].map(|target| standing(&hold, target));
        assert_eq!(standings.each_ref().map(is_blocked), [true, true, true, false, false], "{scene}: {standings:?}");
        assert_eq!(standings[3..], [Standing::Clear, Standing::Clear], "{scene}");
    }
}

#[test]
fn a_chain_that_is_another_one_if_the_call_is_begun_anew_is_looked_at_in_both_ways() {
    let running = Running::new("skips");
    let hold = running.hold();
    let standings = ["skips", "lands", "host", "far", "main"].map(|target| standing(&hold, target));
    assert!(standings.iter().all(is_blocked), "{standings:?}");
    // `lands` is run into with a frame that is not the one it is called with: nothing proves its row.
    let idle = standing(&hold, "idle");
    assert!(matches!(idle, Standing::Untrusted { .. }), "{idle:?}");
}

#[test]
fn below_a_handler_a_call_that_will_be_begun_anew_blocks_and_one_that_has_failed_does_not() {
    for (scene, ends, begins) in [("restarted", true, false), ("failed", false, true)] {
        let running = Running::new(scene);
        running.signal(libc::SIGUSR1);
        std::thread::sleep(Duration::from_millis(50));
        running.comes_to('S');
        let hold = running.hold();
        let standings = ["caught", "ends", "begins", "main", "idle"].map(|target| standing(&hold, target));
        let expected = [true, ends, begins, true, false];
        assert_eq!(standings.each_ref().map(is_blocked), expected, "{scene}: {standings:?}");
        assert_eq!(standings[4], Standing::Clear);
    }
}

#[test]
fn a_handler_that_a_pending_signal_will_run_is_not_returned_to_and_may_be_replaced() {
    let running = Running::new("pauses");
    let hold = running.hold();
    running.signal(libc::SIGUSR1);
    let request = Request { names: Named::list("caught vouch").unwrap(), ..Request::default() };
    let known = Known::default();
    let checked = check(&hold, &known, &request).unwrap();
    assert_eq!(checked.examined().decision.overall, Overall::Apply, "it begins at its first byte");
    drop(hold);
    std::thread::sleep(Duration::from_millis(50));
    running.comes_to('S');
    assert!(is_blocked(&standing(&running.hold(), "caught")), "now it runs");
}

/// The program, traced by this thread from its first instruction.
struct Traced(Child);

impl Traced {
    fn new(scene: &str) -> Self {
        let mut command = Command::new(program());
        let trace = || {
            // SAFETY: takes no pointers with PTRACE_TRACEME; async-signal-safe between fork and exec.
            let done = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: `trace` makes one system call and allocates nothing.
        unsafe { command.arg(scene).stdout(Stdio::null()).pre_exec(trace) };
        let traced = Self(command.spawn().unwrap());
        traced.wait();
        // It raises a SIGSTOP where its scene begins.
        assert_eq!(libc::WSTOPSIG(traced.go_on(libc::PTRACE_CONT)), libc::SIGSTOP);
        traced
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is ours to write.
        assert_eq!(unsafe { libc::waitpid(self.0.id().cast_signed(), &mut status, 0) }, self.0.id().cast_signed());
        assert!(libc::WIFSTOPPED(status), "it has ended: {status:#x}");
        status
    }

    /// Lets it run, and says how it stopped.
    fn go_on(&self, request: libc::c_uint) -> i32 {
        // SAFETY: these requests take numbers.
        assert_eq!(unsafe { libc::ptrace(request, self.0.id().cast_signed(), 0, 0) }, 0);
        self.wait()
    }

    fn registers(&self) -> [u8; 216] {
        let mut block = [0; 216];
        // SAFETY: the block has the size of `struct user_regs_struct` on x86_64.
        let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.0.id().cast_signed(), 0, block.as_mut_ptr()) };
        assert_eq!(read, 0);
        block
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A traced program, and the functions that are asked about.
struct Asked {
    traced: Traced,
    process: StoppedProcess,
    known: Known,
    targets: Vec<Target>,
}

impl Asked {
    fn new(scene: &str, targets: &[&str]) -> Self {
        let traced = Traced::new(scene);
        let mut process = StoppedProcess::open(traced.0.id(), Find::default()).unwrap();
        let known = Known::default();
        let snapshot = process.stopped_at(traced.0.id(), &traced.registers(), Stop::default()).unwrap();
        let lines: Vec<String> = targets.iter().map(|target| format!("{target} vouch")).collect();
        let request = Request { names: Named::list(&lines.join("\n")).unwrap(), ..Request::default() };
        let targets = examine(snapshot, &known, &request).unwrap().targets;
        Self { traced, process, known, targets }
    }

    fn regs(&mut self) -> Regs {
        let stopped = self.process.stopped_at(self.traced.0.id(), &self.traced.registers(), Stop::default());
        stopped.unwrap().threads[0].regs
    }

    fn standings(&mut self) -> Vec<Standing> {
        self.regs();
        let snapshot = self.process.snapshot();
        let vouches = vec![Vouch::StacksListed, Vouch::NoJumps];
        let request =
            |target: &Target| Request { targets: vec![target.clone()], vouches: vouches.clone(), ..Request::default() };
        self.targets.iter().map(|target| only(&examine(snapshot, &self.known, &request(target)).unwrap())).collect()
    }
}

#[test]
fn inside_the_vdso_and_before_an_emulated_vsyscall_the_callers_block() {
    /// The clock is read again when it has changed meanwhile, and at this pace it always has.
    const LOOKED_AT: usize = 60;
    let mut asked = Asked::new("steps", &["main", "idle", "old_time"]);
    let (mut vdso, mut clear, mut vsyscall) = (0, 0, 0);
    while libc::WSTOPSIG(asked.traced.go_on(libc::PTRACE_SINGLESTEP)) != libc::SIGSTOP {
        let pc = asked.regs().get(Register::PC).unwrap();
        let module = asked.process.snapshot().space.module(pc);
        let in_vdso = module.is_some_and(|(_, module)| module.path == Path::new("[vdso]"));
        if in_vdso && vdso < LOOKED_AT {
            vdso += 1;
            let [main, idle, _] = &asked.standings()[..] else { panic!("three targets") };
            assert!(is_blocked(main), "{pc:#x}: {main:?}");
            clear += usize::from(*idle == Standing::Clear);
        } else if pc >= VSYSCALL {
            vsyscall += 1;
            let [main, _, caller] = &asked.standings()[..] else { panic!("three targets") };
            assert!(*main != Standing::Clear && *caller != Standing::Clear, "{pc:#x}: {main:?}, {caller:?}");
        }
    }
    eprintln!("{vdso} instructions in the vDSO, clear at {clear} of them; {vsyscall} in the vsyscall page");
    assert!(vdso > 10 && clear == vdso);
    if std::fs::read_to_string("/proc/self/maps").unwrap().contains("[vsyscall]") {
        assert!(vsyscall > 0);
    } else {
        eprintln!("skipped: this kernel has no vsyscall page");
    }
}

#[test]
fn stopped_before_its_system_call_is_made_a_thread_blocks_like_one_in_it() {
    let mut asked = Asked::new("traced", &["ends", "begins", "idle"]);
    let mut met = 0;
    // Each call stops twice: before it is made, when its result says nothing yet, and after.
    while met < 2 {
        assert_eq!(libc::WSTOPSIG(asked.traced.go_on(libc::PTRACE_SYSCALL)), libc::SIGTRAP);
        if asked.regs().get(Register::SYSCALL) == Some(libc::SYS_getppid.cast_unsigned()) {
            met += 1;
            let standings = asked.standings();
            assert_eq!(standings.iter().map(is_blocked).collect::<Vec<_>>(), [true, true, false], "{standings:?}");
        }
    }
}

#[test]
fn stopped_by_a_seccomp_filter_a_thread_blocks_where_its_call_would_be_made() {
    let mut asked = Asked::new("filtered", &["ends", "begins", "idle"]);
    // SAFETY: this request takes numbers.
    let set = unsafe {
        libc::ptrace(libc::PTRACE_SETOPTIONS, asked.traced.0.id().cast_signed(), 0, libc::PTRACE_O_TRACESECCOMP)
    };
    assert_eq!(set, 0);
    let status = asked.traced.go_on(libc::PTRACE_CONT);
    assert_eq!(status >> 8, libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8);
    assert_eq!(asked.regs().get(Register::SYSCALL), Some(libc::SYS_getppid.cast_unsigned()));
    let standings = asked.standings();
    assert_eq!(standings.iter().map(is_blocked).collect::<Vec<_>>(), [true, true, false], "{standings:?}");
}
