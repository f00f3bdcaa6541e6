//! What a signal handler can reach, from the instructions of the linked file. x86_64.
//!
//! ```text
//!   root ── call, jump ───────────────► its code is followed
//!        ── through a linkage slot ───► another module's function: is it on the list?
//!        ── through a constant word ──► its code is followed
//!        ── through a vtable ─────────► that slot of every vtable that reached code refers to
//!        ── through a jump table ─────► all its entries
//!        ── address taken ────────────► as if it were called
//!        ── any other pointer ────────► a violation, or annotated with a reason
//! ```
//!
//! Followed is what can be executed: instruction by instruction, behind a call only if the callee can return. Landing pads
//! are therefore not followed; what throws is not on the list. What only a panic would see is not followed either.
//!
//! What it believes, besides what the ABI says of registers and the stack pointer:
//!
//! * Stores through pointers hit no return address, and none is used to write below the place on the stack it was made of.
//! * Other modules do not replace what the file itself defines.
//! * A pointer that may lead to a vtable leads to one that reached code refers to, unless it came out of a variable. These
//!   calls are counted and listed.
//! * What has no symbol ends where the next thing begins that the file refers to.
//! * A jump table without a bounds check ends before what leads out of the function or between two instructions.
//!
//! What it cannot say: whether memory is there, whether the stack is deep enough, and what an allowed function does.

mod aim;
mod annotation;
mod binary;
mod data;
mod depth;
mod doom;
mod execute;
mod finish;
mod names;
mod print;
mod run;
mod symbols;
mod value;
mod walk;

use crate::error::Error;
use binary::Binary;
use std::collections::BTreeSet;
use std::path::Path;

pub use aim::Reason;
pub use annotation::{Annotation, Bad, read as annotations};
pub use depth::Depth;

/// The root when none is named, where the file has it.
pub const ENTRY: &str = "surestack_signal_entry";

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Functions to begin with, mangled or as in the source. None: [`ENTRY`].
    pub roots: Vec<String>,
    /// Functions that may be called besides the harmless ones; `*` at the end stands for anything.
    pub allowed: Vec<String>,
    /// Indirect calls that somebody vouches for.
    pub annotations: Vec<Annotation>,
    /// Whether thread-local storage may be touched.
    pub thread: Thread,
}

/// What becomes of accesses to thread-local storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thread {
    /// Each is a violation.
    #[default]
    Refused,
    /// They are no concern.
    Allowed,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What must not be, the shortest path first for each.
    pub violations: Vec<Violation>,
    /// Functions of the file that are reached, by name.
    pub functions: BTreeSet<String>,
    /// Functions that were reached and not followed, because they are allowed.
    pub allowed: BTreeSet<String>,
    /// Entries to a panic that were not followed.
    pub escapes: Vec<Sites>,
    /// Indirect calls that an annotation vouches for.
    pub annotated: Vec<Annotated>,
    /// Annotations that are about nothing that was found.
    pub unused: Vec<Annotation>,
    /// Calls through what is taken for a vtable.
    pub virtual_calls: Vec<VirtualCall>,
    /// Indirect calls and jumps whose callees are known.
    pub resolved: usize,
    /// System calls.
    pub system_calls: Vec<SystemCall>,
    /// How much stack is used, for each root.
    pub stack: Vec<(String, Depth)>,
}

/// Something that must not be, and how control gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is.
    pub what: Offence,
    /// The calls from a root to it.
    pub path: Vec<Hop>,
    /// How many other places have the same.
    pub others: usize,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// A function that is not on the list.
    Function(String),
    /// A call whose callee the loader looks for when it is first executed.
    Late(String),
    /// An access to thread-local storage.
    Thread(String),
    /// An indirect call, jump or return that leads nobody knows where.
    Indirect(Reason),
    /// Code that no symbol covers.
    Nameless,
    /// Bytes that are no instruction.
    Undecodable,
    /// An address that is no code.
    NoCode(u64),
    /// More code than can be looked at.
    TooMuch,
}

/// One call on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The instruction's linked address.
    pub address: u64,
    /// The function it is in.
    pub function: String,
    /// How it leads on.
    pub edge: Edge,
    /// Where it leads.
    pub to: String,
}

/// How control, or an address, gets from one function to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// A call by address.
    Call,
    /// A jump.
    Jump,
    /// A call or jump through a pointer that is known.
    Through,
    /// A call or jump through an entry of the table at this address.
    Table(u64),
    /// A call or jump through the vtable at this address.
    Vtable(u64),
    /// The address is taken.
    Taken,
    /// The address is in the data at this address, to which reached code refers.
    Data(u64),
    /// The instruction itself.
    Here,
}

/// A name, and the instructions from which it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sites {
    /// The name in the source.
    pub name: String,
    /// Linked addresses.
    pub sites: Vec<u64>,
}

/// An indirect call that somebody vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// The instruction's linked address.
    pub address: u64,
    /// The function it is in.
    pub function: String,
    /// Why it is all right.
    pub reason: String,
}

/// A call through what is taken for a vtable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualCall {
    /// The instruction's linked address.
    pub address: u64,
    /// The function it is in.
    pub function: String,
    /// Bytes from the vtable's start to the slot.
    pub slot: i64,
    /// What those slots hold.
    pub callees: BTreeSet<String>,
}

/// A system call instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// The instruction's linked address.
    pub address: u64,
    /// The function it is in.
    pub function: String,
    /// Which calls, where that is known.
    pub numbers: Option<Vec<u64>>,
}

/// Verifies the file at `path`.
///
/// # Errors
/// [`Error::Read`] and [`Error::NotElf`] where it cannot be read, is no linked x86_64 file or has no symbols;
/// [`Error::NoFunction`] where a root is not there.
pub fn file(path: &Path, options: &Options) -> Result<Verified, Error> {
    let binary = Binary::open(path)?;
    let named: &[String] = if options.roots.is_empty() { &[ENTRY.to_owned()] } else { &options.roots };
    let mut roots = Vec::new();
    for name in named {
        let found = binary.symbols.called(name);
        if found.is_empty() {
            return Err(Error::NoFunction { name: name.clone(), near: binary.symbols.near(name) });
        }
        roots.extend(found);
    }
    Ok(walk::Walk::new(&binary, options).verify(&roots))
}
