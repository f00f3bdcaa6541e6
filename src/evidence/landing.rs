//! Landing pads: where control goes on in a function when an exception leaves a call that it made.
//!
//! ```text
//!   FDE ──► LSDA: LPStart, types, call sites (start, length, landing pad, action)
//! ```

use super::FileEvidence;
use gimli::{BaseAddresses, EhFrame, LittleEndian, Pointer, UnwindSection};
use surestack_cfi::Header;
use surestack_walk::Memory;

/// Most call sites of one function: generated parsers have some thousands.
const MOST: usize = 1 << 16;
/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xff;

/// A range of code whose calls may come back at a landing pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallSite {
    pub start: u64,
    pub end: u64,
    pub pad: u64,
}

impl FileEvidence<'_> {
    /// The call sites with landing pads of the function at `address`; `None` where what it says about them cannot be read.
    pub(super) fn call_sites(&self, address: u64) -> Option<Vec<CallSite>> {
        let Some((function, pointer)) = self.lsda(address)? else { return Some(Vec::new()) };
        let mut reader = Reader { memory: self.memory, at: pointer };
        let format = reader.byte()?;
        let base = if format == OMIT { function } else { reader.encoded(format)? };
        if reader.byte()? != OMIT {
            reader.uleb()?;
        }
        let format = reader.byte()?;
        let length = reader.uleb()?;
        let end = reader.at.checked_add(length)?;
        let mut sites = Vec::new();
        while reader.at < end {
            let (start, length, pad) = (reader.encoded(format)?, reader.encoded(format)?, reader.encoded(format)?);
            reader.uleb()?;
            if pad != 0 {
                let start = function.wrapping_add(start);
                sites.push(CallSite { start, end: start.checked_add(length)?, pad: base.wrapping_add(pad) });
            }
            if sites.len() > MOST {
                return None;
            }
        }
        Some(sites)
    }

    /// Where the function at `address` begins, and where its language-specific data lies, if it has any.
    fn lsda(&self, address: u64) -> Option<Option<(u64, u64)>> {
        let module = self.modules.find(address)?;
        let (Some(section), Some(index)) = (module.unwind.eh_frame, module.unwind.eh_frame_hdr) else {
            return Some(None);
        };
        let mut frames = EhFrame::new(section.bytes, LittleEndian);
        frames.set_address_size(8);
        let mut bases = BaseAddresses::default().set_eh_frame(section.address).set_eh_frame_hdr(index.address);
        if let Some(text) = module.unwind.text {
            bases = bases.set_text(text);
        }
        if let Some(got) = module.unwind.got {
            bases = bases.set_got(got);
        }
        let linked = address.wrapping_sub(module.bias);
        let entry = Header::parse(index)?.lookup(linked)?.checked_sub(section.address)?;
        let fde = frames.fde_from_offset(&bases, usize::try_from(entry).ok()?.into(), EhFrame::cie_from_offset).ok()?;
        if !fde.contains(linked) {
            return Some(None);
        }
        let function = fde.initial_address().wrapping_add(module.bias);
        Some(match fde.lsda() {
            None | Some(Pointer::Direct(0)) => None,
            Some(Pointer::Direct(at)) => Some((function, at.wrapping_add(module.bias))),
            Some(Pointer::Indirect(at)) => Some((function, self.memory.word(at.wrapping_add(module.bias)).ok()?)),
        })
    }
}

/// Reads one value after the other.
struct Reader<'m> {
    memory: &'m dyn Memory,
    at: u64,
}

impl Reader<'_> {
    fn fixed(&mut self, width: u8) -> Option<u64> {
        let value = self.memory.value(self.at, width).ok()?;
        self.at = self.at.checked_add(u64::from(width))?;
        Some(value)
    }

    fn byte(&mut self) -> Option<u8> {
        u8::try_from(self.fixed(1)?).ok()
    }

    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A value in one of the `DW_EH_PE_*` forms that compilers write here, counted from zero or from where it lies.
    fn encoded(&mut self, format: u8) -> Option<u64> {
        let from = match format & 0xf0 {
            0x00 => 0,
            0x10 => self.at,
            _ => return None,
        };
        let value = match format & 0x0f {
            0x00 | 0x04 | 0x0c => self.fixed(8)?,
            0x01 => self.uleb()?,
            0x02 => self.fixed(2)?,
            0x03 => self.fixed(4)?,
            0x0b => i64::from(u32::try_from(self.fixed(4)?).ok()?.cast_signed()).cast_unsigned(),
            _ => return None,
        };
        Some(value.wrapping_add(from))
    }
}
