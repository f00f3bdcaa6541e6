//! Hostile records: one of the committed core, damaged, through everything `surestack report` does.
//!
//! Most damage would be seen by the sums of items and read no further, so that half of it has its sum made right again.

use crate::Fuzzed;
use crate::files::Scratch;
use crate::random::Random;
use crate::recorders::real;
use std::io::sink;
use surestack::analyze::{self, Options, Outcome};
use surestack::image::Find;
use surestack::report::Printer;
use surestack::report::json::Json;
use surestack::report::text::{Colour, Length, Text};
use surestack::snapshot::{Snapshot, core_file};
use surestack_capture::record::{HEAD, Item, Sink, ThreadState, Writer};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_frame_pointer::FramePointer;
use surestack_reliable::{Judge, Noted};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{NoEvidence, Registry, Target, Unwinder, Walk};

/// Bytes of an item before its numbers.
const ITEM: usize = 8;

/// Bytes of a piece of the flight recorder.
const PAGE: usize = 4096;

/// A record, its program beside it.
pub struct Records {
    scratch: Scratch,
    record: Vec<u8>,
}

/// A file in memory.
struct Bytes(Vec<u8>);

impl Sink for &mut Bytes {
    type Error = std::convert::Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.extend(bytes);
        Ok(())
    }
}

impl Records {
    /// The record of the committed core.
    pub fn of_demo() -> Self {
        let scratch = Scratch::new("record");
        scratch.write("demo", &crate::files::demo("demo"));
        scratch.write("core", &crate::files::demo("demo.core"));
        let snapshot =
            core_file::open(&scratch.path("core"), &Find::default()).expect("the committed core can be read");
        Self { record: record(&snapshot), scratch }
    }
}

/// The record that a handler would have written.
fn record(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Bytes(vec![]);
    let mut writer = Writer::new(&mut bytes);
    let Ok(()) = writer.begin(snapshot.arch);
    let auxv: Vec<u8> =
        snapshot.process.auxv.iter().flat_map(|(tag, value)| [*tag, *value]).flat_map(u64::to_le_bytes).collect();
    let pid = snapshot.process.pid.unwrap_or(1);
    let mut info = [0; 128];
    info[0] = 11;
    info[8] = 1;
    let mut items = vec![
        Item::Process { pid, ppid: 1, tid: pid, uid: 0, realtime: 1, monotonic: 1, page: 4096, exe: b"demo" },
        Item::Initial { sp: None, auxv: &auxv },
        Item::Signal { tid: pid, info: &info },
    ];
    for thread in &snapshot.threads {
        let tid = thread.id;
        items.push(Item::Thread { tid, state: ThreadState::Answered, pc: None, sp: None, name: b"thread" });
        items.push(Item::Registers { tid, regs: thread.regs });
        let registry = Registry::default();
        let target = Target {
            arch: snapshot.arch,
            memory: &*snapshot.memory,
            modules: &snapshot.space,
            stacks: &snapshot.space,
            registry: &registry,
            evidence: &NoEvidence,
            stop: thread.stop,
        };
        let unwinders: [&dyn Unwinder; 3] = [&SignalFrame, &Cfi(DwarfRows), &FramePointer];
        let mut walk = Walk::new(&target, &unwinders, thread.regs, 100);
        let (mut judge, mut frames) = (Judge::new(), 0);
        while let Some(frame) = walk.next() {
            judge.see(&target, &frame);
            items.push(Item::Frame { tid, index: frame.index, noted: Noted::of(&target, &frame) });
            frames += 1;
        }
        let (end, verdict) = (walk.end(), judge.verdict(&target, walk.end()));
        items.extend(judge.doubts().map(|doubted| Item::Doubted { tid, doubted }));
        items.push(Item::End { tid, end, verdict, frames, doubts: judge.count() });
    }
    for module in &snapshot.space.modules {
        let path = module.path.as_os_str().as_encoded_bytes();
        let build_id = module.build_id.as_ref().map(|id| id.0.as_slice()).unwrap_or_default();
        items.push(Item::Module { start: module.start, end: module.end, bias: module.bias, build_id, path });
        items.push(Item::Unchanged { low: module.start, high: module.end });
    }
    for mapped in snapshot.space.mappings.iter().take(8) {
        let (low, high) = (mapped.start, mapped.end);
        items.push(Item::Mapping { low, high, offset: 0, inode: 1, permissions: 5, path: b"somewhere" });
    }
    let flight = real();
    let pages = (0..).step_by(PAGE).zip(flight.chunks(PAGE)).filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    items.extend(pages.map(|(at, bytes)| Item::Recorder { at, bytes }));
    items.push(Item::Done { ns: 1 });
    for item in items {
        let Ok(()) = writer.put(&item);
    }
    let Ok(()) = writer.flush();
    bytes.0
}

impl Fuzzed for Records {
    fn name(&self) -> &'static str {
        "record"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let mut bytes = self.record.clone();
        if random.once_in(8) {
            random.mutate(&mut bytes);
        }
        let items = places(&bytes);
        for _ in 0..random.below(6) {
            let at = *random.one(&items);
            forge(&mut bytes, at, random);
        }
        if random.once_in(8) {
            bytes.truncate(random.index(bytes.len()));
        }
        self.scratch.write("record.surestack", &bytes);
        let mut text = Text::new(sink(), Length::Explained, Colour::Never);
        let mut json = Json::new(sink());
        let printer: &mut dyn Printer = if random.once_in(2) { &mut text } else { &mut json };
        match analyze::record(&self.scratch.path("record.surestack"), &Options::default(), printer) {
            Ok(Outcome::Whole) => "whole",
            Ok(Outcome::Partial) => "partial",
            Err(_) => "refused",
        }
    }
}

/// Where items begin, and how long what they hold is.
fn places(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut all) = (HEAD, vec![(HEAD, 0)]);
    while let Some(length) = bytes.get(at + 4..).and_then(|rest| rest.first_chunk()) {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(0);
        if at + ITEM + length > bytes.len() {
            break;
        }
        all.push((at, length));
        at = (at + ITEM + length).next_multiple_of(ITEM);
    }
    all
}

/// Changes what an item holds, and makes its sum right.
fn forge(bytes: &mut [u8], (at, length): (usize, usize), random: &mut Random) {
    let Some(item) = bytes.get_mut(at..at + ITEM + length) else { return };
    let (head, payload) = item.split_at_mut(ITEM);
    random.mutate(payload);
    if random.once_in(16) {
        head[0] = random.byte() % 20;
    }
    let summed = [&head[..2], &head[4..], payload].concat();
    let sum = summed.iter().fold(0x811c_9dc5u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = sum.to_le_bytes();
    head[2..4].copy_from_slice(&[a ^ c, b ^ d]);
}
