//! libunwind's `unw_backtrace`, where the library is installed.

use crate::contender::{Contender, Frames, Pcs};
use crate::timer::alternate_stack;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

pub const NAME: &str = "libunwind";

type Function = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;

static BACKTRACE: OnceLock<Function> = OnceLock::new();

pub struct Libunwind {
    backtrace: Function,
}

/// With the handler's own frames, and the pc that was interrupted.
#[derive(Clone)]
pub struct Whole {
    pcs: Pcs,
    interrupted: u64,
}

impl Contender for Libunwind {
    type Trace = Whole;
    type Known = ();
    const EMPTY: Self::Trace = Whole { pcs: Pcs::EMPTY, interrupted: 0 };

    fn prepare() -> Result<(), String> {
        // SAFETY: it does nothing when it is loaded.
        let library = unsafe { libc::dlopen(c"libunwind.so.8".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err("not installed".to_owned());
        }
        // SAFETY: as its header declares it.
        let function = unsafe { libc::dlsym(library, c"unw_backtrace".as_ptr()) };
        if function.is_null() {
            return Err("without unw_backtrace".to_owned());
        }
        // SAFETY: the same.
        BACKTRACE.get_or_init(|| unsafe { std::mem::transmute::<*mut c_void, Function>(function) });
        Ok(())
    }

    fn enter() {
        alternate_stack();
    }

    fn of_this_thread(_room: usize) -> Self {
        let backtrace = *BACKTRACE.get().expect("prepared");
        let mut first = Pcs::EMPTY;
        // What it keeps for a thread is made the first time: not in a handler.
        // SAFETY: room for as many as it says.
        unsafe { backtrace(first.pcs.as_mut_ptr().cast(), first.pcs.len() as c_int) };
        Self { backtrace }
    }

    unsafe fn take(&mut self, context: *const c_void, trace: &mut Self::Trace) {
        let Pcs { pcs, depth } = &mut trace.pcs;
        // SAFETY: room for as many as it says.
        let count = unsafe { (self.backtrace)(pcs.as_mut_ptr().cast(), pcs.len() as c_int) };
        *depth = usize::try_from(count).unwrap_or(0);
        // SAFETY: as the caller promises.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        trace.interrupted = context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    }

    /// It takes a frame that it cannot step from for the last one.
    fn frames(trace: &Self::Trace) -> Frames {
        let mut pcs = trace.pcs.clone();
        let all = pcs.pcs.iter().take(pcs.depth);
        let own = all.take_while(|pc| **pc != trace.interrupted).count();
        pcs.pcs.rotate_left(own.min(pcs.depth));
        pcs.depth -= own;
        Frames { pcs: pcs.code(), complete: None }
    }
}
