//! The crashed thread, as its frames come: to the record, to what is shown, and to the signature.

use crate::file::File;
use crate::kept::Kept;
use crate::message::{Call, Message};
use crate::record::{Name, Signature, Writer};
use crate::report::Seen;
use crate::syscall::{self, Clock};
use crate::trace::See;
use core::ops::ControlFlow;
use surestack_module_map::ModuleMap;
use surestack_reliable::{Doubted, Noted};

/// The crashed thread's frames go to the record as they come.
pub(crate) struct Crashed<'r> {
    pub record: &'r mut Writer<File>,
    pub kept: &'r mut Kept,
    pub doubts: &'r mut usize,
    pub signature: &'r mut Signature,
    pub modules: &'r ModuleMap,
    pub seen: &'r mut Seen,
    pub program: &'r [u8],
    /// The panic that is reported, until the frame is found that called the hook.
    pub panic: Option<&'static Message>,
    pub tid: u32,
    /// The name of a record whose trace takes its time.
    pub early: Name,
    pub deadline: u64,
}

impl See for Crashed<'_> {
    fn frame(&mut self, frame: &Noted) -> ControlFlow<()> {
        const OFTEN: usize = 64;
        const LONG: usize = 4096;
        let index = self.kept.count();
        if index == LONG {
            // What is said of a failure is said when it is tried again.
            let _ = self.record.sink().name(self.early);
        }
        self.kept.push(frame);
        let _ = self.record.frame(self.tid, index, frame);
        let module = self.modules.look_up(frame.pc.lookup()).ok().and_then(|(found, _)| found);
        if let Some(call) = call_of(frame)
            && let Some(panic) = self.panic.take_if(|panic| frame.callee_cfa > Some(panic.inside()))
        {
            panic.reported(call);
        }
        if let Some(found) = module {
            self.seen.insert(found.index, frame.pc.lookup());
        }
        let program = self.program;
        let path = |path: &'static [u8]| if path.is_empty() { program } else { path };
        self.signature.see(index, frame, module.map(|found| (path(found.record.path), found.record.bias)));
        if index.is_multiple_of(OFTEN) && syscall::now(Clock::Monotonic) > self.deadline {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn doubt(&mut self, doubted: &Doubted) {
        *self.doubts = self.doubts.saturating_add(1);
        let _ = self.record.doubt(self.tid, *doubted);
    }
}

/// Looks for the frame that called the panic hook.
pub(crate) struct Search {
    pub panic: &'static Message,
    pub found: bool,
}

impl See for Search {
    fn frame(&mut self, frame: &Noted) -> ControlFlow<()> {
        self.found |= call_of(frame).is_some_and(|call| self.panic.is_in(call));
        if self.found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn doubt(&mut self, _doubted: &Doubted) {}
}

/// The call that a frame waits for.
fn call_of(frame: &Noted) -> Option<Call> {
    Some(Call { return_slot: frame.return_slot?, return_address: frame.pc.value() })
}
