//! Recognising code by its first bytes.

use crate::Memory;

/// The first bytes of code at an address, as many as can be read.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Code {
    /// Longest piece of code that is recognised by its bytes.
    pub const LONGEST: usize = 16;

    /// The code at `address`.
    pub fn at(memory: &dyn Memory, address: u64) -> Self {
        let mut bytes = [0; Self::LONGEST];
        // All at once where it can be; a mapping may end behind a trampoline. Most often all can be read, or nothing.
        let mut can_read =
            |length: usize| bytes.get_mut(..length).is_some_and(|into| memory.read(address, into).is_ok());
        let length = if !can_read(1) {
            0
        } else if can_read(Self::LONGEST) {
            Self::LONGEST
        } else {
            (1..Self::LONGEST).rev().find(|length| can_read(*length)).unwrap_or(0)
        };
        Self { bytes, length }
    }

    /// Whether nothing of it can be read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it begins with `form`, one byte at least.
    pub fn starts_with(&self, form: &[u8]) -> bool {
        // Nearly all code is told apart from nearly all forms by the first byte.
        self.bytes.first() == form.first() && self.bytes.get(..self.length).is_some_and(|code| code.starts_with(form))
    }

    /// Whether it begins with any of these.
    pub fn starts_with_any<'f>(&self, forms: impl IntoIterator<Item = &'f [u8]>) -> bool {
        forms.into_iter().any(|form| self.starts_with(form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;

    const TEXT: Bytes<'_> = Bytes { address: 0x1000, bytes: &[0x90, 0x0f, 0x05, 0xc3] };

    #[test]
    fn code_at_the_end_of_a_mapping_is_as_long_as_it_is() {
        let code = Code::at(&TEXT, 0x1001);
        assert!(code.starts_with(&[0x0f, 0x05, 0xc3]));
        assert!(!code.starts_with(&[0x0f, 0x05, 0xc3, 0x00]), "the byte behind is not there");
    }

    #[test]
    fn any_of_the_forms_will_do() {
        let code = Code::at(&TEXT, 0x1000);
        let forms: [&[u8]; 3] = [&[0xb8, 0x0f], &[0x90, 0x90], &[0x90, 0x0f, 0x05]];
        assert!(code.starts_with_any(forms));
        assert!(!code.starts_with_any(forms.into_iter().take(2)));
    }

    #[test]
    fn where_nothing_can_be_read_there_is_no_form() {
        let code = Code::at(&TEXT, 0x2000);
        assert!(!code.starts_with_any([&[0][..], &[0x90][..]]));
    }
}
