//! The interrupted pc alone: what everybody's samples cost at least.

use crate::contender::{Contender, Frames};
use crate::timer::alternate_stack;
use std::ffi::c_void;
use surestack::walk::CodeAddress;

pub const NAME: &str = "pc alone";

pub struct Pc;

impl Contender for Pc {
    type Trace = u64;
    type Known = ();
    const EMPTY: Self::Trace = 0;

    fn prepare() -> Result<(), String> {
        Ok(())
    }

    fn enter() {
        alternate_stack();
    }

    fn of_this_thread(_room: usize) -> Self {
        Self
    }

    unsafe fn take(&mut self, context: *const c_void, trace: &mut Self::Trace) {
        // SAFETY: as the caller promises.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        *trace = context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    }

    fn frames(trace: &Self::Trace) -> Frames {
        Frames { pcs: vec![CodeAddress::Exact(*trace)], complete: Some(false) }
    }
}
