//! The crash handler: what is done before and after the signal, where one may allocate.
//!
//! ```no_run
//! let _guard = surestack::install()?;
//! # Ok::<(), surestack::crash::InstallError>(())
//! ```
//!
//! From then on fatal signals and panics, in any thread, leave a report. Dropping the guard puts everything back. What runs
//! at the signal itself is in `surestack_capture`.
//!
//! Limits: x86_64 Linux. A thread made by a raw `clone`, or with the feature `threads` off, has no alternate stack of ours:
//! if it overflows its stack, the kernel cannot even enter a handler. A thread that existed before, and blocks the signal by
//! which it is asked to change its alternate stack, is named by [`Guard::unanswered`]. At the moment of asking, system calls
//! in other threads may return `EINTR` once, where the kernel does not begin them again by itself.

mod alternate;
mod ask;
mod builder;
mod environment;
mod error;
mod existing;
mod guard;
mod opened;
mod panic;
mod prepared;
mod signals;
#[cfg(feature = "threads")]
mod threads_created;

pub use alternate::threads;
pub use ask::Why;
pub use builder::{AlternateStacks, FATAL, Format, Handler, Helper, Text};
pub use environment::Detail;
pub use error::InstallError;
pub use guard::{Guard, Unanswered, Uninstalled};
pub use surestack_capture::{Chain, Threads};
#[cfg(feature = "threads")]
pub use threads_created::threads_without;

/// Installs the handler as [`Handler::builder`] has it, if the environment says nothing else.
///
/// # Errors
/// What was refused, and what to do about it. Then everything is as it was.
pub fn install() -> Result<Guard, InstallError> {
    Handler::builder().install()
}
