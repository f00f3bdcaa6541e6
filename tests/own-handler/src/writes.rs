//! A handler of somebody else's that writes into the flight recorder: numbers, text of any length, and an annotation.

use surestack_recorder::{Site, Value, annotate, write};

/// Called with a number and text from anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn surestack_own_writes(number: i64, text: *const u8, length: usize) {
    static SITE: Site = Site::new("own", module_path!(), file!(), line!(), 3, &["number", "text"]);
    // SAFETY: as whoever calls this promises; it is never called, only looked at.
    let text = unsafe { str::from_utf8_unchecked(core::slice::from_raw_parts(text, length)) };
    let _ = write(&SITE, &[Value::Signed(number), Value::Text(text)]);
    let _ = annotate("own", text);
}
