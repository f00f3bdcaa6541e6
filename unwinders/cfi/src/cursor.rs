//! Bytes of a section, read from the front.

use crate::Unusual;
use surestack_walk::Section;

/// The part of a section that is still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    /// Offset in the section of the end of `rest`.
    end: usize,
}

/// `DW_EH_PE_*`: how the value is written.
const FORMAT: u8 = 0x0f;
/// `DW_EH_PE_*`: what the value is added to.
const APPLICATION: u8 = 0x70;
const PCREL: u8 = 0x10;

impl<'a> Cursor<'a> {
    /// The entry at `offset` of the section, from behind its length on.
    #[inline(always)]
    pub fn entry(section: &'a [u8], offset: usize) -> Result<Self, Unusual> {
        let (length, rest) = section.get(offset..).and_then(<[u8]>::split_first_chunk::<4>).ok_or(Unusual)?;
        // Those from 0xffff_fff0 on are reserved, and there is no room behind them; 0 ends the section.
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unusual)?;
        let behind = rest.len().checked_sub(length).ok_or(Unusual)?;
        Ok(Self { rest: rest.get(..length).ok_or(Unusual)?, end: section.len().checked_sub(behind).ok_or(Unusual)? })
    }

    /// Offset in the section of the next byte.
    pub fn offset(&self) -> usize {
        self.end.wrapping_sub(self.rest.len())
    }

    #[inline(always)]
    pub fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline(always)]
    pub fn byte(&mut self) -> Result<u8, Unusual> {
        self.next().ok_or(Unusual)
    }

    #[inline(always)]
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Unusual> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Unusual)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// What follows if these bytes are next.
    #[inline(always)]
    pub fn behind<const N: usize>(&self, bytes: &[u8; N]) -> Option<Self> {
        let (next, rest) = self.rest.split_first_chunk::<N>()?;
        (next == bytes).then_some(Self { rest, ..*self })
    }

    /// Takes the next `length` bytes apart.
    #[inline(always)]
    pub fn split(&mut self, length: u32) -> Result<Self, Unusual> {
        let length = usize::try_from(length).map_err(|_| Unusual)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Unusual)?;
        let end = self.offset().wrapping_add(length);
        self.rest = rest;
        Ok(Self { rest: taken, end })
    }

    /// An unsigned LEB128 number of up to 28 bits, so that it is the same number when signed.
    #[inline(always)]
    pub fn unsigned(&mut self) -> Result<u32, Unusual> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        let (value, _, rest) = self.longer(first)?;
        *self = rest;
        Ok(value)
    }

    /// A signed LEB128 number of up to 28 bits.
    #[inline(always)]
    pub fn signed(&mut self) -> Result<i32, Unusual> {
        let first = self.byte()?;
        let (mut value, mut bits) = (u32::from(first), 7);
        if first >= 0x80 {
            (value, bits, *self) = self.longer(first)?;
        }
        let unused = u32::BITS - bits;
        Ok((value << unused).cast_signed() >> unused)
    }

    /// The rest of a LEB128 number, up to four bytes of seven bits each: its value, how many bits it has, and what is
    /// behind it.
    fn longer(mut self, first: u8) -> Result<(u32, u32, Self), Unusual> {
        let mut value = u32::from(first & 0x7f);
        for bits in [7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << bits;
            if byte < 0x80 {
                return Ok((value, bits + 7, self));
            }
        }
        Err(Unusual)
    }

    /// A pointer written as `encoding` says, in a section of which the linked address is known. Whether it points at
    /// another pointer does not matter.
    #[inline(always)]
    pub fn pointer(&mut self, encoding: u8, section: Section<'_>) -> Result<u64, Unusual> {
        let base = match encoding & APPLICATION {
            0 => 0,
            PCREL => section.address.wrapping_add(u64::try_from(self.offset()).map_err(|_| Unusual)?),
            _ => return Err(Unusual),
        };
        Ok(base.wrapping_add(self.value(encoding)?))
    }

    /// The number of a pointer, added to nothing.
    #[inline(always)]
    pub fn value(&mut self, encoding: u8) -> Result<u64, Unusual> {
        Ok(match encoding & FORMAT {
            0x0b => i64::from(i32::from_le_bytes(self.bytes()?)).cast_unsigned(),
            0x03 => u64::from(u32::from_le_bytes(self.bytes()?)),
            0x00 | 0x04 | 0x0c => u64::from_le_bytes(self.bytes()?),
            _ => return Err(Unusual),
        })
    }
}
