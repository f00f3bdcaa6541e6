//! Where a file's segments came to lie: load bias and extent of a module.

use crate::image::Segment;
use object::elf::PT_LOAD;

/// Segments are mapped in whole pages. No supported machine has smaller ones, and larger ones are aligned to these.
pub const PAGE: u64 = 4096;

/// Where a module lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Mapped address minus linked address.
    pub bias: u64,
    /// First mapped address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Placement {
    /// From the address at which the beginning of the file is mapped.
    pub fn at_base(segments: &[Segment], base: u64) -> Option<Self> {
        let first = segments.iter().filter(|segment| segment.kind == PT_LOAD).min_by_key(|segment| segment.offset)?;
        Self::with_bias(segments, base.wrapping_sub(first.address.wrapping_sub(first.offset)))
    }

    /// From the load bias.
    pub fn with_bias(segments: &[Segment], bias: u64) -> Option<Self> {
        let loads = || segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.memory_size > 0);
        let low = loads().map(|segment| segment.address).min()? & !(PAGE - 1);
        let high = loads().filter_map(|segment| segment.address.checked_add(segment.memory_size)).max()?;
        let (start, end) = (low.wrapping_add(bias), high.checked_next_multiple_of(PAGE)?.wrapping_add(bias));
        (start < end).then_some(Self { bias, start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(offset: u64, address: u64, memory_size: u64) -> Segment {
        Segment { kind: PT_LOAD, flags: 0, offset, address, file_size: memory_size, memory_size, align: PAGE }
    }

    #[test]
    fn a_fixed_program_has_no_bias_and_a_library_that_of_its_base() {
        let fixed = [load(0, 0x40_0000, 0x500), load(0xdf0, 0x40_1df0, 0x300)];
        let expected = Placement { bias: 0, start: 0x40_0000, end: 0x40_3000 };
        assert_eq!(Placement::at_base(&fixed, 0x40_0000), Some(expected));
        let library = [load(0, 0, 0x500), load(0xdf0, 0x1df0, 0x300)];
        let expected = Placement { bias: 0x7f00_0000_0000, start: 0x7f00_0000_0000, end: 0x7f00_0000_3000 };
        assert_eq!(Placement::at_base(&library, 0x7f00_0000_0000), Some(expected));
    }

    #[test]
    fn segments_that_leave_the_address_space_are_no_module() {
        assert_eq!(Placement::at_base(&[load(0, u64::MAX - 10, 5)], 0), None);
        assert_eq!(Placement::at_base(&[], 0x1000), None);
        assert_eq!(Placement::with_bias(&[load(0, 0, 0x3000)], u64::MAX - 0xfff), None);
    }
}
