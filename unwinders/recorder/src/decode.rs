//! What a recorder's bytes say: of a file, a core, a crash report, or our own memory.
//!
//! Nothing here trusts a byte: each part is checked by its sum and its bounds, and what does not hold is not shown. What a
//! sum cannot tell is text that somebody put into an event on purpose so that it looks like a record: below what is
//! committed that takes a writer that was left in the middle, and knowledge of its position.
//!
//! ```text
//!   Header   where everything lies          two copies, the first that holds
//!   Counters what was lost                  not under a sum: they change
//!   Slot     a thread, and which positions  of its ring can be shown
//!   Page     the records of a page, and holes between them
//!   Site     what a record means: names and types of its fields
//!   Annotation  a key, and its newest whole value
//! ```

mod annotation;
mod header;
mod page;
mod site;
mod slot;

pub use annotation::Annotation;
pub use header::{Counters, Header, Refused};
pub use page::{Page, Piece, Record};
pub use site::{Fields, Kinds, Site};
pub use slot::{Slot, Unsound};

use crate::Value;
use crate::layout::kind;

/// Bytes of a word.
const WORD: usize = 8;

/// A value that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen<'a> {
    /// It. Text ends where it was cut, or where it is no UTF-8.
    pub value: Value<'a>,
    /// Bytes of the whole text, of which [`value`](Self::value) may be the beginning.
    pub length: u64,
}

impl<'a> Seen<'a> {
    /// A value that is one word.
    fn word(what: u64, word: u64) -> Option<Self> {
        let value = match what {
            kind::UNSIGNED => Value::Unsigned(word),
            kind::SIGNED => Value::Signed(word.cast_signed()),
            kind::FLOAT => Value::Float(f64::from_bits(word)),
            kind::BOOL => Value::Bool(word != 0),
            kind::ADDRESS => Value::Address(word),
            _ => return None,
        };
        Some(Self { value, length: WORD as u64 })
    }

    /// Text of `length` bytes, of which these are there.
    fn text(bytes: &'a [u8], length: u64) -> Self {
        Self { value: Value::Text(readable(bytes)), length }
    }
}

/// The text that these bytes begin with.
fn readable(bytes: &[u8]) -> &str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let whole = bytes.get(..error.valid_up_to()).unwrap_or_default();
            core::str::from_utf8(whole).unwrap_or_default()
        }
    }
}

/// What comes before the first zero.
fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The word at an offset.
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// All words of these bytes; what is less than one at their end is not there.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(WORD).filter_map(|chunk| word(chunk, 0))
}

/// Bits of a word, as a length that is compared with others.
fn bits(word: u64, from: u32, count: u32) -> usize {
    usize::try_from(word >> from & !(u64::MAX << count)).unwrap_or(usize::MAX)
}
