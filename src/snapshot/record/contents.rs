//! The items of a record, sorted by what they are about.

use super::gaps;
use super::pieces::Pieces;
use super::{RecordedFrame, Trace};
use crate::snapshot::{Gap, SignalInfo};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use surestack_capture::record::{Damage, Item, Items, MessageKind, Occasion, ThreadState};
use surestack_walk::{Arch, End, Register, Regs, X86_64};

/// Damages that are told one by one; the others are counted.
const TOLD: usize = 8;
/// Mappings that are kept: a handler records a few around each address that matters.
const MAPPINGS: usize = 1 << 12;

/// A module as it was recorded.
pub(super) struct RecordedModule {
    pub start: u64,
    pub end: u64,
    pub bias: u64,
    pub build_id: Vec<u8>,
    pub path: PathBuf,
}

/// A mapping as it was recorded.
pub(super) struct RecordedMapping {
    pub low: u64,
    pub high: u64,
    pub offset: u64,
    pub has_file: bool,
    pub permissions: u8,
    pub path: PathBuf,
}

/// Who wrote the record, and when.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub realtime: u64,
    pub monotonic: u64,
}

/// Everything about one thread.
#[derive(Clone, Default)]
pub(super) struct Task {
    pub id: u32,
    pub state: Option<ThreadState>,
    pub name: Option<String>,
    pub signal: Option<SignalInfo>,
    pub trace: Trace,
    place: (Option<u64>, Option<u64>),
    regs: Option<Box<Regs>>,
    /// Whether a frame is missing, so that those behind it are not used.
    broken: bool,
}

impl Task {
    /// Whether it is the one that took the signal.
    pub fn crashed(&self) -> bool {
        self.state == Some(ThreadState::Crashed)
    }

    /// Its registers, as far as anything is known of them.
    pub fn regs(&self, arch: &Arch) -> Option<Regs> {
        if let Some(regs) = &self.regs {
            return Some(**regs);
        }
        let mut regs = Regs::new();
        if let Some(first) = self.trace.frames.first() {
            regs.set_pc(first.noted.pc);
            for (register, value) in [(arch.sp, first.noted.sp), (Register::THREAD, first.noted.thread)] {
                value.into_iter().for_each(|value| regs.set(register, value));
            }
            return Some(regs);
        }
        // A thread that did not answer has no trace, though somebody else may know where it is.
        let answered = matches!(self.state, Some(ThreadState::Crashed | ThreadState::Answered | ThreadState::Read));
        if !answered {
            return None;
        }
        let (pc, sp) = self.place;
        regs.set_pc(surestack_walk::CodeAddress::Exact(pc?));
        sp.into_iter().for_each(|sp| regs.set(arch.sp, sp));
        Some(regs)
    }
}

/// A record's items.
pub(super) struct Contents {
    pub arch: &'static Arch,
    pub occasion: Option<Occasion>,
    pub process: Option<Writer>,
    pub exe: Option<PathBuf>,
    pub auxv: Vec<u8>,
    pub initial_sp: Option<u64>,
    pub tasks: Vec<Task>,
    pub modules: Vec<RecordedModule>,
    pub mappings: Vec<RecordedMapping>,
    pub messages: Vec<(MessageKind, String)>,
    pub unchanged: Vec<Range<u64>>,
    pub signature: Option<u64>,
    pub recorder: Pieces,
    pub gaps: Vec<Gap>,
    by_id: HashMap<u32, usize>,
    done: bool,
}

/// Text of a program's, as far as it is text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Contents {
    /// Reads a record; says why it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut items = Items::new(bytes);
        let arch = match items.machine() {
            Some(machine) => Arch::of_machine(machine)
                .ok_or_else(|| format!("it is of a machine that is not supported (e_machine {machine})"))?,
            // The last record that a handler can write stands alone, and there is no other machine yet that writes it.
            None => &X86_64,
        };
        let mut contents = Self::new(arch);
        let (mut damages, mut whole) = (vec![], 0usize);
        for item in items.by_ref() {
            match item {
                Ok(item) => {
                    whole = whole.saturating_add(1);
                    contents.take(item);
                }
                Err(damage) => damages.push(damage),
            }
        }
        if whole == 0 && items.machine().is_none() {
            return Err("it does not begin as one, and nothing of one is in it".to_owned());
        }
        contents.tell(&damages, items.unknown());
        contents.name_crashed();
        Ok(contents)
    }

    fn new(arch: &'static Arch) -> Self {
        Self {
            arch,
            occasion: None,
            process: None,
            exe: None,
            auxv: vec![],
            initial_sp: None,
            tasks: vec![],
            modules: vec![],
            mappings: vec![],
            messages: vec![],
            unchanged: vec![],
            signature: None,
            recorder: Pieces::default(),
            gaps: vec![],
            by_id: HashMap::new(),
            done: false,
        }
    }

    /// Says what is wrong with the bytes.
    fn tell(&mut self, damages: &[Damage], unknown: u64) {
        let what = damages.iter().take(TOLD).map(|damage| format!("the record: {damage}"));
        self.gaps.extend(what.map(|what| Gap::Damaged { what }));
        let more = damages.len().saturating_sub(TOLD);
        let mut also = |what: String| self.gaps.push(Gap::Damaged { what });
        if more > 0 {
            also(format!("the record in {more} more places"));
        }
        if unknown > 0 {
            also(format!(
                "{unknown} items of the record are of kinds that are not known here; a later surestack wrote it"
            ));
        }
        if !self.done {
            also("the record has no end: the handler was stopped, or could not write any more".to_owned());
        }
    }

    /// Without anybody who says so, it is the one that took a signal, or the one that wrote.
    fn name_crashed(&mut self) {
        if self.tasks.iter().any(Task::crashed) {
            return;
        }
        let writer = self.process.map(|process| process.tid);
        let signalled = self.tasks.iter().position(|task| task.signal.is_some());
        let crashed = signalled.or_else(|| self.tasks.iter().position(|task| Some(task.id) == writer));
        if let Some(task) = crashed.and_then(|at| self.tasks.get_mut(at)) {
            task.state = Some(ThreadState::Crashed);
        }
    }

    fn task(&mut self, id: u32) -> &mut Task {
        let next = self.tasks.len();
        let at = *self.by_id.entry(id).or_insert(next);
        if at == next {
            self.tasks.push(Task { id, ..Task::default() });
        }
        &mut self.tasks[at]
    }

    fn take(&mut self, item: Item<'_>) {
        match item {
            Item::Occasion(occasion) => self.occasion = Some(occasion),
            Item::Process { pid, tid, uid, realtime, monotonic, exe, .. } => {
                self.process = Some(Writer { pid, tid, uid, realtime, monotonic });
                self.exe = Some(path(exe)).filter(|path| !path.as_os_str().is_empty());
            }
            Item::Initial { sp, auxv } => (self.initial_sp, self.auxv) = (sp, auxv.to_vec()),
            Item::Signal { tid, info } => {
                let signal = siginfo(info);
                let task = self.task(tid);
                match task.trace.frames.last_mut() {
                    Some(frame) => frame.signal = signal,
                    None => task.signal = signal,
                }
            }
            Item::Registers { tid, regs } => {
                let task = self.task(tid);
                match task.trace.frames.last_mut() {
                    Some(frame) => frame.regs = Some(Box::new(regs)),
                    None => task.regs = Some(Box::new(regs)),
                }
            }
            Item::Thread { tid, state, pc, sp, name } => {
                let task = self.task(tid);
                task.state = Some(state);
                task.place = (pc, sp);
                task.name = Some(text(name)).filter(|name| !name.is_empty());
            }
            Item::Frame { tid, index, noted } => {
                let task = self.task(tid);
                task.broken |= index != task.trace.frames.len();
                if !task.broken {
                    task.trace.frames.push(RecordedFrame { noted, regs: None, signal: None });
                }
            }
            Item::Doubted { tid, doubted } => self.task(tid).trace.doubts.push(doubted),
            Item::End { tid, end, verdict, frames, doubts } => {
                let task = self.task(tid);
                let whole = !task.broken && frames == task.trace.frames.len();
                let cut = End::Stopped(surestack_walk::Error::BrokenOff { frames: task.trace.frames.len() });
                task.trace.end = whole.then_some((end.unwrap_or(cut), verdict));
                task.trace.doubted = doubts;
            }
            Item::Module { start, end, bias, build_id, path: name } => {
                self.modules.push(RecordedModule { start, end, bias, build_id: build_id.to_vec(), path: path(name) });
            }
            Item::Unchanged { low, high } => self.unchanged.push(low..high),
            Item::Message { kind, text: said } => self.messages.push((kind, text(said))),
            Item::Mapping { low, high, offset, inode, permissions, path: name } => {
                if self.mappings.len() < MAPPINGS {
                    let (has_file, path) = (inode != 0, path(name));
                    self.mappings.push(RecordedMapping { low, high, offset, has_file, permissions, path });
                }
            }
            Item::StepFailed { step, failure } => self.gaps.push(gaps::step_failed(step, failure)),
            Item::Gap { what, number } => self.gaps.push(gaps::gap(what, number)),
            Item::Signature(signature) => self.signature = Some(signature),
            Item::Recorder { at, bytes } => self.recorder.add(at, bytes),
            Item::Storm(storm) => self.storm(storm),
            Item::Done { .. } => self.done = true,
        }
    }

    /// All that is known of a thread whose handler faulted again and again.
    fn storm(&mut self, storm: surestack_capture::record::Storm) {
        self.gaps.push(gaps::storm(&storm));
        let process = Writer { pid: storm.pid, tid: storm.tid, uid: 0, realtime: storm.realtime, monotonic: 0 };
        self.process.get_or_insert(process);
        self.task(storm.tid);
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}

/// What a `siginfo_t` says; nothing where it is not all there, or there was no signal.
fn siginfo(bytes: &[u8]) -> Option<SignalInfo> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|number| i32::from_le_bytes(*number));
    let detail = bytes.get(16..)?.first_chunk().map(|detail| u64::from_le_bytes(*detail))?;
    let signal = SignalInfo::from_words(number(0)?, number(8)?, detail);
    (signal.number != 0).then_some(signal)
}
