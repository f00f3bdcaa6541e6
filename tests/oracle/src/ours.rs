//! The contender that all this is for: the library itself, asked as a user would ask it. Not compiled yet.
//!
//! It needs a snapshot of a thread that is already stopped under somebody else's ptrace (process, registers, modules).
//! When the library has one: `impl Contender for Ours` here with [`crate::measure::OURS`] as its name, trusted only on a
//! reliable verdict; modules kept while `Stop::modules_generation` stays the same; then `pub mod ours;` in `lib.rs` and one
//! line in [`crate::contender::all`]. Its false trusts are then listed in full in the causes file.
