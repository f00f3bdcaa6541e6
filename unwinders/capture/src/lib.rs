//! What runs in a signal handler of ours: no lock, no allocation, no thread-local storage, nothing that waits.
//!
//! So far: reading our own memory ([`OwnMemory`]), faults and all.
#![no_std]

pub mod alternate;
mod memory;
pub mod stacks;
pub mod syscall;

pub use memory::{OwnMemory, Range, arm, recover};
