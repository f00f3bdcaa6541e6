//! Our own reader of `.eh_frame` entries, LSB core specification 10.6.1: what compilers write, and nothing else.
//!
//! ```text
//!   CIE  length │ 0        │ version "zPLR" factors return │ augmentation data          │ initial instructions
//!   FDE  length │ distance │ start of code, length         │ augmentation data (length) │ instructions
//! ```
//!
//! What it does not know is [`Unusual`], never guessed at; whoever asked then asks gimli.

use crate::{Compact, cursor::Cursor};
use surestack_walk::Section;

/// An entry, or a part of it, that our own reader leaves to gimli: broken, or of a kind that no compiler for x86_64
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusual;

/// What unwind information says about one function: an FDE with its CIE. Addresses are linked ones.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    /// First code address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Whether it is entered by a signal (augmentation `S`): the caller's pc is the interrupted instruction.
    pub is_signal_frame: bool,
    /// DWARF number of the register that holds the return address in the caller's row.
    pub return_register: u8,
    pub(crate) code_factor: u32,
    pub(crate) data_factor: i32,
    /// Offset of `program` in the section.
    pub(crate) base: u32,
    /// The instructions of the CIE.
    pub(crate) initial: Cursor<'a>,
    /// The instructions of the FDE.
    pub(crate) program: Cursor<'a>,
}

impl<'a> Function<'a> {
    /// The function whose FDE lies at the linked address `fde` of an `.eh_frame`, as a search table gives it.
    ///
    /// # Errors
    /// What is there is no FDE, or one that gimli is to read.
    pub fn at(section: Section<'a>, fde: u64) -> Result<Self, Unusual> {
        let offset = usize::try_from(fde.checked_sub(section.address).ok_or(Unusual)?).map_err(|_| Unusual)?;
        let mut entry = Cursor::entry(section.bytes, offset)?;
        let at = entry.offset();
        // A CIE has 0 here: what would be its CIE is then an entry of no bytes.
        let distance = usize::try_from(u32::from_le_bytes(entry.bytes()?)).map_err(|_| Unusual)?;
        let common = Common::at(section, at.checked_sub(distance).ok_or(Unusual)?)?;
        let start = entry.pointer(common.encoding, section)?;
        let length = entry.value(common.encoding)?;
        if common.augmented {
            let size = entry.unsigned()?;
            let mut data = entry.split(size)?;
            if let Some(encoding) = common.lsda {
                data.pointer(encoding, section)?;
            }
        }
        Ok(Self {
            start,
            end: start.checked_add(length).ok_or(Unusual)?,
            is_signal_frame: common.is_signal_frame,
            return_register: common.return_register,
            code_factor: common.code_factor,
            data_factor: common.data_factor,
            base: u32::try_from(entry.offset()).map_err(|_| Unusual)?,
            initial: common.instructions,
            program: entry,
        })
    }

    /// Whether the linked address is one of its code.
    #[inline]
    pub fn contains(&self, linked: u64) -> bool {
        (self.start..self.end).contains(&linked)
    }
}

/// A CIE.
struct Common<'a> {
    code_factor: u32,
    data_factor: i32,
    return_register: u8,
    /// Whether entries have augmentation data.
    augmented: bool,
    /// How code addresses are written.
    encoding: u8,
    /// How a pointer to exception tables is written, where entries have one.
    lsda: Option<u8>,
    is_signal_frame: bool,
    instructions: Cursor<'a>,
}

/// How the CIE of nearly all code without exception handlers begins, so that it need not be taken apart each time.
const PLAIN: &[u8; 13] = b"\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b";

impl<'a> Common<'a> {
    #[inline(always)]
    fn at(section: Section<'a>, offset: usize) -> Result<Self, Unusual> {
        let mut entry = Cursor::entry(section.bytes, offset)?;
        if let Some(instructions) = entry.behind(PLAIN) {
            return Ok(Self {
                code_factor: 1,
                data_factor: -8,
                return_register: 16,
                augmented: true,
                encoding: 0x1b,
                lsda: None,
                is_signal_frame: false,
                instructions,
            });
        }
        // Id 0 and version 1: gcc and clang write no other in `.eh_frame`.
        let [0, 0, 0, 0, 1] = entry.bytes()? else {
            return Err(Unusual);
        };
        let mut letters = entry;
        let augmented = match entry.byte()? {
            0 => false,
            b'z' => {
                while entry.byte()? != 0 {}
                true
            }
            _ => return Err(Unusual),
        };
        let (code_factor, data_factor) = (entry.unsigned()?, entry.signed()?);
        let return_register = entry.byte()?;
        if usize::from(return_register) >= Compact::REGISTERS {
            return Err(Unusual);
        }
        let (mut encoding, mut lsda, mut is_signal_frame) = (0, None, false);
        if augmented {
            letters.byte()?;
            let size = entry.unsigned()?;
            let mut data = entry.split(size)?;
            loop {
                match letters.byte()? {
                    0 => break,
                    b'R' => encoding = data.byte()?,
                    b'L' => lsda = Some(data.byte()?),
                    b'P' => {
                        let encoding = data.byte()?;
                        data.pointer(encoding, section)?;
                    }
                    b'S' => is_signal_frame = true,
                    _ => return Err(Unusual),
                }
            }
        }
        let instructions = entry;
        Ok(Self { code_factor, data_factor, return_register, augmented, encoding, lsda, is_signal_frame, instructions })
    }
}
