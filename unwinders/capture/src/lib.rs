//! What runs in a signal handler of ours: no lock, no allocation, no thread-local storage, nothing that waits.
//!
//! So far: reading our own memory ([`OwnMemory`]), faults and all.
#![no_std]

mod context;
mod mapping;
mod memory;
mod surroundings;
pub mod syscall;
pub mod threads;
mod trace;

pub use context::{ARCH, Interrupted, SIGINFO, stop};
pub use mapping::{Mapped, Mappings};
pub use memory::{OwnMemory, Range, arm, recover};
pub use surroundings::Surroundings;
pub use trace::{BUDGET, See, Stopped, Traced, trace};
