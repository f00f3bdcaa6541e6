//! A panic that ends in an abort is one crash with one report: the panic's.
//!
//! The report of a panic finds the frame of std that called the hook, and the message remembers its return address and where
//! that lies. An abort of the same thread belongs to that panic if its trace still has that frame.

use crate::context::{ARCH, Interrupted, stop};
use crate::mapping::Mappings;
use crate::message::{Call, Message, PANICS};
use crate::plan::Plan;
use crate::report::{checked, markers};
use crate::surroundings::Surroundings;
use crate::syscall;
use crate::trace::{See, Stopped, trace};
use core::ops::ControlFlow;
use surestack_reliable::{Doubted, Noted};
use surestack_walk::{Memory, Registry, Regs};

/// Looks for the frame that called the hook, in the trace of a panic.
#[derive(Default)]
pub(crate) struct Caller(Option<&'static Message>);

impl Caller {
    /// Of the panic that this thread has just said something about.
    pub fn of(thread: u32) -> Self {
        Self(PANICS.of(thread))
    }

    /// Sees the next frame, innermost first.
    pub fn see(&mut self, frame: &Noted) {
        let Some(message) = self.0 else { return };
        // The callee's frame ends at its CFA; of those that do behind the address, the first has it.
        if frame.callee_cfa.is_some_and(|cfa| message.inside() < cfa) {
            self.0 = None;
            if let Some(call) = call(frame) {
                message.reported(call);
            }
        }
    }
}

/// The call that led from this frame to its callee.
fn call(frame: &Noted) -> Option<Call> {
    Some(Call { return_slot: frame.return_slot?, return_address: frame.pc.value() })
}

/// Whether a signal that this thread raised is the end of a panic that was reported.
///
/// # Safety
/// `interrupted` is what the kernel passed to the entry.
pub(crate) unsafe fn is_reported(plan: &Plan, interrupted: &Interrupted) -> bool {
    let Some(message) = PANICS.of(syscall::thread_id()) else { return false };
    // SAFETY: as the caller promises.
    let (Ok(regs), signal) = (unsafe { (interrupted.registers(), interrupted.signal().unwrap_or_default()) }) else {
        return false;
    };
    // Most aborts come of no panic: then there is nothing to walk for.
    let Some(Call { return_slot, return_address }) = message.frame() else { return false };
    let is_below = regs.get(ARCH.sp).is_some_and(|sp| sp <= return_slot);
    if !is_below || checked().word(return_slot) != Ok(return_address) {
        return false;
    }
    let mut search = Search { message, found: false };
    let (markers, around) = (markers(), Surroundings::new(plan.modules, Mappings::new(plan.maps)));
    let registry = Registry { markers: &markers, ..Registry::default() };
    // SAFETY: the thread is this one. If another unmaps its stack there is nothing to be done.
    unsafe { trace(&around, &registry, Stopped { arch: ARCH, regs: &regs, stop: stop(&signal) }, &mut search) };
    search.found
}

struct Search {
    message: &'static Message,
    found: bool,
}

impl See for Search {
    fn frame(&mut self, frame: &Noted, _regs: &Regs) -> ControlFlow<()> {
        self.found = call(frame).is_some_and(|call| self.message.is_in(call));
        if self.found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn doubt(&mut self, _doubted: &Doubted) {}
}
