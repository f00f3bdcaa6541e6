//! The victim with other crash handlers, each installed as its documentation says.

mod rust;
mod start;

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

fn main() {
    start::start();
}

fn install(name: &str) -> Result<(), String> {
    match name {
        "bt" => naive(),
        "crash-handler" => return crash_handler(),
        "glibc" => glibc(),
        other => return Err(format!("no contender {other} here")),
    }
    Ok(())
}

const SIGNALS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
/// What the documentation of handlers recommends for a handler that symbolizes.
const ALTERNATE: usize = 256 << 10;

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn handle(handler: Handler) {
    // SAFETY: the memory is given away for ever; the actions are filled with zeros first.
    unsafe {
        let memory = Box::leak(vec![0u8; ALTERNATE].into_boxed_slice());
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: ALTERNATE };
        libc::sigaltstack(&stack, ptr::null_mut());
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for signal in SIGNALS {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

fn die(signal: c_int) {
    // SAFETY: both are async-signal-safe.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// `Backtrace::new()`, printed.
fn naive() {
    extern "C" fn handler(signal: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
        let found = backtrace::Backtrace::new();
        eprintln!("trace:");
        for frame in found.frames() {
            let names: Vec<_> = frame.symbols().iter().map(|s| s.name().map(|n| n.to_string())).collect();
            eprintln!("frame {:#018x} {names:?}", frame.ip() as usize);
        }
        die(signal);
    }
    handle(handler);
}

unsafe extern "C" {
    #[link_name = "backtrace"]
    fn glibc_backtrace(frames: *mut *mut c_void, room: c_int) -> c_int;
    fn backtrace_symbols_fd(frames: *const *mut c_void, count: c_int, fd: c_int);
}

/// glibc's, warmed up as its manual page says.
fn glibc() {
    extern "C" fn handler(signal: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
        let mut frames = [ptr::null_mut(); 128];
        // SAFETY: there is room for 128 addresses.
        unsafe {
            write(b"trace:\n");
            let count = glibc_backtrace(frames.as_mut_ptr(), 128);
            backtrace_symbols_fd(frames.as_ptr(), count, 2);
        }
        die(signal);
    }
    let mut one = [ptr::null_mut(); 1];
    // SAFETY: there is room for one address.
    unsafe { glibc_backtrace(one.as_mut_ptr(), 1) };
    handle(handler);
}

/// The crash-handler crate, with a closure that writes the addresses that `backtrace` finds.
fn crash_handler() -> Result<(), String> {
    // SAFETY: the closure neither allocates nor locks by itself.
    let event = unsafe {
        crash_handler::make_crash_event(|_| {
            write(b"trace:\n");
            backtrace::trace_unsynchronized(|frame| {
                line(frame.ip() as usize);
                true
            });
            crash_handler::CrashEventResult::Handled(false)
        })
    };
    let handler = crash_handler::CrashHandler::attach(event).map_err(|error| error.to_string())?;
    std::mem::forget(handler);
    Ok(())
}

/// Writes an address by hand: the formatting machinery may allocate.
fn line(address: usize) {
    let mut text = *b"frame 0x0000000000000000\n";
    for (i, digit) in text.iter_mut().skip(8).take(16).enumerate() {
        let nibble = address >> (60 - 4 * i) & 15;
        *digit = b"0123456789abcdef"[nibble];
    }
    write(&text);
}

fn write(text: &[u8]) {
    // SAFETY: the text outlives the call. Nothing can be done if standard error is gone.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}
