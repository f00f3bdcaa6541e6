//! The bytes that a handler leaves behind: written with no memory but a small buffer, read with none at all.
//!
//! Everything is little endian. A record begins with 16 bytes: [`MAGIC`], the version of this format (`u16`), the machine as
//! ELF numbers it (`u16`), and four bytes of nothing. Then items follow as they came:
//!
//! ```text
//!    0        2        4                  8
//!   ┌────────┬────────┬──────────────────┬──────────────────────────┬──────────────┬──────┐
//!   │ kind   │ check  │ length           │ numbers                  │ byte strings │ zeros│  to the next multiple of 8
//!   └────────┴────────┴──────────────────┴──────────────────────────┴──────────────┴──────┘
//!                                        └────────── length ───────────────────────┘
//! ```
//!
//! `check` is a sum over the kind, the length and what follows. The byte strings lie at the end, the first one last, their
//! lengths among the numbers: whoever adds to an item adds numbers behind those that are there, and older readers still
//! find the rest.
//!
//! What it guarantees: what was written whole is read, whatever is missing or broken before and behind it, and what is
//! broken is said ([`Damage`]). What it cannot do: tell a record that was cut at the end of an item from one that ends
//! there; [`Item::Done`] tells that, and the numbers in [`Item::End`] tell whether frames are missing.

mod check;
mod codes;
mod fields;
mod item;
mod items;
mod name;
mod signature;
mod storm;
#[cfg(test)]
mod tests;
mod writer;

pub use item::{Failure, Gap, Item, MessageKind, Occasion, ThreadState};
pub use items::{Damage, Items};
pub use name::{Moment, Name, SUFFIX};
pub use signature::Signature;
pub use storm::Storm;
pub use writer::{Sink, Writer};

/// The first eight bytes of a record.
pub const MAGIC: [u8; 8] = *b"\x89SURESTK";
/// The version of the format. Items and numbers at the end of items are added without a new one.
pub const VERSION: u16 = 1;
/// Bytes before the first item.
pub const HEAD: usize = 16;
/// Longest byte string of an item; what is longer is cut there.
pub const LONGEST: usize = 1 << 16;

/// Bytes of an item before its numbers.
const ITEM_HEAD: usize = 8;
/// Items begin at multiples of this.
const ALIGNMENT: usize = 8;
