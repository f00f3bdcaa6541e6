//! The oracle: single-steps real programs, knows the true call chain at every instruction, and asks every unwinder.
//!
//! A program runs under ptrace, one instruction at a time ([`session`]). What each instruction does to the call chain
//! ([`decode`]) is noted in a shadow call stack ([`shadow`], where it is written down what counts as truth). At every
//! Nth instruction ("uniform": what a random interruption sees) and at the first visit of each pc ("cover": the code
//! base as a whole) each [`contender`] is asked for the chain, and compared with the truth position by position.
//!
//! x86_64 Linux only.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the oracle knows x86_64 Linux only");

pub mod causes;
pub mod clear;
mod code;
pub mod contender;
pub mod decode;
pub mod document;
pub mod error;
pub mod fast;
pub mod functions;
pub mod maps;
pub mod measure;
pub mod memory;
pub mod programs;
pub mod random;
pub mod rows;
pub mod run;
pub mod score;
pub mod session;
pub mod shadow;
pub mod symbols;
pub mod table;
pub mod targets;
pub mod tracee;
