//! The flight recorder's part that runs anywhere, signal handlers included: events into a thread's own ring, annotations
//! into slots of the process, both in memory that outlives it.
//!
//! ```text
//!   event!  ─► Site (what it means, described once) ─► this thread's slot ─► ring     protocol, `ring.rs`
//!   annotate ─► key's slot ─► one of four cells
//!                                                        └─ all of it in an [`Arena`]: layout.rs says where
//!   decode  ◄─ bytes of an arena: a file, a core, a crash report, our own memory
//! ```
//!
//! What it guarantees: no lock, no allocation, no wait, no panic; a bounded number of steps, a few system calls among them
//! when a thread writes for the first time. What it cannot do: make a file (`surestack::recorder` does), or record what a
//! thread wrote for which there is no slot any more: that is counted.
#![no_std]

#[cfg(test)]
extern crate std;

mod annotation;
mod arena;
mod claim;
pub mod decode;
mod event;
pub mod layout;
mod local;
mod pack;
pub mod ring;
mod shared;
mod site;
mod value;

pub use annotation::annotate;
pub use arena::{AlreadyStarted, Arena, Geometry, publish, started};
pub use event::{Dropped, prepare_this_thread, write};
pub use site::Site;
pub use value::{Field, Formatted, Value};
