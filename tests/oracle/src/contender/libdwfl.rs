//! elfutils' libdwfl, attached to a process that is already stopped by us.

use super::{Answer, Contender, MAX_FRAMES, Stop};
use std::ffi::{CStr, c_char, c_int, c_void};

type FrameCallback = extern "C" fn(frame: *mut c_void, argument: *mut c_void) -> c_int;

/// `Dwfl_Callbacks`: functions of libdwfl's own, never called from here.
#[repr(C)]
struct Callbacks {
    find_elf: unsafe extern "C" fn(),
    find_debuginfo: unsafe extern "C" fn(),
    section_address: *const c_void,
    debuginfo_path: *mut *mut c_char,
}

// SAFETY: the structure is constant, and its pointers are null or point to functions.
unsafe impl Sync for Callbacks {}

#[link(name = "dw")]
unsafe extern "C" {
    fn dwfl_begin(callbacks: *const Callbacks) -> *mut c_void;
    fn dwfl_end(dwfl: *mut c_void);
    fn dwfl_linux_proc_report(dwfl: *mut c_void, pid: libc::pid_t) -> c_int;
    fn dwfl_report_end(dwfl: *mut c_void, removed: *const c_void, argument: *mut c_void) -> c_int;
    fn dwfl_linux_proc_attach(dwfl: *mut c_void, pid: libc::pid_t, assume_ptrace_stopped: bool) -> c_int;
    fn dwfl_getthread_frames(
        dwfl: *mut c_void,
        tid: libc::pid_t,
        callback: FrameCallback,
        argument: *mut c_void,
    ) -> c_int;
    fn dwfl_frame_pc(frame: *mut c_void, pc: *mut u64, is_activation: *mut bool) -> bool;
    fn dwfl_errmsg(error: c_int) -> *const c_char;
    fn dwfl_linux_proc_find_elf();
    fn dwfl_standard_find_debuginfo();
}

static CALLBACKS: Callbacks = Callbacks {
    find_elf: dwfl_linux_proc_find_elf,
    find_debuginfo: dwfl_standard_find_debuginfo,
    section_address: std::ptr::null(),
    debuginfo_path: std::ptr::null_mut(),
};

/// libdwfl; set up afresh for each process and whenever modules come or go.
#[derive(Default)]
pub struct Libdwfl {
    made_for: Option<(i32, u64)>,
    handle: Option<Handle>,
}

struct Handle(*mut c_void);

impl Handle {
    fn new(pid: i32) -> Option<Handle> {
        // SAFETY: the callbacks are a static.
        let dwfl = unsafe { dwfl_begin(&CALLBACKS) };
        let handle = (!dwfl.is_null()).then_some(Handle(dwfl))?;
        // SAFETY: the handle is alive.
        let reported = unsafe { dwfl_linux_proc_report(dwfl, pid) };
        // SAFETY: the handle is alive; no callback is given.
        let ended = unsafe { dwfl_report_end(dwfl, std::ptr::null(), std::ptr::null_mut()) };
        // SAFETY: the handle is alive, and the process is stopped under our ptrace.
        let attached = unsafe { dwfl_linux_proc_attach(dwfl, pid, true) };
        (reported == 0 && ended == 0 && attached == 0).then_some(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `dwfl_begin` and not yet ended.
        unsafe { dwfl_end(self.0) };
    }
}

extern "C" fn note(frame: *mut c_void, argument: *mut c_void) -> c_int {
    let mut pc = 0;
    // SAFETY: libdwfl passes a live frame; `pc` outlives the call, and the flag may be null.
    let known = unsafe { dwfl_frame_pc(frame, &mut pc, std::ptr::null_mut()) };
    // SAFETY: `argument` is the vector that `ask` borrowed mutably for the whole walk.
    let pcs = unsafe { &mut *argument.cast::<Vec<u64>>() };
    if !known || pcs.len() >= MAX_FRAMES {
        return 1;
    }
    pcs.push(pc);
    0
}

impl Contender for Libdwfl {
    fn name(&self) -> &str {
        "libdwfl"
    }

    fn ask(&mut self, stop: &Stop<'_>) -> Answer {
        let wanted = Some((stop.pid, stop.modules_generation));
        if self.made_for != wanted {
            self.made_for = wanted;
            self.handle = None;
            self.handle = Handle::new(stop.pid);
        }
        let Some(Handle(dwfl)) = self.handle else {
            return Answer { why: "libdwfl could not attach".to_owned(), ..Answer::default() };
        };
        let mut pcs: Vec<u64> = Vec::new();
        // SAFETY: the handle is alive, and `pcs` outlives the walk.
        let result = unsafe { dwfl_getthread_frames(dwfl, stop.tid, note, (&raw mut pcs).cast()) };
        let why = match result {
            0 => "end of the stack".to_owned(),
            -1 => last_error(),
            n => format!("dwfl_getthread_frames gave {n}"),
        };
        Answer { pcs, trusted: result == 0, why }
    }
}

fn last_error() -> String {
    // SAFETY: -1 asks for the message of the last error of this thread.
    let message = unsafe { dwfl_errmsg(-1) };
    if message.is_null() {
        return "an error without a message".to_owned();
    }
    // SAFETY: the message is a string that stays valid until the next call into libdwfl by this thread.
    let message = unsafe { CStr::from_ptr(message) };
    message.to_string_lossy().into_owned()
}
