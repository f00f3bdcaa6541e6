//! The decision over cores of real programs.

mod schema;

use std::path::PathBuf;
use std::process::Command;
use surestack::Error;
use surestack::consistency::{
    Examined, ListedStack, Named, Obstacle, Of, Overall, Reason, Request, Standing, Vouch, Whose, examine, json,
};
use surestack::image::Find;
use surestack::snapshot::{Absence, Absent, Snapshot, core_file};
use surestack::trace::Known;
use surestack::walk::{CodeAddress, Register, Regs};

const SCHEMA: &str = include_str!("../docs/check.schema.json");

/// Every program below begins like this: `crash` ends it with a core, `APART` functions stay functions.
const HEAD: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#define APART __attribute__((noinline, noclone))
volatile long sink;
APART static long crash(volatile long *p) { *p = sink; return sink; }
APART long other(long n) { sink = n; return n + 1; }
"#;

/// A program that crashed in a directory of its own.
struct Crash {
    directory: PathBuf,
}

impl Crash {
    fn new(name: &str, body: &str, flags: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("surestack-consistency-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let crash = Self { directory };
        std::fs::write(crash.path("prog.c"), format!("{HEAD}{body}")).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-pthread"]).args(flags).args(["-o", "prog", "prog.c"]).current_dir(&crash.directory);
        assert!(gcc.status().unwrap().success());
        let script = "ulimit -c unlimited; exec ./prog";
        let status = Command::new("sh").args(["-c", script]).current_dir(&crash.directory).status().unwrap();
        assert!(!status.success());
        let files = std::fs::read_dir(&crash.directory).unwrap().map(|entry| entry.unwrap().path());
        let core = files.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("core"));
        std::fs::rename(core.expect("core_pattern is `core`"), crash.path("the.core")).unwrap();
        crash
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open(&self) -> Snapshot {
        core_file::open(&self.path("the.core"), &Find::default()).unwrap()
    }

    fn examine(&self, targets: &str, vouches: &[Vouch]) -> Result<Examined, Error> {
        let examined = examine(&self.open(), &Known::default(), &request(targets, vouches))?;
        assert_eq!(schema::breaks(SCHEMA, &json(&examined)), Vec::<String>::new());
        Ok(examined)
    }
}

impl Drop for Crash {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn request(targets: &str, vouches: &[Vouch]) -> Request<'static> {
    Request { names: Named::list(targets).unwrap(), vouches: vouches.to_vec(), ..Request::default() }
}

fn standing(examined: &Examined) -> &Standing {
    &examined.decision.threads[0].standing
}

fn overall(examined: &Examined) -> &Overall {
    &examined.decision.overall
}

/// Numbers of the frames in targets, of the first thread.
fn frames(examined: &Examined) -> Vec<usize> {
    match standing(examined) {
        Standing::Blocked { hits, .. } => hits.iter().map(|hit| hit.frame).collect(),
        other => panic!("{other:?}"),
    }
}

fn obstacles(examined: &Examined) -> Vec<&Obstacle> {
    let reasons = match overall(examined) {
        Overall::Apply => &[][..],
        Overall::RetryLater(reasons) | Overall::Refuse(reasons) => reasons,
    };
    let process = reasons.iter().filter_map(|reason| match reason {
        Reason::Process(obstacle) => Some(obstacle),
        _ => None,
    });
    process.collect()
}

/// crash ◄ last (tail-called by first) ◄ work (which inlined `helper`; its `.cold` part called) ◄ main
const PLAIN: &str = r#"
static inline __attribute__((always_inline)) long helper(long n) { return crash(0) + n; }
APART static long last(long n) { sink = n; long r = helper(n); sink = r; return r + 1; }
APART static long first(long n) { sink = n; return last(n + 1); }
__attribute__((cold)) APART static long rare(long n) { long r = first(n); sink = r; return r; }
APART static long work(long n) {
    long a = sink;
    if (__builtin_expect(n > 0, 0)) { long r = rare(n); sink = r + a; return r * a; }
    return a;
}
static long apart_file(void) { return 7; }
int main(int argc, char **argv) { (void)argv; sink = work(argc) + other(apart_file()); return 0; }
"#;

#[test]
fn functions_on_the_stack_block_and_those_that_are_not_there_do_not() {
    let crash = Crash::new("plain", PLAIN, &["-g"]);
    let ask = |targets: &str| crash.examine(targets, &[]).unwrap();

    assert_eq!(frames(&ask("main\n")), [4]);
    assert_eq!(frames(&ask("crash\nrare")), [0, 2]);
    let cold = ask("work");
    assert_eq!(frames(&cold), [3]);
    let Standing::Blocked { hits, wait, .. } = standing(&cold) else { panic!() };
    let part = &cold.targets[0].live()[hits[0].part.unwrap()];
    assert_eq!((part.whose, part.name.as_deref()), (Whose::Split, Some("work.cold")));
    assert_eq!(wait.map(|wait| wait.frame), Some(4), "it has to return to main");
    assert!(matches!(overall(&cold), Overall::RetryLater(_)));

    let inlined = ask("helper");
    assert_eq!(frames(&inlined), [1]);
    assert_eq!(inlined.targets[0].live()[0].whose, Whose::Host);
    assert_eq!(inlined.targets[0].live()[0].name.as_deref(), Some("last"));

    // It has left the stack by its tail call, and the other was never called.
    for gone in ["first", "other"] {
        let clear = ask(gone);
        assert_eq!((standing(&clear), overall(&clear)), (&Standing::Clear, &Overall::Apply), "{gone}");
    }
}

#[test]
fn a_target_is_found_by_file_by_address_and_by_build_id() {
    let crash = Crash::new("places", PLAIN, &["-g"]);
    let named = crash.examine("prog:work\nprog.c:rare", &[]).unwrap();
    assert_eq!(frames(&named), [2, 3]);
    let body = named.targets[0].live()[0].range.clone();
    let ranged = crash.examine(&format!("{:#x}-{:#x}", body.start, body.end), &[]).unwrap();
    assert_eq!(ranged.targets[0].live().len(), 2, "with its cold part");
    assert_eq!(frames(&ranged), [3]);

    let snapshot = crash.open();
    let module = snapshot.space.modules.iter().find(|module| module.path.ends_with("prog")).unwrap();
    let id = module.build_id.as_ref().unwrap();
    let linked = format!("buildid:{id}:{:#x}-{:#x}", body.start - module.bias, body.end - module.bias);
    assert_eq!(frames(&crash.examine(&linked, &[]).unwrap()), [3]);
    for nowhere in ["buildid:00:0x0-0x10", "0x10-0x20"] {
        assert!(matches!(crash.examine(nowhere, &[]), Err(Error::BadTarget { .. })), "{nowhere}");
    }
}

#[test]
fn a_name_that_matches_nothing_or_several_functions_is_an_error_that_helps() {
    let crash = Crash::new("names", PLAIN, &["-g"]);
    let Err(Error::NoFunction { near, .. }) = crash.examine("wrok", &[]) else { panic!() };
    assert!(near.iter().any(|name| name == "work"), "{near:?}");
    // The C library has one, and so has the loader.
    let Err(Error::SeveralFunctions { found, .. }) = crash.examine("_dl_catch_error", &[]) else { panic!() };
    assert!(found.len() >= 2, "{found:?}");
    let both = crash.examine("_dl_catch_error all", &[]).unwrap();
    assert_eq!(both.targets.len(), found.len());
}

#[test]
fn where_inline_hosts_cannot_be_known_it_is_refused_unless_somebody_vouches() {
    for (name, flags) in [("no-dwarf", &[][..]), ("no-symbols", &["-s", "-rdynamic"][..])] {
        let crash = Crash::new(name, PLAIN, flags);
        let refused = crash.examine("other", &[]).unwrap();
        assert!(matches!(overall(&refused), Overall::Refuse(_)));
        assert!(matches!(obstacles(&refused)[..], [Obstacle::InlinesUnknown { .. }]), "{:?}", obstacles(&refused));
        for vouched in [crash.examine("other vouch", &[]), crash.examine("other", &[Vouch::RangesComplete])] {
            assert_eq!(overall(&vouched.unwrap()), &Overall::Apply, "{name}");
        }
    }
}

#[test]
fn folded_functions_and_such_without_size_or_description_are_refused() {
    let asm = r#"
__asm__(".text\n.globl sizeless\n.type sizeless,@function\nsizeless: ret\n.globl sized\n.type sized,@function\n"
        "sized: ret\n.size sized,.-sized\n.globl folded\n.type folded,@function\nfolded = other\n");
int main(void) { sink = crash(0); return 0; }
"#;
    let crash = Crash::new("folded", asm, &["-g"]);
    let why = |name: &str| {
        let refused = crash.examine(name, &[]).unwrap();
        assert!(matches!(overall(&refused), Overall::Refuse(_)), "{name}");
        let why = obstacles(&refused).into_iter().map(|obstacle| obstacle.to_string());
        why.collect::<Vec<_>>().join("; ")
    };
    assert!(why("sizeless").contains("does not say how long it is"));
    assert!(why("sized").contains("does not describe it"));
    assert!(why("other").contains("folded and other share their code"));
    assert!(why("main").contains("2 functions of prog have no debug information: "), "{}", why("main"));
}

#[test]
fn a_function_that_calls_setjmp_is_refused_unless_somebody_vouches() {
    let body = r#"
static jmp_buf place;
APART static long jumper(long n) { if (!setjmp(place)) sink = n; return sink + 1; }
static sigjmp_buf signals;
APART static long sigjumper(long n) { if (!sigsetjmp(signals, 1)) sink = n; return sink + 1; }
int main(int argc, char **argv) { (void)argv; sink = jumper(argc) + sigjumper(argc); sink = crash(0); return 0; }
"#;
    // With the large code model every call goes through a register.
    let large = ["-g", "-mcmodel=large", "-fno-pie", "-no-pie"];
    for flags in [&["-g"][..], &["-g", "-fno-plt"], &["-g", "-static"], &large] {
        let crash = Crash::new(&format!("setjmp{}", flags.len() + flags.last().unwrap().len()), body, flags);
        for target in ["jumper", "sigjumper"] {
            let vouched = [Vouch::RangesComplete];
            let refused = crash.examine(target, &vouched).unwrap();
            assert!(matches!(obstacles(&refused)[..], [Obstacle::Setjmp { .. }]), "{:?}", overall(&refused));
            let vouched = [Vouch::RangesComplete, Vouch::NoJumps];
            assert_eq!(overall(&crash.examine(target, &vouched).unwrap()), &Overall::Apply);
        }
        assert_eq!(overall(&crash.examine("other", &[Vouch::RangesComplete]).unwrap()), &Overall::Apply);
    }
}

/// A coroutine on the heap is left by swapcontext in `step`, called by `routine`; then main crashes.
const COROUTINE: &str = r#"
ucontext_t back, there;
char *stack;
APART static long step(long n) { swapcontext(&there, &back); sink = n; return n + 1; }
APART static void routine(void) { sink = step(3); sink = other(sink); }
APART static void start(void) {
    getcontext(&there);
    there.uc_stack.ss_sp = stack = malloc(1 << 16);
    there.uc_stack.ss_size = 1 << 16;
    there.uc_link = &back;
    makecontext(&there, routine, 0);
    swapcontext(&back, &there);
}
int main(void) { start(); sink = crash(0); return 0; }
"#;

fn symbol(snapshot: &Snapshot, name: &str) -> u64 {
    let module = snapshot.space.modules.iter().find(|module| module.path.ends_with("prog")).unwrap();
    let image = module.image.as_ref().unwrap();
    image.symbols().find(|symbol| symbol.name == name.as_bytes()).unwrap().address.wrapping_add(module.bias)
}

#[test]
fn a_coroutine_that_nobody_listed_blocks_by_its_return_addresses() {
    let crash = Crash::new("coroutine", COROUTINE, &["-g"]);
    for target in ["routine", "prog:step"] {
        let found = crash.examine(target, &[]).unwrap();
        assert_eq!(standing(&found), &Standing::Clear, "no thread is in it");
        assert!(matches!(overall(&found), Overall::RetryLater(_)));
        let places = obstacles(&found);
        assert!(!places.is_empty() && places.iter().all(|found| matches!(found, Obstacle::Unlisted { .. })));
    }
    assert_eq!(overall(&crash.examine("other", &[]).unwrap()), &Overall::Apply);
    // Somebody who vouches wrongly is believed: the search is what found it.
    assert_eq!(overall(&crash.examine("routine", &[Vouch::StacksListed]).unwrap()), &Overall::Apply);
}

#[test]
fn a_coroutine_that_is_listed_blocks_by_its_frames() {
    let crash = Crash::new("listed", COROUTINE, &["-g"]);
    let snapshot = crash.open();
    let word = |at: u64| snapshot.memory.word(at).unwrap();
    // glibc's ucontext_t: the registers lie from 40 on, in the order of REG_R8 … REG_RIP.
    let context = symbol(&snapshot, "there");
    let saved = |index: u64| word(context + 40 + 8 * index);
    let mut regs = Regs::new();
    for (register, index) in [(12, 4), (13, 5), (14, 6), (15, 7), (6, 10), (3, 11), (7, 15)] {
        regs.set(Register::general(register).unwrap(), saved(index));
    }
    regs.set_pc(CodeAddress::Return(saved(16)));
    let low = word(symbol(&snapshot, "stack"));
    let range = low..low + (1 << 16);
    let ask = |target: &str| {
        let stacks = vec![ListedStack { regs, range: range.clone() }];
        examine(&snapshot, &Known::default(), &Request { stacks, ..request(target, &[]) }).unwrap()
    };
    let found = ask("routine");
    let coroutine = &found.decision.threads[1];
    assert_eq!(coroutine.of, Of::Stack(0));
    let Standing::Blocked { hits, doubts, .. } = &coroutine.standing else { panic!("{:?}", coroutine.standing) };
    assert_eq!((hits.iter().map(|hit| hit.frame).collect::<Vec<_>>(), &doubts[..]), (vec![1], &[][..]));
    assert_eq!(obstacles(&found), Vec::<&Obstacle>::new(), "all of its memory is judged");
    // `start` returned; what it left on the stacks leads nowhere.
    let clear = ask("start");
    assert_eq!(clear.decision.threads[1].standing, Standing::Clear);
}

#[test]
fn a_target_below_a_signal_frame_blocks_from_the_alternate_stack() {
    let body = r#"
APART static void handler(int signal) { sink = crash(0) + signal; }
APART static long interrupted(long n) { raise(SIGUSR1); sink = n; return n + 1; }
int main(int argc, char **argv) {
    (void)argv;
    stack_t alternate = { .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
    sigaltstack(&alternate, 0);
    sigaction(SIGUSR1, &action, 0);
    sink = interrupted(argc);
    return 0;
}
"#;
    let crash = Crash::new("altstack", body, &["-g"]);
    let blocked = crash.examine("interrupted", &[]).unwrap();
    let Standing::Blocked { hits, wait, doubts } = standing(&blocked) else { panic!() };
    assert!(hits.len() == 1 && hits[0].frame > 3 && doubts.is_empty());
    assert_eq!(wait.unwrap().frame, hits[0].frame + 1);
    assert_eq!(obstacles(&blocked), Vec::<&Obstacle>::new(), "its return address is owned");
    assert_eq!(overall(&crash.examine("other", &[]).unwrap()), &Overall::Apply);
}

#[test]
fn what_a_call_left_below_the_stack_pointer_is_dead_and_in_a_frame_it_is_not() {
    let body = r#"
APART static long deep(long n) { return other(other(n)) + other(n + 1); }
APART static long target(long n) { sink = deep(n); return sink + 1; }
APART static long wide(long n) { volatile char room[4096]; room[n] = 1; return crash(0) + room[n]; }
APART static void *worker(void *p) { sink = target(1); pause(); return p; }
int main(int argc, char **argv) {
    (void)argv;
    pthread_t thread;
    pthread_create(&thread, 0, worker, 0);
    usleep(100000);
    sink = target(argc);
    if (WIDE) wide(argc); else crash(0);
    return 0;
}
"#;
    let narrow = Crash::new("narrow", body, &["-g", "-DWIDE=0"]);
    assert_eq!(overall(&narrow.examine("target", &[]).unwrap()), &Overall::Apply);
    let wide = Crash::new("wide", body, &["-g", "-DWIDE=1"]);
    let left_over = wide.examine("target", &[]).unwrap();
    let found = obstacles(&left_over);
    assert!(
        matches!(&found[..], [Obstacle::Unlisted { place, .. }] if place.starts_with("in a frame of thread")),
        "{found:?}"
    );
    assert_eq!(overall(&wide.examine("target", &[Vouch::FramesHoldNoStacks]).unwrap()), &Overall::Apply);
}

#[test]
fn a_pointer_to_a_function_is_no_way_back_into_it_and_a_label_inside_is() {
    let body = r#"
void *entry = other;
void **label;
APART static long labelled(long n) {
    static void *places[] = { &&one, &&two };
    label = places;
    goto *places[n & 1];
one: sink = 1; return other(n);
two: sink = 2; return other(n + 1);
}
int main(int argc, char **argv) { (void)argv; sink = labelled(argc); sink = crash(0); return 0; }
"#;
    let crash = Crash::new("pointers", body, &["-g"]);
    assert_eq!(overall(&crash.examine("other", &[]).unwrap()), &Overall::Apply);
    let labels = crash.examine("labelled", &[]).unwrap();
    assert!(obstacles(&labels).iter().all(|found| matches!(found, Obstacle::Unlisted { .. })));
    let at = obstacles(&labels).into_iter().filter_map(|found| match found {
        Obstacle::Unlisted { at, .. } => Some(*at),
        _ => None,
    });
    let at: Vec<u64> = at.collect();
    let (low, high) = (*at.iter().min().unwrap(), *at.iter().max().unwrap() + 8);
    let vouched = [Vouch::NoStackIn(low..high)];
    assert_eq!(overall(&crash.examine("labelled", &vouched).unwrap()), &Overall::Apply);
}

#[test]
fn a_thread_that_runs_is_waited_for_and_a_task_that_shares_the_memory_refused() {
    let crash = Crash::new("absent", PLAIN, &["-g"]);
    let ask = |why: Absence| {
        let absent = vec![Absent { id: 99, name: None, why }];
        let snapshot = Snapshot { absent, ..crash.open() };
        examine(&snapshot, &Known::default(), &request("other", &[])).unwrap().decision
    };
    let running = ask(Absence::Running);
    assert_eq!(running.threads[1].standing, Standing::Running);
    assert_eq!(running.overall, Overall::RetryLater(vec![Reason::Thread(1)]));
    assert_eq!(ask(Absence::Exited).overall, Overall::Apply);
    let shares = Reason::Process(Obstacle::SharesMemory { id: 99 });
    assert_eq!(ask(Absence::SharesMemory).overall, Overall::Refuse(vec![shares]));
}

#[test]
fn memory_that_cannot_be_read_is_refused() {
    let crash = Crash::new("unread", PLAIN, &["-g"]);
    let snapshot = crash.open();
    let mut space =
        surestack::snapshot::AddressSpace { mappings: snapshot.space.mappings.clone(), ..Default::default() };
    let hole = 0x1000..0x3000;
    let unread = surestack::snapshot::Mapped {
        start: hole.start,
        end: hole.end,
        executable: Some(false),
        writable: Some(true),
        file: None,
        probe: None,
    };
    space.mappings.insert(0, unread);
    let snapshot = Snapshot {
        space: surestack::snapshot::AddressSpace { modules: snapshot.space.modules.clone(), ..space },
        ..snapshot
    };
    let refused = examine(&snapshot, &Known::default(), &request("other", &[])).unwrap();
    assert!(obstacles(&refused).contains(&&Obstacle::Unreadable { range: hole.clone() }));
    let vouched = examine(&snapshot, &Known::default(), &request("other", &[Vouch::NoStackIn(hole)])).unwrap();
    assert!(!obstacles(&vouched).iter().any(|found| matches!(found, Obstacle::Unreadable { .. })));
}

#[test]
fn the_command_says_it_by_its_exit_code() {
    let crash = Crash::new("command", PLAIN, &["-g"]);
    let run = |targets: &str, more: &[&str]| {
        std::fs::write(crash.path("targets"), targets).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
        command.args(["check", "the.core", "--functions", "targets"]).args(more).current_dir(&crash.directory);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run("other", &[]).0, 0);
    let (code, text) = run("main", &[]);
    assert!(code == 1 && text.contains("frame 4 will return to"), "{code}: {text}");
    assert_eq!(run("sized_nowhere", &[]).0, 2);
    assert_eq!(run("0x1", &[]).0, 2);
    assert_eq!(run("", &[]).0, 5, "nothing was asked for");
    let (code, text) = run("main", &["--json"]);
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema::breaks(SCHEMA, &value), Vec::<String>::new());
    assert_eq!(
        (code, &value["decision"], &value["threads"][0]["standing"]),
        (1, &"retry_later".into(), &"blocked".into())
    );
    // The schema refuses what it does not describe.
    value["threads"][0]["standing"] = "fine".into();
    value["threads"][0]["new"] = 1.into();
    value["targets"][0]["parts"][0].as_object_mut().unwrap().remove("why");
    value["targets"][0]["parts"][0]["start"] = "401000".into();
    assert_eq!(schema::breaks(SCHEMA, &value).len(), 4, "{:#?}", schema::breaks(SCHEMA, &value));
    std::fs::write(crash.path("the.core"), "no core").unwrap();
    assert_eq!(run("other", &[]).0, 3);
}
