//! Ours, whole and with layers left out.

use super::{Contender, other};
use crate::stacks::Leaf;
use std::cell::{Cell, RefCell};
use surestack::this_process::{self, Backtrace, KnownThread, Layers, Trace};
use surestack::walk::CodeAddress;

/// As many frames as the deepest stack has, and ours.
const FRAMES: usize = 320;

/// The names that gates are about.
pub const WHOLE: &str = "surestack";

/// Without the previous trace: what stacks that never repeat cost.
pub const NO_MEMORY: &str = "surestack, without the previous trace";

/// Before its tables are compiled.
pub const NOT_READY: &str = "surestack, tables not ready";

/// All of ours.
pub const OURS: &[Contender] = &[
    Contender { show, changed, ..other(WHOLE, ready, |_, _| fast(Layers::All)) },
    Contender { show, changed, ..other(NO_MEMORY, ready, |_, _| fast(Layers::NoMemory)) },
    Contender { show, changed, ..other("surestack, tables alone", ready, |_, _| fast(Layers::NoCache)) },
    Contender { show, changed, ..other(NOT_READY, not_ready, |_, _| fast(Layers::All)) },
    Contender {
        show,
        changed,
        ..other("surestack, unwind information alone", not_ready, |_, _| fast(Layers::Evaluator))
    },
    Contender { show: show_judged, changed, ..other("surestack, judged", not_ready, judged) },
];

thread_local! {
    static KNOWN: RefCell<Option<KnownThread>> = const { RefCell::new(None) };
    static FAST: Cell<*mut Backtrace<FRAMES>> = Cell::new(Box::leak(Box::new(Backtrace::EMPTY)));
    static TRACE: RefCell<Box<Trace<FRAMES>>> = RefCell::new(Box::new(Trace::EMPTY));
}

fn not_ready() -> Result<(), String> {
    this_process::refresh();
    KNOWN.with_borrow_mut(|known| {
        known.get_or_insert_with(this_process::know_this_thread);
    });
    TRACE.with_borrow(|_| ());
    FAST.with(|_| ());
    Ok(())
}

fn ready() -> Result<(), String> {
    let prepared = this_process::prepare();
    prepared.compiling.map_err(|error| error.to_string())?;
    KNOWN.with_borrow_mut(|known| {
        known.get_or_insert(prepared.thread);
    });
    this_process::tables();
    not_ready()
}

fn changed() {
    this_process::refresh();
}

fn fast(layers: Layers) -> usize {
    FAST.with(|fast| {
        // SAFETY: this thread's alone.
        let backtrace = unsafe { &mut *fast.get() };
        backtrace.capture_with(layers);
        backtrace.depth()
    })
}

fn show(pcs: &mut [usize]) {
    // SAFETY: this thread's alone.
    let backtrace = FAST.with(|fast| unsafe { &*fast.get() });
    copy(pcs, backtrace.frames());
}

/// Every frame with how it was found, and the verdict.
fn judged(_: &Leaf<'_>, _: &mut [usize]) -> usize {
    TRACE.with_borrow_mut(|trace| {
        trace.capture_here();
        trace.depth()
    })
}

fn show_judged(pcs: &mut [usize]) {
    TRACE.with_borrow(|trace| copy(pcs, trace.frames().map(|frame| frame.pc)));
}

fn copy(pcs: &mut [usize], frames: impl Iterator<Item = CodeAddress>) {
    let frames = frames.map(|pc| usize::try_from(pc.value()).unwrap_or(0));
    pcs.iter_mut().zip(frames).for_each(|(place, pc)| *place = pc);
}
