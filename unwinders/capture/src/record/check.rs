//! The first bytes of an item, and the sum in them by which a whole item is told from anything else.

use super::ITEM_HEAD;
use super::fields::Fields;

/// The first bytes of an item.
pub(super) fn head(kind: u8, fields: &Fields<'_>) -> [u8; ITEM_HEAD] {
    let kind = u16::from(kind);
    let length = u32::try_from(fields.length()).unwrap_or(u32::MAX);
    let sum = fields.pieces().fold(Sum::of(kind, length), Sum::and).value();
    let ([k0, k1], [c0, c1], [l0, l1, l2, l3]) = (kind.to_le_bytes(), sum.to_le_bytes(), length.to_le_bytes());
    [k0, k1, c0, c1, l0, l1, l2, l3]
}

/// A running sum (FNV-1a).
#[derive(Clone, Copy)]
pub(super) struct Sum(u32);

impl Sum {
    /// The sum of an item's kind and length.
    pub(super) fn of(kind: u16, length: u32) -> Self {
        Self(0x811c_9dc5).and(&kind.to_le_bytes()).and(&length.to_le_bytes())
    }

    /// The sum with these bytes added.
    pub(super) fn and(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)))
    }

    /// As it stands in the item.
    pub(super) fn value(self) -> u16 {
        let [a, b, c, d] = self.0.to_le_bytes();
        u16::from_le_bytes([a ^ c, b ^ d])
    }
}
