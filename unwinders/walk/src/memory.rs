//! Reading a target.

use crate::Error;
use core::ops::Range;

/// The memory of a target.
///
/// The one way in which anything here reads an address that came from a target.
pub trait Memory {
    /// Fills all of `into` from `address`, or fails.
    ///
    /// # Errors
    /// [`Error::Unreadable`] with `address` when any byte cannot be had.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error>;

    /// Where in `range` something is held that was ever written, at the earliest; `None` if nowhere. What lies before it can be
    /// read as zeros, or not at all: whoever looks through much memory passes over it. Nobody need know, and then it is the
    /// first address.
    fn next_held(&self, range: Range<u64>) -> Option<u64> {
        (!range.is_empty()).then_some(range.start)
    }

    /// The little-endian 64-bit word at `address`.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn word(&self, address: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The little-endian unsigned value of `width` bytes (1 to 8) at `address`.
    ///
    /// # Errors
    /// As [`Memory::read`]; a width outside 1 to 8 is unreadable.
    fn value(&self, address: u64, width: u8) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        let into = bytes.get_mut(..usize::from(width)).ok_or(Error::Unreadable { address })?;
        self.read(address, into)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// A slice as memory, its first byte at `address`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Memory for Bytes<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let source = address
            .checked_sub(self.address)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.bytes.get(offset..)?.get(..into.len()))
            .ok_or(Error::Unreadable { address })?;
        into.copy_from_slice(source);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Bytes<'_> = Bytes { address: 0x1000, bytes: &[1, 2, 3, 4, 5, 6, 7, 8, 9] };

    #[test]
    fn a_word_is_read_little_endian() {
        assert_eq!(MEMORY.word(0x1000), Ok(0x0807_0605_0403_0201));
        assert_eq!(MEMORY.value(0x1002, 2), Ok(0x0403));
    }

    #[test]
    fn a_read_that_leaves_the_slice_fails_with_its_address() {
        assert_eq!(MEMORY.word(0x1002), Err(Error::Unreadable { address: 0x1002 }));
        assert_eq!(MEMORY.word(0xfff), Err(Error::Unreadable { address: 0xfff }));
        assert_eq!(MEMORY.value(0x1000, 9), Err(Error::Unreadable { address: 0x1000 }));
    }
}
