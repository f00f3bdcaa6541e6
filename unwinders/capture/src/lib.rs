//! What runs in a signal handler of ours: no lock, no allocation, no thread-local storage, nothing that waits without end.
//!
//! ```text
//!   kernel ─► entry ─► handler ─► report: 10 steps, each an attempt
//!                                   │ context       what the kernel saved → registers
//!                                   │ trace         walk and judge, over surroundings and memory
//!                                   │ record        items → bytes ─► write(2)
//!                                   └ page, names   the same as text
//!               leave ◄─ whatever would have happened without us
//! ```
//!
//! Everything it needs was prepared at install and is in a [`Plan`]. What it guarantees: a fault of its own ends a step, not
//! the report; no wait is longer than the plan's budget; system calls are made without libc. What it cannot do: symbols and
//! lines, and the evidence that only files give. A record ([`record`]) is finished by somebody who has them.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod alternate;
mod context;
mod fast;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod helper;
mod here;
mod late;
mod mapping;
mod memory;
pub mod message;
pub mod record;
mod remembered;
mod roomy;
pub mod stacks;
mod surroundings;
pub mod syscall;
pub mod threads;
mod trace;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod attempt;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod crashed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod entry;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod file;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod handler;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod kept;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod leave;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod names;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod others;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod page;
mod plan;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod recorder;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod report;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod request;
mod stack;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod text;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unchanged;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod words;

pub use context::{ARCH, Interrupted, SIGINFO, stop};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use entry::{entry, marker, restorer};
pub use fast::{CACHE, Layers, chase, lasts};
pub use here::{HereWords, here, here_words};
pub use late::Loader;
pub use mapping::{Mapped, Mappings};
pub use memory::{OwnMemory, Range, arm, recover};
pub use plan::{Chain, Helper, Initial, Plan, Second, Threads, Words, plan, publish, remember, remembered};
pub use remembered::Memory;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use report::{MARKER, markers};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use request::request;
pub use roomy::with_room;
pub use stack::HandlerStack;
pub use surroundings::Surroundings;
pub use trace::{BUDGET, See, Stopped, Traced, trace};
