//! What an item holds, on its way out ([`Fields`]) and back in ([`Payload`]).

use super::LONGEST;

/// Bytes of the longest item without its byte strings: all registers of a thread.
pub(super) const ROOM: usize = 384;
/// Most byte strings of an item.
const STRINGS: usize = 2;

/// The numbers and byte strings of one item. What has no room is left out, and the item does not come back: the test over
/// all items would see it.
pub(super) struct Fields<'a> {
    numbers: [u8; ROOM],
    length: usize,
    strings: [&'a [u8]; STRINGS],
    count: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new() -> Self {
        Self { numbers: [0; ROOM], length: 0, strings: [&[]; STRINGS], count: 0 }
    }

    /// Adds the bytes of a number.
    pub(super) fn number(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.numbers.get_mut(self.length..end) {
            copy(room, bytes);
            self.length = end;
        }
    }

    /// Adds a byte string, its length among the numbers.
    pub(super) fn string(&mut self, bytes: &'a [u8]) {
        let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
        if let (Some(free), Ok(length)) = (self.strings.get_mut(self.count), u32::try_from(bytes.len())) {
            *free = bytes;
            self.count = self.count.saturating_add(1);
            self.number(&length.to_le_bytes());
        }
    }

    /// All of it in the order of the file.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let numbers = self.numbers.get(..self.length).unwrap_or_default();
        core::iter::once(numbers).chain(self.strings.iter().rev().copied())
    }

    /// How many bytes that are.
    pub(super) fn length(&self) -> usize {
        self.pieces().fold(0, |sum, piece| sum.saturating_add(piece.len()))
    }
}

/// What has not been read of an item.
pub(super) struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes of the next number.
    pub(super) fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }

    /// The next byte string.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(u32::from_le_bytes(self.number()?)).ok()?;
        let (rest, string) = self.0.split_at_checked(self.0.len().checked_sub(length)?)?;
        self.0 = rest;
        Some(string)
    }
}

/// Copies as many bytes as there are in both. Unlike `copy_from_slice`, it cannot panic.
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
