//! A record that a handler of ours wrote, as a snapshot: threads, registers, modules and stacks, and for memory what files
//! hold of it.
//!
//! There is nothing of the stacks in it but the frames that were found: they cannot be walked anew. What is to be thought
//! of them can be decided anew, with the files (`analyze::record`). A record that is cut short or damaged is read as far as
//! it goes, and says so in [`Snapshot::gaps`].

mod contents;
mod gaps;
mod layers;
mod modules;
mod pieces;

use super::recorder::{FoundRecorder, RecorderPlace};
use super::{Absence, Absent, AddressSpace, Process, Snapshot, Thread};
use crate::error::Error;
use crate::image::Find;
use crate::recorder::Recording;
use contents::{Contents, Task};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};
use surestack_capture::record::{MessageKind, Occasion, Signature, ThreadState};
use surestack_reliable::{Doubted, Noted, Verdict};
use surestack_walk::{End, Regs, StackKind, Stop};

/// What a record holds.
pub struct Recorded {
    /// The process, as far as the record and the files tell.
    pub snapshot: Snapshot,
    /// Why the record was written, where that is still in it.
    pub occasion: Option<Occasion>,
    /// When.
    pub time: Option<SystemTime>,
    /// Whether the first of [`Snapshot::threads`] is the one that crashed, or wrote the record.
    pub crashed: bool,
    /// The traces of [`Snapshot::threads`], in the same order.
    pub traces: Vec<Trace>,
    /// What the program said before it died.
    pub messages: Vec<(MessageKind, String)>,
    /// Code that is what its file has, as far as the record tells: ascending, not overlapping.
    pub unchanged: Vec<Range<u64>>,
    /// The signature of the crashed thread's trace: of its places in code, as [`Signature`] makes it.
    pub signature: Option<u64>,
    /// What the record holds of the flight recorder, if there was one.
    pub recorder: Option<FoundRecorder>,
    /// When the signal was taken: nanoseconds of the monotonic clock.
    pub monotonic: Option<u64>,
}

/// A trace as it was recorded.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The frames, innermost first, up to the first that is missing.
    pub frames: Vec<RecordedFrame>,
    /// What was doubted at the time.
    pub doubts: Vec<Doubted>,
    /// How the walk ended, and what was thought of it then; `None` where that, or a frame, is missing.
    pub end: Option<(End, Verdict)>,
    /// How many doubts there were, recorded or not.
    pub doubted: usize,
}

/// A frame as it was recorded.
#[derive(Clone, Debug)]
pub struct RecordedFrame {
    /// What the judge needs of it.
    pub noted: Noted,
    /// Its registers, where it was interrupted and they were recorded.
    pub regs: Option<Box<Regs>>,
    /// The signal that interrupted it, where that was recorded.
    pub signal: Option<super::SignalInfo>,
}

/// Reads a record.
///
/// # Errors
/// [`Error::NotRecord`] when it is none, or of a machine that is not known; [`Error::Read`] when it cannot be opened.
pub fn open(path: &Path, find: &Find) -> Result<Recorded, Error> {
    let bytes = crate::image::map(path)?;
    let not_record = |why: &str| Error::NotRecord { path: path.to_owned(), why: why.to_owned() };
    let contents = Contents::read(&bytes).map_err(|why| not_record(&why))?;
    let find = Find { beside: path.parent().map(Path::to_owned), ..find.clone() };
    Ok(recorded(contents, &find))
}

fn recorded(contents: Contents, find: &Find) -> Recorded {
    let Contents { arch, mut tasks, mut gaps, .. } = contents;
    if matches!(contents.occasion, Some(Occasion::Panic | Occasion::Requested)) {
        // By a signal the thread only asked for the report.
        tasks.iter_mut().for_each(|task| task.signal = None);
    }
    let mut process = Process {
        pid: contents.process.map(|process| process.pid),
        user: contents.process.map(|process| process.uid),
        auxv: super::auxv(&contents.auxv),
        initial_sp: contents.initial_sp,
        ..Process::default()
    };
    process.name = contents.exe.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());

    let modules = modules::load(arch, contents.modules, contents.exe.as_deref(), find);
    let memory = modules::FileMemory::new(&modules);
    let noted = || tasks.iter().flat_map(|task| task.trace.frames.iter().map(|frame| &frame.noted));
    let stacks = || noted().filter_map(|noted| noted.stack);
    let main_stack = stacks().find(|stack| stack.kind == StackKind::Main).and_then(|stack| stack.high.checked_sub(1));
    let mut mappings = layers::known(contents.mappings);
    mappings = layers::under(mappings, modules.iter().flat_map(modules::mappings).collect());
    mappings = layers::under(mappings, stacks().map(layers::stack).collect());
    let space = AddressSpace { mappings, modules, main_stack, ..AddressSpace::default() };

    let crashed = tasks.iter().position(Task::crashed);
    let signature = contents.signature.or_else(|| Some(signature(&space, &tasks.get(crashed?)?.trace)));
    let (mut threads, mut traces, mut absent) = (vec![], vec![], vec![]);
    // The crashed one first.
    let first = crashed.and_then(|at| tasks.get(at)).cloned();
    let others = tasks.into_iter().enumerate().filter(|(at, _)| Some(*at) != crashed).map(|(_, task)| task);
    for task in first.into_iter().chain(others) {
        match task.regs(arch).or_else(|| task.crashed().then(Regs::default)) {
            Some(regs) => {
                let stop = task.signal.map(|signal| Stop { signal: signal.number, code: signal.code });
                threads.push(Thread {
                    id: task.id,
                    name: task.name,
                    regs,
                    stop: stop.unwrap_or_default(),
                    signal: task.signal,
                });
                traces.push(task.trace);
            }
            None => absent.push(Absent { id: task.id, name: task.name, why: absence(task.state) }),
        }
    }
    for module in space.modules.iter().filter(|module| module.image.is_none()) {
        let holds = |trace: &Trace| {
            trace.frames.iter().any(|frame| (module.start..module.end).contains(&frame.noted.pc.lookup()))
        };
        if traces.iter().any(holds) {
            let what = format!("the code of {}, in which there are frames", module.path.display());
            gaps.push(super::Gap::Unchecked { what });
        }
    }
    let recorder =
        match Some(contents.recorder).filter(|pieces| !pieces.is_empty()).map(|pieces| Recording::read(&pieces)) {
            Some(Ok(recording)) => Some(FoundRecorder { place: RecorderPlace::Record, recording }),
            Some(Err(why)) => {
                gaps.push(super::Gap::Damaged { what: format!("the flight recorder in the record: {why}") });
                None
            }
            None => None,
        };
    let memory = Box::new(memory);
    let snapshot = Snapshot { arch, process, threads, absent, space, memory, gaps, signed_bits: 0 };
    let time = contents.process.and_then(|process| {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(process.realtime)).filter(|_| process.realtime > 0)
    });
    let monotonic = contents.process.map(|process| process.monotonic).filter(|monotonic| *monotonic > 0);
    Recorded {
        snapshot,
        occasion: contents.occasion,
        time,
        crashed: crashed.is_some(),
        traces,
        messages: contents.messages,
        unchanged: layers::joined(contents.unchanged),
        signature,
        recorder,
        monotonic,
    }
}

fn absence(state: Option<ThreadState>) -> Absence {
    match state {
        Some(ThreadState::Silent) => Absence::Silent,
        Some(ThreadState::Exited) => Absence::Exited,
        Some(ThreadState::NotAsked) => Absence::NotAsked,
        Some(ThreadState::Refused) => Absence::Refused,
        Some(ThreadState::Crashed | ThreadState::Answered | ThreadState::Read) | None => Absence::Lost,
    }
}

/// The signature that a handler would have given to this trace.
fn signature(space: &AddressSpace, trace: &Trace) -> u64 {
    let mut signature = Signature::new();
    for (index, frame) in trace.frames.iter().enumerate() {
        let module = space.module(frame.noted.pc.lookup());
        let module = module.map(|(_, module)| (module.path.as_os_str().as_encoded_bytes(), module.bias));
        signature.see(index, &frame.noted, module);
    }
    let believed = trace.doubts.iter().map(|doubted| doubted.frame).min();
    signature.value(believed.unwrap_or(usize::MAX))
}
