//! The fast path: the same frames as a [`Walk`](surestack_walk::Walk) over call frame information gives, at the speed of a
//! frame-pointer chase.
//!
//! ```text
//!   state: pc, sp, fp ─► Remembered   as last time from here on? then only look whether the words are still there
//!                    └─► Cache        the rule of this pc, 20 bits
//!                          └─► rules  on a miss: the compact table, else the unwind information itself
//!                    └─► Walk         what no packed rule can say: the full walk, which lags behind, catches up
//! ```
//!
//! What it guarantees: pc, canonical frame address, return slot, link and found-by of every frame are those of the full walk
//! over the same target, and so is the end. Nothing is written that others wait for; nothing is read but words of a stack
//! between the stack pointer and its end, and what the rules are made from.
//! What it cannot do: give all registers of a frame, and judge.
#![no_std]
#![forbid(unsafe_code)]

mod cache;
mod chase;
mod packed;
mod remembered;
mod rules;

pub use cache::{Cache, Found, Generation, Key};
pub use chase::{Chase, Ground, Passed, Start, Take, Words};
pub use packed::{Packed, Special, Unpacked};
pub use remembered::Remembered;
pub use rules::{Evaluated, Rules};
