//! The binary search table over FDEs: `.eh_frame_hdr`, LSB core specification 10.6.2.

use surestack_walk::Section;

/// A search table: pairs of (first code address, FDE address), both relative to the table's own address.
///
/// Only the one encoding that linkers write is read (`DW_EH_PE_datarel | DW_EH_PE_sdata4`); anything else counts as no
/// table, and the FDEs are searched one by one.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    address: u64,
    pairs: &'a [[u8; 8]],
    eh_frame: u64,
}

const PCREL_SDATA4: u8 = 0x1b;
const UDATA4: u8 = 0x03;
const DATAREL_SDATA4: u8 = 0x3b;
/// Bytes before the pairs: version, three encodings, pointer to `.eh_frame`, count.
const PREFIX: usize = 12;

impl<'a> Header<'a> {
    /// The table in `section`, if it is one that can be searched.
    pub fn parse(section: Section<'a>) -> Option<Self> {
        let (head, rest) = section.bytes.split_at_checked(PREFIX)?;
        let &[1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4, p0, p1, p2, p3, c0, c1, c2, c3] = head else {
            return None;
        };
        let pointer = i32::from_le_bytes([p0, p1, p2, p3]);
        let count = usize::try_from(u32::from_le_bytes([c0, c1, c2, c3])).ok()?;
        let (pairs, _) = rest.as_chunks::<8>();
        Some(Self {
            address: section.address,
            pairs: pairs.get(..count)?,
            eh_frame: section.address.wrapping_add(4).wrapping_add_signed(i64::from(pointer)),
        })
    }

    /// Linked address of the `.eh_frame` that the table is about.
    pub fn eh_frame(&self) -> u64 {
        self.eh_frame
    }

    /// Linked address of the last FDE that begins at or below the linked address `pc`.
    pub fn lookup(&self, pc: u64) -> Option<u64> {
        let relative = pc.wrapping_sub(self.address).cast_signed();
        let after = self.pairs.partition_point(|pair| i64::from(first(pair)) <= relative);
        let pair = self.pairs.get(after.checked_sub(1)?)?;
        Some(self.address.wrapping_add_signed(i64::from(second(pair))))
    }

    /// The pairs as linked addresses: first code address and FDE, in the table's order.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let at = |relative: i32| self.address.wrapping_add_signed(i64::from(relative));
        self.pairs.iter().map(move |pair| (at(first(pair)), at(second(pair))))
    }
}

fn first(pair: &[u8; 8]) -> i32 {
    let [a, b, c, d, ..] = *pair;
    i32::from_le_bytes([a, b, c, d])
}

fn second(pair: &[u8; 8]) -> i32 {
    let [.., a, b, c, d] = *pair;
    i32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header at 0x1000 with functions at 0x2000 (FDE 0x1100) and 0x2040 (FDE 0x1120).
    const TABLE: [u8; 28] = [
        1, 0x1b, 3, 0x3b, 0xfc, 0x00, 0, 0, 2, 0, 0, 0, // .eh_frame at 0x1004 + 0xfc
        0x00, 0x10, 0, 0, 0x00, 0x01, 0, 0, // 0x2000 → 0x1100
        0x40, 0x10, 0, 0, 0x20, 0x01, 0, 0, // 0x2040 → 0x1120
    ];

    fn parse(bytes: &[u8]) -> Option<Header<'_>> {
        Header::parse(Section { address: 0x1000, bytes })
    }

    #[test]
    fn the_last_entry_at_or_below_the_pc_is_found() {
        let header = parse(&TABLE).unwrap();
        assert_eq!(header.eh_frame(), 0x1100);
        assert_eq!(header.lookup(0x1fff), None);
        assert_eq!(header.lookup(0x2000), Some(0x1100));
        assert_eq!(header.lookup(0x203f), Some(0x1100));
        assert_eq!(header.lookup(0x2040), Some(0x1120));
        assert_eq!(header.lookup(u64::MAX), None, "relative address -0x1001");
    }

    #[test]
    fn a_table_that_claims_more_pairs_than_it_has_is_no_table() {
        assert!(parse(&TABLE[..TABLE.len() - 1]).is_none());
        assert!(parse(&TABLE[..11]).is_none());
    }

    #[test]
    fn another_encoding_is_no_table() {
        let mut other = TABLE;
        other[3] = 0x1b;
        assert!(parse(&other).is_none());
    }
}
