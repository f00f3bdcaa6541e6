//! What a record holds of the flight recorder's memory.

use crate::recorder::Source;
use std::collections::BTreeMap;

/// Pieces of a recorder's memory, by their offsets. What is not in them is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces(BTreeMap<u64, Vec<u8>>);

impl Pieces {
    /// Whether there are none: no recorder was started, or the handler could not read it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a piece. Of two at the same offset the later one stays.
    pub(super) fn add(&mut self, at: u64, bytes: &[u8]) {
        self.0.insert(at, bytes.to_vec());
    }
}

impl Source for Pieces {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let Some((start, bytes)) = self.0.range(..=at).next_back() else { return false };
            let within = at.checked_sub(*start).and_then(|within| usize::try_from(within).ok());
            let known = within.and_then(|within| bytes.get(within..)).unwrap_or_default();
            let length = known.len().min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(&known[..length]);
            let next =
                u64::try_from(length).ok().filter(|length| *length > 0).and_then(|length| at.checked_add(length));
            let Some(next) = next else { return false };
            (at, rest) = (next, later);
        }
        true
    }

    fn size(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_adjacent_pieces_is_read_and_what_lies_between_others_is_not_known() {
        let mut pieces = Pieces::default();
        for (at, bytes) in [(16, b"second"), (10, b"first "), (30, b"third ")] {
            pieces.add(at, bytes);
        }
        let read = |at, length| {
            let mut bytes = vec![0; length];
            pieces.read(at, &mut bytes).then(|| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(read(12, 10).as_deref(), Some("rst second"));
        assert_eq!(read(31, 4).as_deref(), Some("hird"));
        for (at, length) in [(9, 1), (12, 11), (22, 1), (34, 3), (u64::MAX, 1)] {
            assert_eq!(read(at, length), None, "{at}, {length}");
        }
        assert!(!pieces.is_empty() && pieces.read(u64::MAX, &mut []));
    }
}
