//! What runs in a signal handler of ours: no lock, no allocation, no thread-local storage, nothing that waits.
//!
//! So far: reading our own memory ([`OwnMemory`]), faults and all, and the bytes of what is found there ([`record`]).
#![no_std]

#[cfg(test)]
extern crate std;

mod memory;
pub mod record;

pub use memory::{OwnMemory, Range, arm, recover};
