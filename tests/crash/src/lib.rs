//! A test bed for crash handlers: victims that die in every way we know, and a judge of what the handler left.
//!
//! A victim (`victim/`, C and Rust) keeps the truth about its own call chain in a file it shares with the judge
//! ([`truth`]): each function of the chain enters its return address when it begins. What calls the chain (`main`, a
//! thread's start) is taken from libgcc's unwinder while all is calm. The [`judge`] compares a report with that address by
//! address. [`scenes`] names the ways to die, [`contender`] the handlers, [`run`] lets one die under another.

pub mod calls;
pub mod contender;
pub mod judge;
pub mod random;
pub mod record;
pub mod run;
pub mod said;
pub mod scenes;
pub mod table;
pub mod truth;
pub mod victim;
pub mod victims;
