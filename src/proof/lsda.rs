//! Tables of landing pads (`.gcc_except_table`): where an exception leads that a call lets through.

use super::Source;
use surestack_walk::Memory;

/// More call sites than any function seen by far.
const MOST: usize = 1 << 16;
/// Bytes read at once.
const WINDOW: usize = 1 << 12;
const OMITTED: u8 = 0xff;

/// A range of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Where an exception continues, if not in a caller.
    pub pad: Option<u64>,
}

/// The call sites of the function at `start`, whose table lies at `table`. `None` where it cannot be read.
pub fn call_sites(source: &Source<'_>, table: u64, start: u64) -> Option<Vec<CallSite>> {
    let mut reader = Reader { source, at: table, window: Vec::new(), first: 0 };
    let pads = match reader.byte()? {
        OMITTED => start,
        encoding => reader.pointer(encoding)?,
    };
    if reader.byte()? != OMITTED {
        reader.uleb()?;
    }
    let encoding = reader.byte()?;
    let length = reader.uleb()?;
    let end = reader.at.checked_add(length)?;
    let mut sites = Vec::new();
    while reader.at < end {
        let from = start.checked_add(reader.number(encoding)?)?;
        let to = from.checked_add(reader.number(encoding)?)?;
        let pad = reader.number(encoding)?;
        reader.uleb()?;
        if sites.len() == MOST {
            return None;
        }
        let pad = if pad == 0 { None } else { Some(pads.checked_add(pad)?) };
        sites.push(CallSite { start: from, end: to, pad });
    }
    Some(sites)
}

/// Where an exception leads that a call at `address` lets through, by the call sites of its function.
pub fn pad(sites: &[CallSite], address: u64) -> Option<u64> {
    let after = sites.partition_point(|site| site.start <= address);
    let site = after.checked_sub(1).and_then(|index| sites.get(index)).filter(|site| address < site.end);
    site.and_then(|site| site.pad)
}

/// Reads bytes one after the other.
struct Reader<'s, 'm> {
    source: &'s Source<'m>,
    at: u64,
    window: Vec<u8>,
    first: u64,
}

impl Reader<'_, '_> {
    fn byte(&mut self) -> Option<u8> {
        let skip = |at: u64, first: u64| at.checked_sub(first).and_then(|skip| usize::try_from(skip).ok());
        if skip(self.at, self.first).is_none_or(|skip| skip >= self.window.len()) {
            self.first = self.at;
            // Near the end of what is mapped less can be read.
            let lengths = [WINDOW, WINDOW / 8, WINDOW / 64, 1];
            let fill = |length: &usize| {
                self.window.resize(*length, 0);
                self.source.read(self.at, &mut self.window).is_ok()
            };
            lengths.iter().any(fill).then_some(())?;
        }
        let byte = *self.window.get(skip(self.at, self.first)?)?;
        self.at = self.at.checked_add(1)?;
        Some(byte)
    }

    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn fixed(&mut self, width: u8) -> Option<u64> {
        let mut value = 0;
        for index in 0..width {
            value |= u64::from(self.byte()?).checked_shl(u32::from(index).checked_mul(8)?)?;
        }
        Some(value)
    }

    /// An unsigned number: `DW_EH_PE_uleb128`, `udata2`, `udata4`, `udata8`; signed ones are not negative here.
    fn number(&mut self, encoding: u8) -> Option<u64> {
        match encoding & 0x0f {
            0x01 => self.uleb(),
            0x02 | 0x0a => self.fixed(2),
            0x03 | 0x0b => self.fixed(4),
            0x00 | 0x04 | 0x0c => self.fixed(8),
            _ => None,
        }
    }

    /// An address, absolute or counted from where it lies.
    fn pointer(&mut self, encoding: u8) -> Option<u64> {
        let here = self.at;
        let value = match encoding & 0x0f {
            0x0b => {
                let word = u32::try_from(self.fixed(4)?).ok()?;
                i64::from(i32::from_le_bytes(word.to_le_bytes())).cast_unsigned()
            }
            _ => self.number(encoding)?,
        };
        match encoding & 0xf0 {
            0x00 => Some(value.wrapping_sub(self.source.bias)),
            0x10 => Some(here.wrapping_add(value)),
            _ => None,
        }
    }
}
