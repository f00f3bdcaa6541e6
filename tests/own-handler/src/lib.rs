//! A library that has the handler.

mod writes;

pub use writes::surestack_own_writes;

/// Address of the handler.
#[unsafe(no_mangle)]
pub extern "C" fn surestack_own_handler() -> usize {
    surestack_capture::entry()
}
