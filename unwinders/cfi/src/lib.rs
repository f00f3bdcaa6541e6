//! Unwinding by call frame information: DWARF 5 section 6.4, `.eh_frame` as in the LSB core specification.
//!
//! All unwind information becomes a [`Row`], whatever its format, and one function, [`apply`], follows a row.
//!
//! ```text
//!   pc ──► Rows::row ──► Row ──► apply ──► caller
//!          │                     │
//!          ├── DwarfRows         └── expression: the stack machine
//!          │     └── Function ──► Compact: our own reader of one entry; gimli for what that calls Unusual
//!          └── (offline) rows from a cache, or from the instructions
//! ```
//!
//! What it guarantees: no allocation; bytes from a target cannot make it panic or run without bound; a register that
//! the row says nothing about is known in the caller only if the ABI makes the callee preserve it.
//! What it cannot do: know whether a row tells the truth.
#![no_std]
#![forbid(unsafe_code)]

mod augmentation;
mod compact;
mod cursor;
mod dwarf;
mod entry;
mod exec;
mod expression;
mod hdr;
mod program;
mod reference;
mod row;

pub use augmentation::drop_key_letters;
pub use compact::{Compact, CompactCfa, CompactExpression, CompactRule};
pub use dwarf::DwarfRows;
pub use entry::{Function, Unusual};
pub use exec::apply;
pub use hdr::Header;
pub use reference::ReferenceRows;
pub use row::{CfaRule, Entry, Expression, Origin, Row, Rule, Rules};

use surestack_walk::{CodeAddress, Error, Regs, Step, Target, Unwinder, Why};

/// A source of rows.
pub trait Rows {
    /// Lends the row in force at `pc` to `look`, or says why there is none.
    ///
    /// # Errors
    /// [`Error::BadCfi`] when there is unwind information for `pc` and it is broken.
    fn row<T>(
        &self,
        target: &Target<'_>,
        pc: CodeAddress,
        look: impl FnOnce(&Row<'_>) -> T,
    ) -> Result<Lookup<T>, Error>;
}

/// What a source of rows answers.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<T> {
    /// What was made of the row in force.
    Row(T),
    /// There is none, and why.
    Missing(Why),
}

/// Finds callers by rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cfi<R>(pub R);

impl<R: Rows> Unwinder for Cfi<R> {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(pc) = callee.pc() else {
            return Ok(Step::NotMine(Why::NoPc));
        };
        match self.0.row(target, pc, |row| apply(row, target, callee, caller))? {
            Lookup::Row(step) => step,
            Lookup::Missing(why) => Ok(Step::NotMine(why)),
        }
    }
}
