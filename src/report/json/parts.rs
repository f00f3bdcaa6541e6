//! The objects in a JSON report.

use super::words;
use crate::recorder::json::document;
use crate::report::signals::{code_name, signal_name};
use crate::report::{FrameReport, FromRecord, FromRecorder, ModuleReport, ThreadReport, found, when};
use crate::snapshot::recorder::RecorderPlace;
use crate::snapshot::{self, Absence, Absent, Gap, Identity, SignalInfo};
use crate::symbol::{self, Origin};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use surestack_walk::{Arch, Link, Regs, Root};

/// An address as reports write it.
pub(super) fn address(value: u64) -> String {
    format!("{value:#018x}")
}

#[derive(Serialize)]
pub(super) struct System {
    os: &'static str,
    cpu_arch: &'static str,
    machine: &'static str,
}

impl System {
    pub fn of(arch: &Arch) -> Self {
        // What minidump tools call them.
        let cpu_arch = match arch.name {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "Linux", cpu_arch, machine: arch.name }
    }
}

#[derive(Serialize)]
pub(super) struct Process<'r> {
    name: Option<&'r str>,
    arguments: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
}

impl<'r> Process<'r> {
    pub fn of(process: &'r snapshot::Process) -> Self {
        Self { name: process.name.as_deref(), arguments: process.arguments.as_deref(), user: process.user }
    }
}

/// A signal; as `crash_info` it has the two fields that minidump tools expect.
#[derive(Serialize)]
pub(super) struct Crash {
    r#type: String,
    address: Option<String>,
    number: i32,
    name: String,
    code: Option<i32>,
    code_name: Option<&'static str>,
    sender: Option<Sender>,
    text: String,
}

#[derive(Serialize)]
struct Sender {
    pid: u32,
    uid: u32,
}

impl Crash {
    pub fn of(signal: SignalInfo) -> Self {
        let name = signal_name(signal.number);
        let code_name = code_name(signal.number, signal.code);
        let r#type = code_name.map_or_else(|| name.clone(), |code| format!("{name} / {code}"));
        Self {
            r#type,
            address: signal.address.map(address),
            number: signal.number,
            name,
            code: Some(signal.code),
            code_name,
            sender: signal.sender.map(|(pid, uid)| Sender { pid, uid }),
            text: words::delivered(signal, None),
        }
    }

    /// A signal of which nothing but the number is known.
    pub fn without_code(number: i32) -> Self {
        let name = signal_name(number);
        let (r#type, text) = (name.clone(), name.clone());
        Self { r#type, address: None, number, name, code: None, code_name: None, sender: None, text }
    }
}

#[derive(Serialize)]
pub(super) struct Repeat {
    pub kind: &'static str,
    pub length: usize,
    pub times: usize,
}

#[derive(Serialize)]
pub(super) struct Frame<'r> {
    frame: usize,
    kind: &'static str,
    offset: String,
    #[serde(flatten)]
    place: Place<'r>,
    function_offset: Option<String>,
    name_origin: Option<&'static str>,
    inlines: Vec<Place<'r>>,
    module: Option<String>,
    module_index: Option<usize>,
    module_offset: Option<String>,
    trust: &'static str,
    found_by: String,
    stack_pointer: Option<String>,
    callee_cfa: Option<String>,
    signal: Option<Crash>,
    description: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registers: Option<BTreeMap<&'static str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registers_saved_at: Option<BTreeMap<&'static str, String>>,
}

/// A function and a place in it.
#[derive(Default, Serialize)]
struct Place<'r> {
    function: Option<&'r str>,
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
}

impl<'r> Place<'r> {
    fn of(function: &'r symbol::Function) -> Self {
        let location = function.location.as_ref();
        Self {
            function: Some(function.name.as_str()).filter(|name| !name.is_empty()),
            file: location.map(|location| location.file.to_string_lossy().into_owned()),
            line: location.and_then(|location| location.line),
            column: location.and_then(|location| location.column),
        }
    }
}

impl<'r> Frame<'r> {
    pub fn of(frame: &'r FrameReport, thread: &ThreadReport, arch: &Arch) -> Self {
        let symbol = &frame.symbol;
        let (function, inlined) = match symbol.functions.split_last() {
            Some((function, inlined)) => (Some(function), inlined),
            None => (None, &[][..]),
        };
        let top = (frame.number == 0 && thread.threads.len() == 1).then_some(&thread.regs);
        let regs = frame.regs.as_deref().or(top);
        let module = frame.module.as_ref();
        let file_name =
            |path: &std::path::Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self {
            frame: frame.number,
            kind: match frame.link {
                Link::Call => "call",
                Link::Signal => "signal",
                Link::Marker => "marker",
                Link::Probe => "probe",
                Link::Switch => "switch",
            },
            offset: address(frame.pc.value()),
            place: function.map(Place::of).unwrap_or_default(),
            function_offset: symbol.offset.map(address),
            name_origin: match symbol.origin {
                Origin::None => None,
                Origin::Dwarf => Some("dwarf"),
                Origin::SymbolTable => Some("symbol_table"),
                Origin::Nearest => Some("nearest_symbol"),
            },
            inlines: inlined.iter().map(Place::of).collect(),
            module: module.map(|module| file_name(&module.path)),
            module_index: module.map(|module| module.index),
            module_offset: module.map(|module| address(module.offset)),
            trust: found::trust(frame.found_by),
            found_by: found::exact(frame.found_by),
            stack_pointer: frame.sp.map(address),
            callee_cfa: frame.callee_cfa.map(address),
            signal: frame.signal.map(Crash::of),
            description: frame.what.as_deref(),
            registers: regs.map(|regs| values(regs, arch)),
            registers_saved_at: regs.map(|regs| places(regs, arch)).filter(|places| !places.is_empty()),
        }
    }
}

fn values(regs: &Regs, arch: &Arch) -> BTreeMap<&'static str, String> {
    let known = arch.registers.iter().filter_map(|&(register, name)| Some((name, address(regs.get(register)?))));
    known.collect()
}

fn places(regs: &Regs, arch: &Arch) -> BTreeMap<&'static str, String> {
    let saved = arch.registers.iter().filter_map(|&(register, name)| Some((name, address(regs.place(register)?))));
    saved.collect()
}

#[derive(Serialize)]
pub(super) struct Module {
    base_addr: String,
    end_addr: String,
    bias: String,
    filename: String,
    path: String,
    /// What minidump tools call the build ID.
    code_id: Option<String>,
    build_id: Option<String>,
    identity: Value,
    has_debug_file: bool,
}

impl Module {
    pub fn of(module: &ModuleReport) -> Self {
        let id = module.build_id.as_ref().map(ToString::to_string);
        let text = |id: &Option<crate::image::BuildId>| id.as_ref().map(ToString::to_string);
        Self {
            base_addr: address(module.start),
            end_addr: address(module.end),
            bias: address(module.bias),
            filename: module.path.file_name().unwrap_or(module.path.as_os_str()).to_string_lossy().into_owned(),
            path: module.path.to_string_lossy().into_owned(),
            code_id: id.clone(),
            build_id: id,
            identity: match &module.identity {
                Identity::Mapped => json!({"kind": "mapped"}),
                Identity::BuildId => json!({"kind": "build_id"}),
                Identity::Bytes { compared } => json!({"kind": "bytes", "compared": compared}),
                Identity::Memory => json!({"kind": "memory"}),
                Identity::Unchecked => json!({"kind": "unchecked"}),
                Identity::Replaced { wanted, found } => {
                    json!({"kind": "replaced", "wanted": text(wanted), "found": text(found)})
                }
                Identity::Missing => json!({"kind": "missing"}),
            },
            has_debug_file: module.debug,
        }
    }
}

/// What a handler recorded beside traces.
pub(super) fn recorded(recorded: &FromRecord) -> Value {
    let messages: Vec<_> = recorded.messages.iter().map(|(by, text)| json!({"by": by, "text": text})).collect();
    let signature = recorded.signatures;
    json!({
        "time": recorded.time.map(when::utc),
        "messages": messages,
        "signature": signature.places.map(address),
        "function_signature": signature.functions.map(address),
    })
}

/// The flight recorder's part, with all events that were found.
#[derive(Serialize)]
pub(super) struct Recorder<R> {
    found: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    crashed_thread: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crashed_monotonic_ns: Option<u64>,
    recording: R,
}

pub(super) fn recorder(recorder: &FromRecorder) -> Recorder<impl Serialize> {
    let found = match &recorder.place {
        RecorderPlace::Record => json!({"in": "record"}),
        RecorderPlace::Process => json!({"in": "process"}),
        RecorderPlace::Memory(at) => json!({"in": "memory", "address": address(*at)}),
        RecorderPlace::File(path, at) => {
            json!({"in": "file", "path": path.to_string_lossy(), "address": address(*at)})
        }
    };
    Recorder {
        found,
        crashed_thread: recorder.of_crashed().map(|thread| thread.tid),
        crashed_monotonic_ns: recorder.moment,
        recording: document(&recorder.recording, &recorder.recording.merged()),
    }
}

/// A task whose stack could not be had.
pub(super) fn absent(task: &Absent) -> Value {
    let why = match task.why {
        Absence::Running => "running",
        Absence::Exited => "exited",
        Absence::SharesMemory => "shares_memory",
        Absence::Silent => "silent",
        Absence::NotAsked => "not_asked",
        Absence::Refused => "refused",
        Absence::Lost => "lost",
    };
    json!({"thread_id": task.id, "thread_name": task.name, "why": why})
}

pub(super) fn gap(gap: &Gap) -> Value {
    match gap {
        Gap::Truncated { expected, found } => json!({"kind": "truncated", "expected": expected, "found": found}),
        Gap::Filtered { start, end } => json!({"kind": "filtered", "start": address(*start), "end": address(*end)}),
        Gap::Unwritten { mappings, bytes } => json!({"kind": "unwritten", "mappings": mappings, "bytes": bytes}),
        Gap::Unchecked { what } => json!({"kind": "unchecked", "what": what}),
        Gap::StepFailed { what } => json!({"kind": "step_failed", "what": what}),
        Gap::NotRecorded { what } => json!({"kind": "not_recorded", "what": what}),
        Gap::Damaged { what } => json!({"kind": "damaged", "what": what}),
    }
}

pub(super) fn root(root: Root) -> String {
    match root {
        Root::UndefinedReturn => "undefined_return".to_owned(),
        Root::EntryPoint => "entry_point".to_owned(),
        Root::ContextEntry => "context_entry".to_owned(),
        Root::Registered => "registered".to_owned(),
        Root::Named => "named".to_owned(),
        Root::Marker(id) => format!("marker:{id}"),
    }
}
