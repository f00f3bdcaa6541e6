//! Panics: what the thread says is kept for handlers, the hook that was there is called, and a report is made.
//!
//! Hooks are a stack like handlers: who is set last is called first, and calls who was there before. std gives no way to
//! look at the one that is set but to take it, so we know ours by its address. Where somebody has set another over ours
//! meanwhile, ours stays beneath, and only calls who was there before.

use std::any::Any;
use std::fmt::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use surestack_capture::message::{Message, PANICS, TEXT};
use surestack_capture::record::Occasion;
use surestack_capture::syscall;

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Whether panics are reported.
static ACTIVE: AtomicBool = AtomicBool::new(false);
static SET: Mutex<Option<Set>> = Mutex::new(None);

/// Our hook, while somebody has it.
struct Set {
    address: usize,
    before: Arc<Hook>,
    /// Cleared when our hook is dropped.
    is_there: Arc<AtomicBool>,
}

/// What our hook owns.
struct Ours {
    before: Arc<Hook>,
    is_there: Arc<AtomicBool>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.is_there.store(false, Ordering::Release);
    }
}

/// Reports panics from now on.
pub(super) fn hook() {
    ACTIVE.store(true, Ordering::Release);
    let mut set = SET.lock().unwrap_or_else(PoisonError::into_inner);
    // Beneath another it is called by that one; and the hook cannot be changed in the middle of a panic.
    if std::thread::panicking() || set.as_ref().is_some_and(|set| set.is_there.load(Ordering::Acquire)) {
        return;
    }
    let (before, is_there) = (Arc::new(panic::take_hook()), Arc::new(AtomicBool::new(true)));
    let ours = Ours { before: Arc::clone(&before), is_there: Arc::clone(&is_there) };
    let hook: Hook = Box::new(move |info| ours.panicked(info));
    *set = Some(Set { address: address(&hook), before, is_there });
    panic::set_hook(hook);
}

/// Reports them no longer, and puts the hook back that was there before, if ours is still the first.
pub(super) fn unhook() {
    ACTIVE.store(false, Ordering::Release);
    let mut set = SET.lock().unwrap_or_else(PoisonError::into_inner);
    if std::thread::panicking() || set.is_none() {
        return;
    }
    let first = panic::take_hook();
    match set.take_if(|set| set.address == address(&first)) {
        Some(Set { before, .. }) => {
            drop(first);
            // Nobody else has it any more.
            if let Ok(before) = Arc::try_unwrap(before) {
                panic::set_hook(before);
            }
        }
        None => panic::set_hook(first),
    }
}

/// Where a hook lies. Ours has a size, so no other has its address.
fn address(hook: &Hook) -> usize {
    (&raw const **hook).cast::<()>().addr()
}

impl Ours {
    /// What std calls, or the hook that was set over ours.
    fn panicked(&self, info: &PanicHookInfo<'_>) {
        if !ACTIVE.load(Ordering::Acquire) {
            return (self.before)(info);
        }
        let mut said = Said { text: [0; TEXT], length: 0 };
        // It takes whatever there is room for.
        let _ = match info.location() {
            Some(location) => write!(said, "panicked at {location}:\n{}", payload(info.payload())),
            None => write!(said, "panicked: {}", payload(info.payload())),
        };
        // std's frame that calls the hook has made this, and outlives all hooks.
        let inside = u64::try_from(std::ptr::from_ref(info).addr()).unwrap_or(0);
        let text = said.text.get(..said.length).unwrap_or_default();
        let message = PANICS.keep(syscall::thread_id(), text, inside);
        (self.before)(info);
        report(message, text);
    }
}

/// Has a report made of this panic, here, where it happened. An abort that follows makes no second one: the report finds the
/// frame that [`Message::inside`] lies in, and remembers it.
fn report(message: Option<&Message>, text: &[u8]) {
    if let (Some(plan), Some(_)) = (surestack_capture::plan(), message) {
        // Where the kernel refuses, an abort that follows is reported.
        let _ = surestack_capture::request(plan, Occasion::Panic, text);
    }
}

/// What a panic says.
fn payload(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}

/// Text, cut where there is no more room.
struct Said {
    text: [u8; TEXT],
    length: usize,
}

impl Write for Said {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.get_mut(self.length..).unwrap_or_default();
        let take = (0..=room.len().min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        room.iter_mut().zip(text.as_bytes().iter().take(take)).for_each(|(place, byte)| *place = *byte);
        self.length += take;
        if take == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
