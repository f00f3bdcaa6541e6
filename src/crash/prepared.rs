//! The plan that handlers follow.

use super::alternate;
use super::builder::{Format, Handler, Helper, Text};
use super::environment::Detail;
use super::opened::{self, Opened};
use crate::this_process;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicBool;
use std::sync::{LazyLock, Mutex, PoisonError};
use surestack_capture::syscall;
use surestack_capture::{HandlerStack, Loader, Plan, Range, Words};

/// Reports that can be made at once. More wait for their turn.
const REPORTS: usize = 4;
/// How large the stack of a report is. What is not used of it costs nothing.
const STACK: usize = 256 << 10;

/// Made once: a handler may be on one of them at any time.
static STACKS: LazyLock<Vec<HandlerStack>> = LazyLock::new(|| {
    let made = (0..REPORTS).map_while(|_| alternate::map(STACK).ok());
    // SAFETY: mapped for this, with an unreadable page below, and never unmapped.
    made.map(|low| unsafe { HandlerStack::new(low, low + STACK) }).collect()
});

/// What the last plan had opened. A handler that still followed it when it was withdrawn may be writing: it is closed when
/// the next one is made.
static WITHDRAWN: Mutex<Option<Opened>> = Mutex::new(None);

/// Handlers follow this plan from now on.
pub(super) fn publish(handler: &Handler, opened: &Opened, request: i32) -> std::io::Result<()> {
    if STACKS.is_empty() {
        return Err(std::io::ErrorKind::OutOfMemory.into());
    }
    let text = if handler.text == Text::None { Words::None } else { words(handler.detail) };
    let plan = opened.plan(Plan {
        process: syscall::process_id(),
        modules: this_process::modules(),
        loader: loader(),
        stacks: &STACKS,
        budget: u64::try_from(handler.budget.as_nanos()).unwrap_or(u64::MAX),
        chain: handler.chain,
        threads: handler.threads,
        words: text,
        text: None,
        second: None,
        record: None,
        used: AtomicBool::new(false),
        directory: None,
        place: c"",
        maps: None,
        pagemap: None,
        tasks: None,
        initial: opened::initial(),
        helper: helper(handler),
        request,
        abort_message: abort_message(),
        program: Box::leak(opened::program().into_boxed_c_str()),
    });
    surestack_capture::publish(Some(Box::leak(Box::new(plan))));
    Ok(())
}

/// Handlers follow no plan any more.
pub(super) fn withdraw(opened: Opened) {
    surestack_capture::publish(None);
    let before = WITHDRAWN.lock().unwrap_or_else(PoisonError::into_inner).replace(opened);
    drop(before);
}

fn words(detail: Detail) -> Words {
    match detail {
        Detail::Short => Words::Short,
        Detail::Frames => Words::Frames,
        Detail::Full => Words::Full,
    }
}

/// Where glibc keeps what it said before it aborts. It is glibc's own affair, so it may be missing.
#[cfg(not(target_feature = "crt-static"))]
fn abort_message() -> Option<usize> {
    // SAFETY: a string that ends with zero.
    let place = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__abort_msg".as_ptr()) }.expose_provenance();
    (place != 0 && place.is_multiple_of(align_of::<usize>())).then_some(place)
}

/// Who is started when a report is made, and what it writes.
fn helper(handler: &Handler) -> Option<surestack_capture::Helper> {
    let Helper::Path(path) = &handler.helper else { return None };
    let program = CString::new(path.as_os_str().as_bytes()).ok()?;
    let writes: Vec<(&'static CStr, &'static [u8])> = handler
        .formats
        .iter()
        .map(|format| match format {
            Format::Text => (c"--text", &b".txt"[..]),
            Format::Json => (c"--json", &b".json"[..]),
        })
        .collect();
    Some(surestack_capture::Helper { program: Box::leak(program.into_boxed_c_str()), writes: writes.leak() })
}

/// The loader's list of what it has mapped, and room to copy from it.
#[cfg(not(target_feature = "crt-static"))]
fn loader() -> Option<Loader> {
    /// What is not used of it costs nothing.
    const ROOM: usize = 16 << 20;
    static MADE: LazyLock<Option<usize>> = LazyLock::new(|| alternate::map(ROOM).ok());
    // SAFETY: a string that ends with zero.
    let list = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_r_debug".as_ptr()) }.expose_provenance();
    let low = (*MADE)?;
    let [low, high] = [low, low + ROOM].map(|address| u64::try_from(address).unwrap_or(0));
    (list != 0).then_some(Loader { list, room: Range { low, high } })
}

/// A static program has no loader: all its code was there at install.
#[cfg(target_feature = "crt-static")]
fn loader() -> Option<Loader> {
    None
}

/// Without a loader nobody can be asked for it.
#[cfg(target_feature = "crt-static")]
fn abort_message() -> Option<usize> {
    None
}
