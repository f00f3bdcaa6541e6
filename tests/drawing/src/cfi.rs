//! Call frame information written byte by byte: DWARF 5 section 6.4 and 7.24, `.eh_frame` as in the LSB.
//!
//! Code alignment is 1, data alignment -8, pointers are absolute; offsets fit in one LEB128 byte.

use std::ops::Range;

/// An entry: what it is about, and its instructions.
#[derive(Clone, Debug)]
pub struct Fde {
    /// Linked addresses of the code.
    pub code: Range<u64>,
    /// Letters after `zR` in the augmentation: "S", "B" or nothing.
    pub augmentation: &'static str,
    /// DWARF number of the return address register.
    pub return_register: u8,
    /// The instructions, after those of the common entry.
    pub instructions: Vec<u8>,
}

impl Fde {
    /// An x86_64 function at 0x40_1000 to 0x40_1100.
    pub fn new(instructions: &[&[u8]]) -> Self {
        Self { code: 0x40_1000..0x40_1100, augmentation: "", return_register: 16, instructions: instructions.concat() }
    }

    /// The same for other code.
    #[must_use]
    pub fn of(mut self, code: Range<u64>) -> Self {
        self.code = code;
        self
    }

    /// The same with an augmentation letter.
    #[must_use]
    pub fn augmented(mut self, letters: &'static str) -> Self {
        self.augmentation = letters;
        self
    }

    /// The same with the return address in another register.
    #[must_use]
    pub fn returning_by(mut self, register: u8) -> Self {
        self.return_register = register;
        self
    }
}

/// Which of the two sections is written; they differ in how entries name their common entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    EhFrame,
    DebugFrame,
}

/// The bytes of an `.eh_frame` section, terminated.
pub fn eh_frame(entries: &[Fde]) -> Vec<u8> {
    let mut section = Vec::new();
    for entry in entries {
        write(&mut section, entry, Kind::EhFrame);
    }
    section.extend([0; 4]);
    section
}

/// The bytes of a `.debug_frame` section.
pub fn debug_frame(entries: &[Fde]) -> Vec<u8> {
    let mut section = Vec::new();
    for entry in entries {
        write(&mut section, entry, Kind::DebugFrame);
    }
    section
}

/// The bytes of an `.eh_frame_hdr` at linked address `header` over the `.eh_frame` made of `entries` at `section`.
pub fn eh_frame_hdr(header: u64, section: u64, entries: &[Fde]) -> Vec<u8> {
    let relative = |address: u64, to: u64| {
        i32::try_from(address.wrapping_sub(to).cast_signed()).expect("sections lie close together").to_le_bytes()
    };
    let mut pairs = Vec::new();
    let mut written = Vec::new();
    for entry in entries {
        let fde = write(&mut written, entry, Kind::EhFrame);
        pairs.push((entry.code.start, section + fde));
    }
    pairs.sort_unstable();
    let mut bytes = vec![1, 0x1b, 0x03, 0x3b];
    bytes.extend(relative(section, header + 4));
    bytes.extend(u32::try_from(pairs.len()).expect("few entries").to_le_bytes());
    for (start, fde) in pairs {
        bytes.extend(relative(start, header));
        bytes.extend(relative(fde, header));
    }
    bytes
}

/// Writes the common entry and the entry; returns the offset of the latter.
fn write(section: &mut Vec<u8>, entry: &Fde, kind: Kind) -> u64 {
    let common = u32::try_from(section.len()).expect("a small section");
    let mut cie = Vec::new();
    match kind {
        Kind::EhFrame => {
            cie.extend([0, 0, 0, 0, 1]);
            cie.extend(b"zR");
            cie.extend(entry.augmentation.bytes());
            cie.push(0);
            // Code alignment, data alignment -8, return register, one byte of augmentation data: absolute pointers.
            cie.extend([1, 0x78, entry.return_register, 1, 0]);
        }
        Kind::DebugFrame => {
            // Version 4, no augmentation, 8-byte addresses, no segments.
            cie.extend([0xff, 0xff, 0xff, 0xff, 4, 0, 8, 0, 1, 0x78, entry.return_register]);
        }
    }
    framed(section, &cie);

    let start = u32::try_from(section.len()).expect("a small section");
    let pointer = match kind {
        Kind::EhFrame => start + 4 - common,
        Kind::DebugFrame => common,
    };
    let mut fde = pointer.to_le_bytes().to_vec();
    fde.extend(entry.code.start.to_le_bytes());
    fde.extend((entry.code.end - entry.code.start).to_le_bytes());
    if kind == Kind::EhFrame {
        fde.push(0);
    }
    fde.extend(&entry.instructions);
    framed(section, &fde);
    u64::from(start)
}

fn framed(section: &mut Vec<u8>, entry: &[u8]) {
    let padding = (4 - entry.len() % 4) % 4;
    let length = u32::try_from(entry.len() + padding).expect("a small entry");
    section.extend(length.to_le_bytes());
    section.extend(entry);
    section.extend(std::iter::repeat_n(0, padding));
}

/// `DW_CFA_def_cfa`.
pub const fn def_cfa(register: u8, offset: u8) -> [u8; 3] {
    [0x0c, register, offset]
}

/// `DW_CFA_def_cfa_register`.
pub const fn def_cfa_register(register: u8) -> [u8; 2] {
    [0x0d, register]
}

/// `DW_CFA_def_cfa_offset`.
pub const fn def_cfa_offset(offset: u8) -> [u8; 2] {
    [0x0e, offset]
}

/// `DW_CFA_offset`: saved at the CFA minus `words` words.
pub const fn offset(register: u8, words: u8) -> [u8; 2] {
    [0x80 | register, words]
}

/// `DW_CFA_advance_loc`, below 64.
pub const fn advance(by: u8) -> [u8; 1] {
    [0x40 | by]
}

/// `DW_CFA_restore`.
pub const fn restore(register: u8) -> [u8; 1] {
    [0xc0 | register]
}

/// `DW_CFA_undefined`.
pub const fn undefined(register: u8) -> [u8; 2] {
    [0x07, register]
}

/// `DW_CFA_same_value`.
pub const fn same_value(register: u8) -> [u8; 2] {
    [0x08, register]
}

/// `DW_CFA_register`.
pub const fn register(register: u8, other: u8) -> [u8; 3] {
    [0x09, register, other]
}

/// `DW_CFA_remember_state`.
pub const REMEMBER: [u8; 1] = [0x0a];
/// `DW_CFA_restore_state`.
pub const RESTORE_STATE: [u8; 1] = [0x0b];
/// `DW_CFA_AARCH64_negate_ra_state`.
pub const NEGATE_RA_STATE: [u8; 1] = [0x2d];

/// `DW_CFA_val_offset`: the value is the CFA minus `words` words.
pub const fn val_offset(register: u8, words: u8) -> [u8; 3] {
    [0x14, register, words]
}

/// `DW_CFA_def_cfa_expression`.
pub fn def_cfa_expression(expression: &[u8]) -> Vec<u8> {
    [&[0x0f, length(expression)], expression].concat()
}

/// `DW_CFA_expression`.
pub fn expression(register: u8, expression: &[u8]) -> Vec<u8> {
    [&[0x10, register, length(expression)], expression].concat()
}

/// `DW_CFA_val_expression`.
pub fn val_expression(register: u8, expression: &[u8]) -> Vec<u8> {
    [&[0x16, register, length(expression)], expression].concat()
}

/// One LEB128 byte.
fn length(expression: &[u8]) -> u8 {
    u8::try_from(expression.len()).ok().filter(|length| *length < 0x80).expect("a short expression")
}
