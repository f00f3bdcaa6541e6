//! Ours, whole and with layers left out.

use super::{Contender, other};
use crate::stacks::Leaf;
use std::cell::RefCell;
use std::sync::Once;
use surestack::this_process::{self, Backtrace, CompiledModule, KnownThread, Layers, Trace};
use surestack::walk::CodeAddress;

/// As many frames as the deepest stack has, and ours.
const FRAMES: usize = 320;

/// What gates are about: everything on, tables ready.
pub const WHOLE: &str = "surestack";

/// All of ours, every table ready.
pub const OURS: &[Contender] = &[
    Contender { show: show_backtrace, ..other(WHOLE, ready, backtrace) },
    layered("surestack, without the previous trace", |_, _| with(Layers::NoMemory)),
    layered("surestack, tables alone", |_, _| with(Layers::NoCache)),
    layered("surestack, unwind information alone", |_, _| with(Layers::Evaluator)),
    Contender { show: show_judged, ..other("surestack, judged", ready, judged) },
];

/// While its tables are compiled: in a new process.
pub const NOT_READY: Contender =
    Contender { show: show_backtrace, ..other("surestack, tables not ready", prepare, backtrace) };

const fn layered(name: &'static str, trace: fn(&Leaf<'_>, &mut [usize]) -> usize) -> Contender {
    Contender { show: show_backtrace, ..other(name, ready, trace) }
}

thread_local! {
    static KNOWN: KnownThread = known();
    static BACKTRACE: RefCell<Backtrace<FRAMES>> = const { RefCell::new(Backtrace::EMPTY) };
    static TRACE: RefCell<Box<Trace<FRAMES>>> = RefCell::new(Box::new(Trace::EMPTY));
}

/// The first thread prepares the process.
fn known() -> KnownThread {
    static FIRST: Once = Once::new();
    let mut known = None;
    FIRST.call_once(|| known = Some(this_process::prepare().thread));
    known.unwrap_or_else(this_process::know_this_thread)
}

fn prepare() -> Result<(), String> {
    KNOWN.with(|_| ());
    Ok(())
}

fn ready() -> Result<(), String> {
    prepare()?;
    this_process::tables();
    TRACE.with_borrow(|_| ());
    Ok(())
}

/// The pcs alone.
fn backtrace(_: &Leaf<'_>, _: &mut [usize]) -> usize {
    BACKTRACE.with_borrow_mut(|backtrace| {
        backtrace.capture_here();
        backtrace.depth()
    })
}

fn with(layers: Layers) -> usize {
    BACKTRACE.with_borrow_mut(|backtrace| {
        backtrace.capture_with(layers);
        backtrace.depth()
    })
}

fn show_backtrace(pcs: &mut [usize]) {
    BACKTRACE.with_borrow(|backtrace| show(backtrace.frames(), pcs));
}

/// Every frame with how it was found, and the verdict.
fn judged(_: &Leaf<'_>, _: &mut [usize]) -> usize {
    TRACE.with_borrow_mut(|trace| {
        trace.capture_here();
        trace.depth()
    })
}

fn show_judged(pcs: &mut [usize]) {
    TRACE.with_borrow(|trace| show(trace.frames().map(|frame| frame.pc), pcs));
}

fn show(frames: impl Iterator<Item = CodeAddress>, pcs: &mut [usize]) {
    let frames = frames.map(|pc| usize::try_from(pc.value()).unwrap_or(0));
    pcs.iter_mut().zip(frames).for_each(|(place, pc)| *place = pc);
}

/// What all that takes.
pub struct Memory {
    /// KiB of the cache, of the process.
    pub cache: usize,
    pub rows: usize,
    /// Bytes of all tables.
    pub tables: usize,
    /// Bytes of the `.eh_frame` and `.eh_frame_hdr` that they were compiled from.
    pub sections: usize,
}

pub fn memory() -> Memory {
    let mut memory = Memory { cache: size_of_val(&surestack_capture::CACHE) / 1024, rows: 0, tables: 0, sections: 0 };
    for CompiledModule { record, table } in this_process::tables() {
        let Ok(table) = table else { continue };
        memory.rows += table.rows();
        memory.tables += table.size();
        let header = record.unwind.eh_frame_hdr.map_or(0, |section| section.bytes.len());
        memory.sections += header + record.unwind.eh_frame.map_or(0, |section| entries(section.bytes));
    }
    memory
}

/// How long the entries are: what follows their end is in the same segment.
fn entries(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = bytes.get(at..at + 4).and_then(|word| Some(u32::from_le_bytes(word.try_into().ok()?))) {
        at += 4 + length as usize;
        if length == 0 {
            break;
        }
    }
    at
}
