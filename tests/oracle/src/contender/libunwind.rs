//! libunwind, through its remote interface over ptrace.

use super::{Answer, Contender, MAX_FRAMES, Stop};
use std::ffi::{c_int, c_void};

/// Larger than libunwind's own `unw_cursor_t` on x86_64 (127 words).
#[repr(C, align(16))]
struct Cursor([u64; 256]);

/// `UNW_X86_64_RIP`.
const RIP: c_int = 16;
/// `UNW_CACHE_GLOBAL`.
const CACHE_GLOBAL: c_int = 1;

#[link(name = "unwind-ptrace")]
unsafe extern "C" {
    static mut _UPT_accessors: c_void;
    fn _UPT_create(pid: libc::pid_t) -> *mut c_void;
    fn _UPT_destroy(process: *mut c_void);
}

#[link(name = "unwind-x86_64")]
unsafe extern "C" {
    fn _Ux86_64_create_addr_space(accessors: *mut c_void, byte_order: c_int) -> *mut c_void;
    fn _Ux86_64_destroy_addr_space(space: *mut c_void);
    fn _Ux86_64_set_caching_policy(space: *mut c_void, policy: c_int) -> c_int;
    fn _Ux86_64_init_remote(cursor: *mut Cursor, space: *mut c_void, process: *mut c_void) -> c_int;
    fn _Ux86_64_step(cursor: *mut Cursor) -> c_int;
    fn _Ux86_64_get_reg(cursor: *mut Cursor, register: c_int, value: *mut u64) -> c_int;
}

// Debian's libunwind-ptrace uses liblzma without saying so, which lld refuses.
#[link(name = "lzma")]
unsafe extern "C" {}

/// libunwind-ptrace; set up afresh for each thread and whenever modules come or go.
#[derive(Default)]
pub struct Libunwind {
    made_for: Option<(i32, u64)>,
    handles: Option<Handles>,
}

struct Handles {
    space: *mut c_void,
    process: *mut c_void,
}

impl Handles {
    fn new(tid: i32) -> Handles {
        let accessors = &raw mut _UPT_accessors;
        // SAFETY: the accessors are libunwind's own static table, and 0 means the host's byte order.
        let space = unsafe { _Ux86_64_create_addr_space(accessors, 0) };
        // SAFETY: `space` was just made.
        unsafe { _Ux86_64_set_caching_policy(space, CACHE_GLOBAL) };
        // SAFETY: takes a number.
        let process = unsafe { _UPT_create(tid) };
        Handles { space, process }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: made by `_UPT_create` and not yet destroyed.
        unsafe { _UPT_destroy(self.process) };
        // SAFETY: made by `create_addr_space` and not yet destroyed; no cursor outlives `ask`.
        unsafe { _Ux86_64_destroy_addr_space(self.space) };
    }
}

impl Contender for Libunwind {
    fn name(&self) -> &str {
        "libunwind"
    }

    fn ask(&mut self, stop: &Stop<'_>) -> Answer {
        let wanted = Some((stop.tid, stop.modules_generation));
        if self.made_for != wanted {
            self.made_for = wanted;
            self.handles = Some(Handles::new(stop.tid));
        }
        let Some(handles) = &self.handles else {
            return Answer::default();
        };
        let mut cursor = Cursor([0; 256]);
        // SAFETY: the cursor is large enough, and both handles are alive.
        let made = unsafe { _Ux86_64_init_remote(&mut cursor, handles.space, handles.process) };
        let mut answer = Answer { why: format!("unw_init_remote gave {made}"), ..Answer::default() };
        if made != 0 {
            return answer;
        }
        while answer.pcs.len() < MAX_FRAMES {
            let mut pc = 0;
            // SAFETY: the cursor was initialised, and `pc` outlives the call.
            let read = unsafe { _Ux86_64_get_reg(&mut cursor, RIP, &mut pc) };
            if read != 0 {
                answer.why = format!("unw_get_reg gave {read}");
                return answer;
            }
            // At its end it may show one more frame whose pc is 0: no frame.
            if pc != 0 {
                answer.pcs.push(pc);
            }
            // SAFETY: the cursor was initialised.
            let step = unsafe { _Ux86_64_step(&mut cursor) };
            if step <= 0 {
                answer.trusted = step == 0;
                answer.why = format!("unw_step gave {step}");
                return answer;
            }
        }
        answer.why = "too many frames".to_owned();
        answer
    }
}
