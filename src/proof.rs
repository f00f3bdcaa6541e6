//! Unwind rows proven against the instructions. x86_64, `.eh_frame` and `.debug_frame`.
//!
//! ```text
//!   Layout      which functions there are, and which of them have to be looked at together
//!   Code        their instructions, decoded once, and what their rows claim
//!   Run         what holds at each instruction, from the functions' entries on
//!   compare     one claim against what holds
//!   correct     the claim that would be right
//! ```
//!
//! What it guarantees: `Proven` means that on every way to the instruction the row is right; see [`run`] for the argument
//! and for what is believed. What it cannot do: follow a jump whose target is computed in a way it does not know; rows
//! that such a jump may reach are at most `Assumed`.

mod believe;
pub mod claim;
pub mod code;
pub mod compare;
mod correct;
mod expression;
pub mod imports;
pub mod layout;
mod leaving;
mod lsda;
pub mod noreturn;
pub mod run;

use claim::Claim;
use code::Code;
use layout::Layout;
pub use noreturn::Return;
use noreturn::Returns;
use run::Run;
use std::collections::BTreeMap;
use std::rc::Rc;
use surestack_walk::{Error, Memory, RowProof, UnwindSections};

/// Most functions that are looked at together. What hangs together more widely is looked at in part.
const MOST: usize = 48;

/// A module, and where its code is read. Addresses are linked addresses.
pub struct Source<'m> {
    /// Where bytes come from, at addresses that include the bias.
    pub memory: &'m dyn Memory,
    /// Load bias.
    pub bias: u64,
    /// Its unwind information.
    pub unwind: UnwindSections<'m>,
    /// Whether a call through a word in memory comes back, which may be one that the loader filled.
    pub through: &'m dyn Fn(u64) -> Return,
    /// Whether the function at an address is the loader's resolver: lazily bound linkage tables jump to it with two words on
    /// top of the return address (System V ABI, x86-64, 5.2).
    pub resolves: &'m dyn Fn(u64) -> bool,
}

impl Memory for Source<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.memory.read(address.wrapping_add(self.bias), into)
    }
}

/// What became of the row at one instruction. Registers are bits, in the order of rbx, rbp, r12 to r15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proven {
    /// Its frame.
    pub frame: RowProof,
    /// Registers that lie where it says.
    pub saved: u8,
    /// Registers that are unchanged, as it says.
    pub kept: u8,
    /// Registers that are not what it says, though the frame is right.
    pub wrong: u8,
    /// By how much its frame address is too large, where the frame is contradicted and that is known.
    pub off: i64,
}

impl Proven {
    /// No way leads to the instruction, and its row cannot be believed either.
    pub const UNREACHED: Self = Self { frame: RowProof::Undecided, saved: 0, kept: 0, wrong: 0, off: 0 };
}

/// Functions that were looked at together, and what was found.
pub struct Proved {
    /// Their instructions.
    pub code: Code,
    /// What became of the row of each, in the order of [`Code::steps`].
    pub proven: Vec<Proven>,
    /// By address, the rows that are right where the frame or a register is contradicted, proven like any other.
    pub corrections: BTreeMap<u64, Claim>,
}

/// One module and what was found out about it.
pub struct Proofs {
    /// Its functions.
    pub layout: Rc<Layout>,
    /// Which of them return.
    pub returns: Returns,
}

impl Proofs {
    /// Nothing is found out yet about these functions.
    pub fn new(layout: Rc<Layout>) -> Self {
        Self { layout, returns: Returns::default() }
    }

    /// The function at `index` and those looked at together with it.
    pub fn prove(&self, source: &Source<'_>, index: usize) -> Proved {
        let members = self.layout.together(index, MOST);
        let code = Code::new(source, &self.layout, &members);
        let mut run = Run::new(source, &code, self);
        let mut proven = run.finish();
        let mut corrections = run.corrections();
        if members.len() == MOST {
            corrections.clear();
            let is_proven = |found: &&mut Proven| matches!(found.frame, RowProof::Proven | RowProof::Overwritten);
            for found in proven.iter_mut().filter(is_proven) {
                found.frame = RowProof::Assumed;
            }
        }
        Proved { code, proven, corrections }
    }
}
