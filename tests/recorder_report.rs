//! The flight recorder's last moments, in reports of real crashes and in cores of them.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod schema;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Barrier, OnceLock};
use surestack::Handler;
use surestack::recorder::{self, Options, event};

const SCENE: &str = "SURESTACK_TEST_SCENE";
const DIRECTORY: &str = "SURESTACK_TEST_DIRECTORY";
/// Threads that write beside the one that crashes.
const OTHERS: usize = 3;
/// Events of each of them.
const EACH: u64 = 20;

/// What happens in a process of its own, and what must be there then.
struct Scene {
    name: &'static str,
    play: fn(&Path),
    judge: fn(&Left) -> Result<(), Failed>,
}

const SCENES: &[Scene] = &[
    Scene { name: "a_crash_report_has_the_last_events_and_the_annotations", play: reported, judge: in_report },
    Scene { name: "a_crash_report_has_them_from_a_file_too", play: reported_from_file, judge: in_report },
    Scene { name: "a_report_that_was_asked_for_counts_from_the_last_event", play: asked_for, judge: no_crash },
    Scene { name: "a_crash_in_the_middle_of_an_event_leaves_those_before_it", play: in_the_middle, judge: all_but_one },
    Scene {
        name: "a_crash_in_the_middle_of_an_event_leaves_those_before_it_in_a_core",
        play: in_the_middle_core,
        judge: core_but_one,
    },
    Scene {
        name: "a_recorder_whose_file_is_cut_short_leaves_the_rest_of_the_report",
        play: cut_short,
        judge: said_cut,
    },
    Scene { name: "a_core_has_the_last_events_of_a_recorder_in_memory", play: dumped, judge: in_core },
    Scene { name: "a_core_without_the_memory_of_the_recorder_says_so", play: dumped_without, judge: not_in_core },
    Scene {
        name: "of_a_recorder_in_a_file_the_file_is_read_that_the_core_leaves_out",
        play: dumped_file,
        judge: by_file,
    },
    Scene { name: "a_core_with_the_pages_of_the_file_is_read_alone", play: dumped_whole_file, judge: in_core },
    Scene { name: "a_core_that_gdb_makes_of_a_living_process_has_them", play: gdb_dumped, judge: in_gdb_s_core },
    Scene { name: "the_report_of_a_living_process_has_them", play: looked_at, judge: in_living },
    Scene { name: "a_forked_child_s_core_shows_the_child_s_thread", play: forked, judge: of_child },
];

struct Left {
    directory: PathBuf,
    output: Output,
}

fn main() {
    let arguments = Arguments::from_args();
    if let (Ok(scene), Some(directory)) = (std::env::var(SCENE), std::env::var_os(DIRECTORY)) {
        let scene = SCENES.iter().find(|known| known.name == scene).expect("a scene");
        return (scene.play)(Path::new(&directory));
    }
    let trials = SCENES.iter().map(|scene| Trial::test(scene.name, || run(scene)));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn run(scene: &Scene) -> Result<(), Failed> {
    let directory = std::env::temp_dir().join(format!("surestack-recorder-{}-{}", std::process::id(), scene.name));
    fs::create_dir_all(&directory)?;
    let output = Command::new(std::env::current_exe()?)
        .envs([(SCENE, scene.name.as_ref()), (DIRECTORY, directory.as_os_str())])
        .current_dir(&directory)
        .output()?;
    let judged = (scene.judge)(&Left { directory: directory.clone(), output });
    fs::remove_dir_all(directory)?;
    judged
}

// What the processes do.

#[inline(never)]
fn null() {
    // SAFETY: none: this is the crash.
    unsafe { std::ptr::without_provenance_mut::<u8>(std::hint::black_box(24)).write_volatile(1) };
    std::hint::black_box(());
}

fn install(directory: &Path) {
    Handler::builder().directory(directory).install().unwrap().keep();
}

/// Annotations, and events in four threads that are still there.
fn work(options: Options) {
    recorder::start(options.threads(64)).unwrap();
    recorder::annotate("version", "4.2.1");
    recorder::annotate("request", 4711);
    static WRITTEN: OnceLock<Barrier> = OnceLock::new();
    let written = WRITTEN.get_or_init(|| Barrier::new(OTHERS + 1));
    for other in 0..OTHERS {
        let worker = move || {
            for number in 0..EACH {
                event!(debug: "step", worker = other, number = number);
            }
            written.wait();
            loop {
                std::thread::park();
            }
        };
        std::thread::Builder::new().name(format!("worker {other}")).spawn(worker).unwrap();
    }
    written.wait();
    for number in 0..EACH {
        event!("request taken", number = number);
    }
    event!(error: "about to crash", because = "it was asked to", at = 0.5);
}

fn reported(directory: &Path) {
    install(directory);
    work(Options::memory());
    null();
}

fn reported_from_file(directory: &Path) {
    install(directory);
    work(Options::file(directory.join("flight")));
    null();
}

fn asked_for(directory: &Path) {
    use surestack_capture::{plan, record::Occasion, request};
    install(directory);
    work(Options::memory());
    request(plan().unwrap(), Occasion::Requested, b"as it was asked to").unwrap();
}

/// An event whose text is in a page that cannot be read: the fault is behind the taking of its place.
fn half_an_event() {
    // SAFETY: memory of our own.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    // SAFETY: none: reading it is the crash.
    let text = unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(page.cast::<u8>(), 64)) };
    event!("never finished", text = text);
}

fn in_the_middle(directory: &Path) {
    install(directory);
    work(Options::memory());
    half_an_event();
}

fn in_the_middle_core(_: &Path) {
    work(Options::memory());
    allow_cores("0x33");
    half_an_event();
}

fn cut_short(directory: &Path) {
    install(directory);
    let path = directory.join("flight");
    work(Options::file(&path));
    fs::File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
    null();
}

/// A core of this process, with the memory that the filter says (core(5)).
fn allow_cores(filter: &str) {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is only read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) }, 0);
    fs::write("/proc/self/coredump_filter", filter).unwrap();
}

fn dumped(_: &Path) {
    work(Options::memory());
    allow_cores("0x33");
    null();
}

fn dumped_without(_: &Path) {
    work(Options::memory());
    // Without shared memory of no file (bit 1).
    allow_cores("0x31");
    null();
}

fn dumped_file(directory: &Path) {
    work(Options::file(directory.join("flight")));
    allow_cores("0x33");
    null();
}

fn dumped_whole_file(directory: &Path) {
    work(Options::file(directory.join("flight")));
    // With shared memory of files (bit 3).
    allow_cores("0x3b");
    fs::remove_file(directory.join("flight")).unwrap();
    null();
}

fn forked(_: &Path) {
    work(Options::memory());
    allow_cores("0x33");
    // SAFETY: the child calls nothing that another thread could have been in the middle of.
    match unsafe { libc::fork() } {
        0 => {
            event!("in the child");
            null();
        }
        child => {
            // SAFETY: nobody else waits for it.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}

fn gdb_dumped(directory: &Path) {
    work(Options::memory());
    let made = Command::new("gcore").arg("-o").arg(directory.join("core")).arg(std::process::id().to_string()).output();
    assert!(made.unwrap().status.success());
}

fn looked_at(directory: &Path) {
    work(Options::memory());
    let own = std::process::id().to_string();
    for (name, arguments) in [("text", &["process", &own][..]), ("json", &["process", "--json", &own])] {
        let said = Command::new(env!("CARGO_BIN_EXE_surestack")).args(arguments).output().unwrap().stdout;
        fs::write(directory.join(name), said).unwrap();
    }
}

// What must be there then.

fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what().into()) }
}

impl Left {
    fn find(&self, is: impl Fn(&str) -> bool) -> Result<PathBuf, Failed> {
        let entries = fs::read_dir(&self.directory)?.flatten().map(|entry| entry.path());
        let found = entries.into_iter().find(|path| path.file_name().is_some_and(|name| is(&name.to_string_lossy())));
        found.ok_or_else(|| format!("nothing was left; {}", String::from_utf8_lossy(&self.output.stderr)).into())
    }

    fn core(&self) -> Result<PathBuf, Failed> {
        self.find(|name| name.starts_with("core"))
    }

    fn record(&self) -> Result<PathBuf, Failed> {
        self.find(|name| name.ends_with(".surestack"))
    }

    /// What the program prints, and how it ends.
    fn text(&self, arguments: &[&str], file: &Path) -> Result<(String, Option<i32>), Failed> {
        let output = Command::new(env!("CARGO_BIN_EXE_surestack")).args(arguments).arg(file).output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok((text + &String::from_utf8_lossy(&output.stderr), output.status.code()))
    }

    /// The recorder's part of a report in JSON, which the schema allows.
    fn json(&self, command: &str, file: &Path) -> Result<Value, Failed> {
        let (text, _) = self.text(&[command, "--json"], file)?;
        let report: Value = serde_json::from_str(&text)?;
        let breaks = schema::breaks(include_str!("../docs/report.schema.json"), &report);
        check(breaks.is_empty(), || breaks.join("\n"))?;
        Ok(report)
    }
}

/// Whether all of `parts` are there, in this order.
fn in_order(text: &str, parts: &[&str]) -> Result<(), Failed> {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return Err(format!("no {part:?} where it belongs in\n{text}").into());
        };
        rest = after;
    }
    Ok(())
}

/// The lines of a report about events, from the title that begins like this.
fn events<'t>(text: &'t str, title: &str) -> Vec<&'t str> {
    let lines = text.lines().skip_while(|line| !line.starts_with(title)).skip(1);
    lines.take_while(|line| line.starts_with("  20")).collect()
}

const OF_CRASHED: &str = "flight recorder: all 21 events of thread ";
const OF_ALL: &str = "flight recorder: the last 32 of 81 events of all 4 threads that wrote";

/// Both lists, as they are in every text report.
fn lists(text: &str) -> Result<(), Failed> {
    in_order(text, &["noted    request = 4711", "noted    version = \"4.2.1\"", OF_CRASHED, OF_ALL])?;
    let crashed = events(text, OF_CRASHED);
    check(crashed.len() == 21, || text.to_owned())?;
    in_order(crashed[0], &["request taken", "number=0", "recorder_report.rs:"])?;
    in_order(crashed[20], &["error", "about to crash", "because=\"it was asked to\"  at=0.5"])?;
    let all = events(text, OF_ALL);
    check(all.len() == 32 && all[31] == crashed[20], || text.to_owned())?;
    // The crashed thread was the last to write; before its events are those of others.
    check(all[10].contains("worker ") && all[10].contains("step  worker="), || text.to_owned())
}

fn document(report: &Value, place: &str) -> Result<(), Failed> {
    let recorder = &report["recorder"];
    let recording = &recorder["recording"];
    let events = recording["events"].as_array().ok_or("no events")?;
    let by = |id: &Value| events.iter().filter(|event| event["thread_id"] == *id).count();
    let threads = report["threads"].as_array().ok_or("no threads")?;
    let crashed = &report["crashing_thread"]["thread_id"];
    let ids = threads.iter().flat_map(|thread| {
        let same = thread["same_stack"].as_array().into_iter().flatten().map(|same| &same["thread_id"]);
        std::iter::once(&thread["thread_id"]).chain(same)
    });
    let counts: Vec<usize> = ids.map(by).collect();
    let right = recorder["found"]["in"] == place
        && recorder["crashed_thread"] == *crashed
        && by(crashed) == 21
        && counts.iter().sum::<usize>() == 81
        && counts.len() == OTHERS + 1
        && events.is_sorted_by_key(|event| event["monotonic_ns"].as_u64())
        && recording["annotations"][0]["key"] == "request"
        && recording["annotations"][0]["value"] == 4711;
    check(right, || format!("{counts:?} {recorder}"))
}

fn in_report(left: &Left) -> Result<(), Failed> {
    let record = left.record()?;
    let (text, code) = left.text(&["report"], &record)?;
    check(code == Some(0) && left.output.status.signal() == Some(libc::SIGSEGV), || text.clone())?;
    lists(&text)?;
    in_order(&text, &["recorder_report::null", ", seconds before the crash, in the record"])?;
    said_at_once(left)?;
    let report = left.json("report", &record)?;
    document(&report, "record")?;
    let moment = report["recorder"]["crashed_monotonic_ns"].as_u64().ok_or("no moment")?;
    let last = report["recorder"]["recording"]["events"][80]["monotonic_ns"].as_u64().ok_or("no time")?;
    check(last < moment && moment - last < 10_000_000_000, || format!("{last} {moment}"))?;

    let (brief, _) = left.text(&["report", "--brief"], &record)?;
    in_order(&brief, &["noted    request = 4711", "the last 8 of 21 events of thread", "about to crash"])?;
    check(!brief.contains("step  worker"), || brief.clone())?;
    let (few, _) = left.text(&["report", "--last", "2"], &record)?;
    in_order(&few, &["the last 2 of 21 events", "number=19", "about to crash", "the last 2 of 81 events"])
}

fn said_at_once(left: &Left) -> Result<(), Failed> {
    let said = String::from_utf8(left.output.stderr.clone())?;
    in_order(&said, &["*** SIGSEGV", "version: \"4.2.1\"", "the last events of this thread"])?;
    check(said.contains("  request: 4711\n"), || said.clone())?;
    let lines: Vec<_> = said.lines().skip_while(|line| !line.starts_with("the last events")).skip(1).take(9).collect();
    let [first, .., last, behind] = &*lines else { return Err(said.into()) };
    in_order(first, &["  0.0", "  -  request taken  number=13"])?;
    in_order(last, &["  0.0", "  error  about to crash  because=\"it was asked to\"  at=0.500000"])?;
    check(!behind.starts_with("  0."), || said.clone())
}

fn no_crash(left: &Left) -> Result<(), Failed> {
    let (text, _) = left.text(&["report"], &left.record()?)?;
    check(left.output.status.success(), || text.clone())?;
    in_order(&text, &["asked for the report", ", seconds before the last event, in the record", " 0.000000"])
}

fn all_but_one(left: &Left) -> Result<(), Failed> {
    let (text, code) = left.text(&["report"], &left.record()?)?;
    check(code == Some(0) && !text.contains("never finished"), || text.clone())?;
    lists(&text)?;
    // Head, time, the text's length, eight words of it.
    in_order(&text, &["88 bytes of an event that the crashed thread was in the middle of"])
}

fn core_but_one(left: &Left) -> Result<(), Failed> {
    let (text, code) = left.text(&["core"], &left.core()?)?;
    check(code == Some(0) && !text.contains("never finished"), || text.clone())?;
    lists(&text)?;
    in_order(&text, &["88 bytes of an event that the crashed thread was in the middle of"])
}

fn said_cut(left: &Left) -> Result<(), Failed> {
    let (text, code) = left.text(&["report"], &left.record()?)?;
    check(code == Some(4), || text.clone())?;
    in_order(&text, &["SIGSEGV", "recorder_report::null", "main", "worker "])?;
    let why = "not recorded: all of the flight recorder: its memory cannot be read from 0x1000 on";
    in_order(&text, &[why])
}

fn in_core(left: &Left) -> Result<(), Failed> {
    let core = left.core()?;
    let (text, code) = left.text(&["core"], &core)?;
    check(code == Some(0) && !text.contains("was left out"), || text.clone())?;
    lists(&text)?;
    in_order(&text, &[", seconds before the last event, in memory at 0x"])?;
    document(&left.json("core", &core)?, "memory")
}

fn not_in_core(left: &Left) -> Result<(), Failed> {
    let (text, code) = left.text(&["core"], &left.core()?)?;
    check(code == Some(4) && !text.contains("about to crash"), || text.clone())?;
    in_order(&text, &["recorder_report::null", "not known: all of the flight recorder", "it had no file"])
}

fn by_file(left: &Left) -> Result<(), Failed> {
    let core = left.core()?;
    let (path, aside) = (left.directory.join("flight"), left.directory.join("flight.previous"));
    let seen = |path: &Path| {
        let (text, code) = left.text(&["core"], &core)?;
        check(code == Some(0), || text.clone())?;
        lists(&text)?;
        in_order(&text, &[&format!("in {}, since the memory at 0x", path.display())])
    };
    seen(&path)?;
    document(&left.json("core", &core)?, "file")?;
    // The program's next run puts it aside.
    fs::rename(&path, &aside)?;
    seen(&aside)?;

    let refused = |why: &str| {
        let (text, code) = left.text(&["core"], &core)?;
        check(code == Some(4) && !text.contains("about to crash"), || text.clone())?;
        in_order(&text, &["recorder_report::null", "not known: all of the flight recorder", why])
    };
    fs::remove_file(&aside)?;
    refused("is not there any more")?;
    // Another's is in its place: this process's own.
    recorder::start(Options::file(&path).threads(64)).unwrap();
    refused(&format!("flight is another one: process {} began it", std::process::id()))
}

fn in_gdb_s_core(left: &Left) -> Result<(), Failed> {
    let (text, _) = left.text(&["core"], &left.core()?)?;
    in_order(&text, &["noted    request = 4711", OF_ALL, "in memory at 0x", "about to crash"])
}

fn in_living(left: &Left) -> Result<(), Failed> {
    let text = fs::read_to_string(left.directory.join("text"))?;
    in_order(&text, &["live process", "noted    request = 4711", OF_ALL, "in the process", "about to crash"])?;
    let report: Value = serde_json::from_slice(&fs::read(left.directory.join("json"))?)?;
    let breaks = schema::breaks(include_str!("../docs/report.schema.json"), &report);
    let events = report["recorder"]["recording"]["events"].as_array().map(Vec::len);
    check(breaks.is_empty() && events == Some(81), || format!("{breaks:?} {events:?}"))
}

fn of_child(left: &Left) -> Result<(), Failed> {
    let (text, _) = left.text(&["core"], &left.core()?)?;
    // The rings of its parent's threads are in its parent's core.
    in_order(&text, &["flight recorder: all 1 event of thread", "in the child", "bytes of events are not here"])?;
    check(!text.contains("about to crash"), || text.clone())
}
