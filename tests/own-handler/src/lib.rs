//! A library that has the handler.

/// Address of the handler.
#[unsafe(no_mangle)]
pub extern "C" fn surestack_own_handler() -> usize {
    surestack_capture::entry()
}
