//! The crash handler for C and C++ programs: `include/surestack.h`, which says what each function does.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use surestack::Guard;
use surestack::crash::{AlternateStacks, Chain, Handler, Helper, Text, Threads, Uninstalled};

static GUARD: Mutex<Option<Guard>> = Mutex::new(None);

/// `surestack_options`.
#[repr(C)]
#[derive(Debug)]
pub struct Options {
    size: usize,
    directory: *const c_char,
    helper: *const c_char,
    signals: u64,
    budget_ms: u64,
    chain: u32,
    stacks: u32,
    threads: u32,
    text: u32,
}

/// Installs the handler.
///
/// # Safety
/// `options` is null, or leads to a structure of the size that it says, whose strings are null or end with zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn surestack_install(options: *const Options) -> *const c_char {
    // SAFETY: as the caller promises.
    match unsafe { install(options) } {
        Ok(()) => ptr::null(),
        Err(refused) => text(refused),
    }
}

/// Puts everything back as it was.
#[unsafe(no_mangle)]
pub extern "C" fn surestack_uninstall() -> *const c_char {
    let became = guard().take().map(Guard::uninstall).unwrap_or_default();
    if became.beneath.is_empty() && became.unanswered.is_empty() {
        return ptr::null();
    }
    text(left(&became))
}

/// Has the handler know the libraries that are loaded now.
#[unsafe(no_mangle)]
pub extern "C" fn surestack_refresh() -> usize {
    surestack::refresh().modules
}

fn guard() -> MutexGuard<'static, Option<Guard>> {
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// As for [`surestack_install`].
unsafe fn install(options: *const Options) -> Result<(), String> {
    // SAFETY: as the caller promises; the size comes first, whatever version of the header it was compiled with.
    let size = if options.is_null() { None } else { Some(unsafe { options.cast::<usize>().read() }) };
    let mut handler = Handler::builder();
    if let Some(size) = size {
        if size != size_of::<Options>() {
            let own = size_of::<Options>();
            return Err(format!(
                "options of {size} bytes are not understood, only of {own}; use the header of this library"
            ));
        }
        // SAFETY: it has the size, and is as the caller promises.
        handler = unsafe { with_options(handler, &*options) }?;
    }
    let mut guard = guard();
    let installed = handler.install().map_err(|error| error.to_string())?;
    // An inert one does not take the place of what is installed.
    if installed.is_installed() {
        *guard = Some(installed);
    }
    Ok(())
}

/// # Safety
/// The strings are null or end with zero.
unsafe fn with_options(mut handler: Handler, options: &Options) -> Result<Handler, String> {
    // SAFETY: as the caller promises.
    let [directory, helper] = [options.directory, options.helper].map(|string| unsafe { path(string) });
    if let Some(directory) = directory {
        handler = handler.directory(directory);
    }
    if let Some(helper) = helper {
        handler = handler.helper(Helper::Path(helper));
    }
    if options.signals != 0 {
        let signals: Vec<i32> = (1..=64).filter(|signal| options.signals >> (signal - 1) & 1 != 0).collect();
        handler = handler.signals(&signals);
    }
    if options.budget_ms != 0 {
        handler = handler.budget(Duration::from_millis(options.budget_ms));
    }
    let chain = choice("chain", options.chain, &[Chain::After, Chain::Before, Chain::Never])?;
    let all = [AlternateStacks::EveryThread, AlternateStacks::This, AlternateStacks::None];
    let stacks = choice("stacks", options.stacks, &all)?;
    let threads = choice("threads", options.threads, &[Threads::All, Threads::Crashed])?;
    let text = choice("text", options.text, &[Text::Stderr, Text::None])?;
    Ok(handler.chain(chain).alternate_stacks(stacks).threads(threads).text(text))
}

fn choice<T: Copy>(name: &str, number: u32, choices: &[T]) -> Result<T, String> {
    let choice = usize::try_from(number).ok().and_then(|number| choices.get(number));
    choice.copied().ok_or_else(|| format!("{number} is no value of `{name}`; use one of surestack.h"))
}

/// # Safety
/// Null, or a string that ends with zero.
unsafe fn path(string: *const c_char) -> Option<PathBuf> {
    if string.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let bytes = unsafe { CStr::from_ptr(string) }.to_bytes();
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// What could not be put back.
fn left(became: &Uninstalled) -> String {
    let mut parts = Vec::new();
    if !became.beneath.is_empty() {
        let signals: Vec<_> = became.beneath.iter().map(i32::to_string).collect();
        parts.push(format!(
            "another handler was set over ours for signals {}; ours only passes on now",
            signals.join(", ")
        ));
    }
    if !became.unanswered.is_empty() {
        let threads: Vec<_> = became.unanswered.iter().map(|one| format!("{} ({})", one.thread, one.name)).collect();
        parts.push(format!("threads keep their alternate stacks: {}", threads.join(", ")));
    }
    parts.join("; ")
}

/// Text for the caller. Errors are rare: it is never given back.
fn text(text: String) -> *const c_char {
    CString::new(text).unwrap_or_default().into_raw()
}
