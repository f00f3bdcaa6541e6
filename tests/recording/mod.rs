//! Records of processes that are stopped from outside, made as a handler makes them: walked without files, judged without
//! evidence.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use surestack::snapshot::process::hold::{Hold, Options};
use surestack::snapshot::{Snapshot, Thread};
use surestack_capture::record::{Item, Occasion, Signature, Sink, ThreadState, Writer};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_probe::Probes;
use surestack_reliable::{Judge, Noted};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{NoEvidence, Registry, Stop, Target, Unwinder, Walk};

/// When the records are said to be made: 2026-11-21T17:20:00.125Z.
pub const TIME: u64 = 1_795_281_600_125_000_000;

/// A file in memory.
pub struct Bytes(pub Vec<u8>);

impl Sink for &mut Bytes {
    type Error = ();

    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend(bytes);
        Ok(())
    }
}

/// These items and nothing else.
pub fn written(items: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Bytes(vec![]);
    let mut writer = Writer::new(&mut bytes);
    writer.begin(&surestack_walk::X86_64).unwrap();
    items.iter().for_each(|item| writer.put(item).unwrap());
    writer.flush().unwrap();
    bytes.0
}

/// The program, built once.
pub fn program() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program_with("recorded", &[]))
}

/// The program under this name, built with these flags too.
pub fn program_with(name: &str, more: &[&str]) -> PathBuf {
    let path = crate::temporary::path(name);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recording/program.c");
    let flags = ["-O1", "-g", "-pthread", "-fno-optimize-sibling-calls", "-Wl,--build-id", source, "-o"];
    assert!(Command::new("cc").args(more).args(flags).arg(&path).status().unwrap().success());
    path
}

/// The program, running.
pub struct Running(pub Child);

impl Running {
    pub fn new(program: &Path) -> Self {
        let mut child = Command::new(program).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let running = Self(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !running.waits() {
            assert!(Instant::now() < deadline, "it never comes to its end");
            std::thread::sleep(Duration::from_millis(2));
        }
        running
    }

    /// Whether all of its threads are in `pause`.
    fn waits(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let calls = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("syscall")).unwrap());
        calls.into_iter().all(|call| call.starts_with(&format!("{} ", libc::SYS_pause)))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn hold(&self) -> Hold {
        Hold::stop(self.pid(), &Options::default()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A record of all threads of a process that is held.
pub fn record(pid: u32, snapshot: &Snapshot) -> Vec<u8> {
    record_with(pid, snapshot, &[])
}

/// The same with more items at its end.
pub fn record_with(pid: u32, snapshot: &Snapshot, more: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Bytes(vec![]);
    let mut writer = Writer::new(&mut bytes);
    writer.begin(snapshot.arch).unwrap();
    head(&mut writer, pid);
    for (number, thread) in snapshot.threads.iter().enumerate() {
        let state = if number == 0 { ThreadState::Crashed } else { ThreadState::Answered };
        trace(&mut writer, snapshot, thread, state);
    }
    modules(&mut writer, pid, snapshot);
    more.iter().for_each(|item| writer.put(item).unwrap());
    writer.put(&Item::Done { ns: 1000 }).unwrap();
    writer.flush().unwrap();
    bytes.0
}

fn head(writer: &mut Writer<&mut Bytes>, pid: u32) {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let sp = stat.rsplit(')').next().unwrap().split_whitespace().nth(25).unwrap().parse().unwrap();
    let auxv = std::fs::read(format!("/proc/{pid}/auxv")).unwrap();
    // SAFETY: takes nothing and cannot fail.
    let uid = unsafe { libc::getuid() };
    let exe = exe.as_os_str().as_bytes();
    let (ppid, page) = (std::process::id(), 4096);
    writer.put(&Item::Occasion(Occasion::Signal)).unwrap();
    writer.put(&Item::Process { pid, ppid, tid: pid, uid, realtime: TIME, monotonic: 1, page, exe }).unwrap();
    writer.put(&Item::Initial { sp: Some(sp), auxv: &auxv }).unwrap();
}

/// A thread as a handler walks it.
fn trace(writer: &mut Writer<&mut Bytes>, snapshot: &Snapshot, thread: &Thread, state: ThreadState) {
    let tid = thread.id;
    let name = thread.name.as_deref().unwrap_or_default().as_bytes();
    writer.put(&Item::Thread { tid, state, pc: None, sp: None, name }).unwrap();
    writer.put(&Item::Registers { tid, regs: thread.regs }).unwrap();
    let registry = Registry::default();
    let target = Target {
        arch: snapshot.arch,
        memory: &*snapshot.memory,
        modules: &snapshot.space,
        stacks: &snapshot.space,
        registry: &registry,
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let unwinders: [&dyn Unwinder; 6] = [&SignalFrame, &Cfi(DwarfRows), &Probes, &Markers, &Entry, &FramePointer];
    let mut walk = Walk::new(&target, &unwinders, thread.regs, 1 << 20);
    let (mut judge, mut frames, mut signature) = (Judge::new(), 0, Signature::new());
    while let Some(frame) = walk.next() {
        judge.see(&target, &frame);
        let noted = Noted::of(&target, &frame);
        writer.frame(tid, frame.index, &noted).unwrap();
        if frame.link != surestack_walk::Link::Call {
            writer.put(&Item::Registers { tid, regs: *frame.regs }).unwrap();
        }
        let module = snapshot.space.module(noted.pc.lookup());
        let module = module.map(|(_, module)| (module.path.as_os_str().as_bytes(), module.bias));
        signature.see(frame.index, &noted, module);
        frames += 1;
    }
    let verdict = judge.verdict(&target, walk.end());
    judge.doubts().for_each(|doubted| writer.doubt(tid, doubted).unwrap());
    writer.end(tid, walk.end(), verdict, (frames, judge.count())).unwrap();
    if state == ThreadState::Crashed {
        writer.put(&Item::Signature(signature.value(judge.believed()))).unwrap();
    }
}

fn modules(writer: &mut Writer<&mut Bytes>, pid: u32, snapshot: &Snapshot) {
    for module in &snapshot.space.modules {
        let build_id = module.build_id.as_ref().map(|id| id.0.as_slice()).unwrap_or_default();
        let (start, end, bias) = (module.start, module.end, module.bias);
        let path = named_by_the_loader(&module.path, pid);
        writer.put(&Item::Module { start, end, bias, build_id, path: path.as_os_str().as_bytes() }).unwrap();
    }
    let pages = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    for mapped in &snapshot.space.mappings {
        let is_file = mapped.executable == Some(true) && mapped.file.is_some();
        if is_file && (mapped.start..mapped.end).step_by(4096).all(|page| is_unchanged(&pages, page)) {
            writer.put(&Item::Unchanged { low: mapped.start, high: mapped.end }).unwrap();
        }
    }
}

/// The path of a module as the loader has it.
fn named_by_the_loader(path: &Path, pid: u32) -> PathBuf {
    match path {
        path if path == Path::new("[vdso]") => PathBuf::from("linux-vdso.so.1"),
        path if std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == path) => PathBuf::new(),
        path => path.to_owned(),
    }
}

/// Whether the kernel holds no page of the process's own there.
fn is_unchanged(pages: &File, page: u64) -> bool {
    let mut word = [0; 8];
    pages.read_exact_at(&mut word, page / 4096 * 8).unwrap();
    let word = u64::from_le_bytes(word);
    let bit = |number: u32| word >> number & 1 == 1;
    !bit(63) && !bit(62) || bit(61)
}
