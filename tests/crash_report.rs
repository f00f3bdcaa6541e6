//! What a crash leaves: the record, its report, and what a debugger sees in the middle of it.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use libtest_mimic::{Arguments, Failed, Trial};
use std::ffi::CStr;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use surestack::Handler;
use surestack::crash::{Chain, Format, Helper, Text};
use surestack_capture::record::{Failure, Item, Items, MessageKind, Occasion};
use surestack_capture::{Plan, plan, publish, request};

const SCENE: &str = "SURESTACK_TEST_SCENE";
const DIRECTORY: &str = "SURESTACK_TEST_DIRECTORY";

/// What happens in a process of its own, and what must be there then.
struct Scene {
    name: &'static str,
    play: fn(&Path),
    judge: fn(&Left) -> Result<(), Failed>,
}

/// What a process left.
struct Left {
    signal: Option<i32>,
    said: String,
    directory: PathBuf,
}

impl Left {
    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == ending)).collect();
        files.sort();
        files
    }

    /// The only record.
    fn record(&self) -> Result<Vec<u8>, Failed> {
        match &self.files("surestack")[..] {
            [record] => Ok(fs::read(record)?),
            others => Err(format!("{} records; {}", others.len(), self.said).into()),
        }
    }
}

fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what().into()) }
}

const SCENES: &[Scene] = &[
    Scene { name: "the_helper_writes_text_and_json_beside_the_record", play: helped, judge: helper_wrote },
    Scene { name: "a_helper_that_fails_is_a_gap_and_the_record_is_whole", play: badly_helped, judge: helper_is_a_gap },
    Scene { name: "a_fault_inside_a_step_ends_the_step_and_not_the_report", play: fault_in_step, judge: step_failed },
    Scene { name: "where_no_stack_is_free_64_bytes_are_left_and_the_default_action", play: no_stack, judge: storm },
    Scene { name: "ten_reports_that_were_asked_for_are_ten_records", play: asked_for, judge: ten_records },
    Scene { name: "a_crash_is_handed_out_once_at_the_next_start", play: crash, judge: handed_out_once },
    Scene { name: "a_debugger_walks_from_the_handler_through_the_marker_frame", play: crash, judge: debugger },
    Scene { name: "the_marker_frame_lies_at_the_top_of_the_stack_of_a_report", play: marked, judge: marker_found },
    Scene { name: "a_fault_in_a_handler_that_is_asked_first_is_reported", play: faulty_first, judge: reported_once },
    Scene { name: "a_library_that_came_to_the_place_of_another_is_told_from_it", play: replaced, judge: told_apart },
];

fn main() {
    if let (Some(name), Some(directory)) = (std::env::var_os(SCENE), std::env::var_os(DIRECTORY)) {
        let scene = SCENES.iter().find(|scene| name == scene.name).expect("a scene of this name");
        return (scene.play)(Path::new(&directory));
    }
    let trials = SCENES.iter().map(|scene| Trial::test(scene.name, || run(scene)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn run(scene: &Scene) -> Result<(), Failed> {
    let directory = std::env::temp_dir().join(format!("surestack-report-{}-{}", std::process::id(), scene.name));
    fs::create_dir_all(&directory)?;
    let output = Command::new(std::env::current_exe()?)
        .envs([(SCENE, scene.name.as_ref()), (DIRECTORY, directory.as_os_str())])
        .env_remove("RUST_BACKTRACE")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let judged = (scene.judge)(&Left { signal: output.status.signal(), said, directory: directory.clone() });
    fs::remove_dir_all(directory)?;
    judged
}

#[inline(never)]
fn null() {
    // SAFETY: none: this is the crash.
    unsafe { std::ptr::without_provenance_mut::<u8>(std::hint::black_box(24)).write_volatile(1) };
    std::hint::black_box(());
}

fn crash(directory: &Path) {
    Handler::builder().directory(directory).install().unwrap().keep();
    null();
}

fn helped(directory: &Path) {
    let helper = Helper::Path(env!("CARGO_BIN_EXE_surestack").into());
    let formats = [Format::Text, Format::Json];
    Handler::builder().directory(directory).helper(helper).formats(&formats).install().unwrap().keep();
    std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(100)));
    null();
}

fn helper_wrote(left: &Left) -> Result<(), Failed> {
    check(left.signal == Some(libc::SIGSEGV), || left.said.clone())?;
    left.record()?;
    let [text, json] = ["txt", "json"].map(|ending| left.files(ending).first().map(fs::read_to_string));
    let text = text.ok_or_else(|| format!("no text; {}", left.said))??;
    check(text.contains("crash_report::null") && text.contains("reliable"), || text.clone())?;
    let report: serde_json::Value = serde_json::from_str(&json.ok_or("no JSON")??)?;
    check(report["threads"].as_array().is_some_and(|threads| threads.len() == 2), || report["threads"].to_string())
}

fn badly_helped(directory: &Path) {
    Handler::builder().directory(directory).helper(Helper::Path("/bin/false".into())).install().unwrap().keep();
    null();
}

fn helper_is_a_gap(left: &Left) -> Result<(), Failed> {
    use surestack_capture::record::Gap;
    let record = left.record()?;
    let items: Vec<Item<'_>> = Items::new(&record).filter_map(Result::ok).collect();
    let gap = items.iter().any(|item| matches!(item, Item::Gap { what: Gap::Helper, number: 1 }));
    let done = matches!(items.last(), Some(Item::Done { .. }));
    check(gap && done && left.signal == Some(libc::SIGSEGV), || format!("{items:?}"))
}

/// The plan in force, of which a scene changes something.
fn copied() -> Plan {
    let now = plan().unwrap();
    Plan {
        process: now.process,
        modules: now.modules,
        loader: now.loader,
        stacks: now.stacks,
        request: now.request,
        budget: now.budget,
        chain: now.chain,
        threads: now.threads,
        words: now.words,
        text: now.text,
        second: now.second,
        record: now.record,
        used: AtomicBool::new(false),
        directory: now.directory,
        place: now.place,
        maps: now.maps,
        pagemap: now.pagemap,
        tasks: now.tasks,
        initial: now.initial,
        abort_message: now.abort_message,
        helper: None,
        program: now.program,
    }
}

/// The program's path, in a page of a file that is not there any more when the handler reads it.
fn fault_in_step(directory: &Path) {
    Handler::builder().directory(directory).install().unwrap().keep();
    let file = File::options().read(true).write(true).create(true).truncate(true).open(directory.join("page")).unwrap();
    (&file).write_all(&[b'x'; 4095]).unwrap();
    file.set_len(4096).unwrap();
    // SAFETY: a mapping of a file of ours, which stays.
    let page =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    // SAFETY: the page is there, and ends with a zero.
    let program: &'static CStr = unsafe { CStr::from_ptr(page.cast()) };
    let broken = Plan { program, ..copied() };
    publish(Some(Box::leak(Box::new(broken))));
    file.set_len(0).unwrap();
    null();
}

fn step_failed(left: &Left) -> Result<(), Failed> {
    let record = left.record()?;
    let items: Vec<Item<'_>> = Items::new(&record).filter_map(Result::ok).collect();
    let failed = items
        .iter()
        .any(|item| matches!(item, Item::StepFailed { step: 0, failure: Failure::Fault { signal: libc::SIGBUS, .. } }));
    let frames = items.iter().filter(|item| matches!(item, Item::Frame { .. })).count();
    let done = matches!(items.last(), Some(Item::Done { .. }));
    check(failed && frames > 3 && done && left.signal == Some(libc::SIGSEGV), || format!("{items:?} {}", left.said))
}

fn no_stack(directory: &Path) {
    Handler::builder().directory(directory).install().unwrap().keep();
    let broken = Plan { stacks: &[], budget: 100_000_000, ..copied() };
    publish(Some(Box::leak(Box::new(broken))));
    null();
}

fn storm(left: &Left) -> Result<(), Failed> {
    let record = left.record()?;
    let items: Vec<Item<'_>> = Items::new(&record).filter_map(Result::ok).collect();
    let [Item::Storm(storm)] = &items[..] else { return Err(format!("{items:?}").into()) };
    let right = storm.signal == libc::SIGSEGV && storm.address == 24 && storm.count == 0;
    check(right && record.len() == 64 && left.signal == Some(libc::SIGSEGV), || format!("{storm:?} {}", left.said))
}

fn asked_for(directory: &Path) {
    Handler::builder().directory(directory).text(Text::None).install().unwrap().keep();
    for _ in 0..10 {
        request(plan().unwrap(), Occasion::Requested, b"as it was asked to").unwrap();
    }
}

fn ten_records(left: &Left) -> Result<(), Failed> {
    let records = left.files("surestack");
    check(records.len() == 10 && left.signal.is_none(), || format!("{} records; {}", records.len(), left.said))?;
    for path in records {
        let record = fs::read(path)?;
        let mut items = Items::new(&record).filter_map(Result::ok);
        let said = items.any(|item| match item {
            Item::Message { kind: MessageKind::Panic | MessageKind::Abort | MessageKind::Assert, text } => {
                text == b"as it was asked to"
            }
            _ => false,
        });
        check(said && matches!(items.last(), Some(Item::Done { .. })), || "a record is not whole".to_owned())?;
    }
    Ok(())
}

fn handed_out_once(left: &Left) -> Result<(), Failed> {
    let crash = surestack::previous_crash_in(&left.directory)?.ok_or("no crash")?;
    let text = crash.text()?;
    check(text.contains("crash_report::null") && text.contains("null pointer + 0x18"), || text.clone())?;
    check(surestack::previous_crash_in(&left.directory)?.is_none(), || "handed out twice".to_owned())
}

/// gdb stops in the first step of a report.
fn debugger(left: &Left) -> Result<(), Failed> {
    let commands = left.directory.join("commands");
    fs::write(
        &commands,
        "set pagination off\nset breakpoint pending on\nhandle SIGSEGV nostop noprint pass\n\
         set environment SURESTACK_TEST_SCENE a_crash_is_handed_out_once_at_the_next_start\n\
         break surestack_capture::handler::surestack_step\nrun\nbt\nkill\n",
    )?;
    let output = Command::new("gdb")
        .args(["-q", "-batch", "-x"])
        .arg(&commands)
        .arg(std::env::current_exe()?)
        .env(DIRECTORY, &left.directory)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let order =
        ["surestack_signal_entry", "surestack_signal_frame", "<signal handler called>", "null", "main", "_start"];
    let mut rest = said.as_str();
    for name in order {
        let at = rest.find(name).ok_or_else(|| format!("no {name} where it belongs:\n{said}"))?;
        rest = &rest[at + name.len()..];
    }
    Ok(())
}

fn marked(directory: &Path) {
    Handler::builder().directory(directory).text(Text::None).install().unwrap().keep();
    // The stacks of reports keep what the last report left on them.
    request(plan().unwrap(), Occasion::Requested, b"").unwrap();
    let marker = surestack_capture::marker() + 1;
    let stack = plan().unwrap().stacks.first().unwrap();
    let mut words = (stack.low()..stack.high() - 16).step_by(8).rev();
    let found = words.any(|at| {
        // SAFETY: a stack of a report, which nobody is on.
        let [_frame, returns, registers] = unsafe { std::ptr::with_exposed_provenance::<[usize; 3]>(at).read() };
        returns == marker && registers != 0 && registers.is_multiple_of(8)
    });
    assert!(found);
}

fn marker_found(left: &Left) -> Result<(), Failed> {
    check(left.signal.is_none() && !left.said.contains("panicked"), || left.said.clone())
}

extern "C" fn faulty(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    null();
}

fn faulty_first(directory: &Path) {
    // SAFETY: a handler that does nothing but fault.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (faulty as *const ()).addr();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
    }
    Handler::builder().directory(directory).chain(Chain::Before).install().unwrap().keep();
    null();
}

fn reported_once(left: &Left) -> Result<(), Failed> {
    let record = left.record()?;
    let done = matches!(Items::new(&record).filter_map(Result::ok).last(), Some(Item::Done { .. }));
    check(done && left.signal == Some(libc::SIGSEGV), || format!("{:?} {}", left.signal, left.said))
}

/// Two libraries of glibc's that are empty and of the same size.
fn replaced(directory: &Path) {
    let open = |name: &CStr| {
        // SAFETY: glibc's own, which do nothing when they are loaded.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        // SAFETY: a handle is a `struct link_map`, whose first word is the load bias.
        (handle, unsafe { handle.cast::<usize>().read() })
    };
    let (first, bias) = open(c"libutil.so.1");
    Handler::builder().directory(directory).install().unwrap().keep();
    // SAFETY: nobody uses it.
    unsafe { libc::dlclose(first) };
    assert_eq!(open(c"libanl.so.1").1, bias);
    null();
}

fn told_apart(left: &Left) -> Result<(), Failed> {
    let record = left.record()?;
    let has = |name: &str| {
        Items::new(&record).filter_map(Result::ok).any(|item| match item {
            Item::Module { path, .. } => String::from_utf8_lossy(path).contains(name),
            _ => false,
        })
    };
    check(has("libanl") && !has("libutil"), || left.said.clone())
}
