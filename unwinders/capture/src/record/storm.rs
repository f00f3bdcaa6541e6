//! The record of last resort.

use super::check::head;
use super::codes::{Coded, Variants};
use super::fields::{Fields, copy};
use super::{ITEM_HEAD, Item};

/// A fault in the handler that came when nothing else could be recorded any more. All of it fits into one small write, and
/// no state is needed to make it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storm {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The signal.
    pub signal: i32,
    /// Its `si_code`.
    pub code: i32,
    /// The address that could not be touched.
    pub address: u64,
    /// Where.
    pub pc: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// How many faults there were before it.
    pub count: u64,
    /// Nanoseconds since 1970, 0 where nobody looked.
    pub realtime: u64,
}

impl Storm {
    /// Its size in a record.
    pub const SIZE: usize = 64;

    /// A whole item. Readers find it behind anything, and in a file that holds nothing else.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut fields = Fields::new();
        self.put(&mut fields);
        let mut bytes = [0; Self::SIZE];
        if let Some((first, payload)) = bytes.split_at_mut_checked(ITEM_HEAD) {
            fields.pieces().take(1).for_each(|numbers| copy(payload, numbers));
            copy(first, &head(Item::Storm(*self).code(), &fields));
        }
        bytes
    }
}
