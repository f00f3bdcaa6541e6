//! May these functions be replaced now? The decision over all threads of a process.
//!
//! ```text
//!   targets: names, ranges ──► ranges of code, with their parts and the functions that inlined them ─┐
//!   threads: walked, judged ─► traces ───────────────────────────────────────────────────────────────┼─► decide
//!   process: stacks nobody listed, ways back through setjmp, tasks nobody could stop ──► world ──────┘
//! ```
//!
//! [`decide`] is a pure function of what was recorded, so that it says the same over a core file and over a process that
//! is held. It allows nothing unless every thread has a reliable trace without a frame in a target, and nothing else in the
//! process can lead back into one. What was not looked at counts against.
//!
//! A thread that is in a system call may go on behind it or begin it anew, and must be clear either way. What it promises
//! is that nobody is in a target or returns into one; a function may still be *entered* at its first byte afterwards, by a
//! call, by a handler of a signal that is pending, by a thread's start. Who replaces it has its new code there.
//!
//! What it can't do: know about ways back that no trace and no memory shows, such as a return address that the program has
//! encrypted. Those are named by the rules that refuse them (`setjmp`), or vouched for by the caller ([`Vouch`]).

mod check;
mod decision;
mod expand;
mod functions;
mod json;
mod names;
#[cfg(target_os = "linux")]
pub mod own;
mod permit;
mod scan;
mod setjmp;
mod target;
mod text;
mod trace;
mod world;

pub use check::{Examined, ListedStack, Request, Vouch, examine};
pub use decision::{Answer, Decision, Hit, Overall, Reason, Standing, Wait, decide};
pub use expand::{Expanded, expand};
pub use json::json;
pub use names::{Named, Place, Ranges, Several};
pub use permit::{Checked, Permit, check};
pub use scan::{Frames, Searched, Spared, search};
pub use target::{Part, Target, Version, Whose};
pub use text::Text;
pub use trace::{Of, State, ThreadTrace, Trace, TraceFrame};
pub use world::{Obstacle, Unlisted, World};
