//! Ours, whole and with layers left out.

use super::{Contender, other};
use crate::stacks::Leaf;
use std::cell::RefCell;
use surestack::this_process::{self, Backtrace, KnownThread, Trace};
use surestack::walk::CodeAddress;

/// As many frames as the deepest stack has, and ours.
const FRAMES: usize = 320;

/// The names that gates are about.
pub const WHOLE: &str = "surestack";

/// Before its tables are compiled.
pub const NOT_READY: &str = "surestack, tables not ready";

/// All of ours.
pub const OURS: &[Contender] = &[
    Contender { show: show_backtrace, changed, ..other(WHOLE, prepare, backtrace) },
    Contender { show: show_judged, changed, ..other("surestack, judged", prepare, judged) },
];

thread_local! {
    static KNOWN: KnownThread = this_process::know_this_thread();
    static BACKTRACE: RefCell<Backtrace<FRAMES>> = const { RefCell::new(Backtrace::EMPTY) };
    static TRACE: RefCell<Box<Trace<FRAMES>>> = RefCell::new(Box::new(Trace::EMPTY));
}

fn prepare() -> Result<(), String> {
    this_process::refresh();
    KNOWN.with(|_| ());
    TRACE.with_borrow(|_| ());
    Ok(())
}

fn changed() {
    this_process::refresh();
}

/// The pcs alone.
fn backtrace(_: &Leaf<'_>, _: &mut [usize]) -> usize {
    BACKTRACE.with_borrow_mut(|backtrace| {
        backtrace.capture_here();
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
