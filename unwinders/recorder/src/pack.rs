//! Bytes to words: a record and a description are made of whole words.

/// The words of some bytes, zeros behind the last.
#[inline(always)]
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (whole, rest) = bytes.as_chunks::<8>();
    let last = (!rest.is_empty()).then(|| last(rest));
    whole.iter().map(|word| u64::from_le_bytes(*word)).chain(last)
}

/// Less than eight bytes as a word, in three loads at most.
#[inline(always)]
fn last(bytes: &[u8]) -> u64 {
    let (mut word, mut used, mut rest) = (0, 0, bytes);
    if let Some((four, more)) = rest.split_first_chunk() {
        (word, used, rest) = (u64::from(u32::from_le_bytes(*four)), 32, more);
    }
    if let Some((two, more)) = rest.split_first_chunk() {
        word |= u64::from(u16::from_le_bytes(*two)) << used;
        (used, rest) = (used + 16, more);
    }
    match rest.first() {
        Some(byte) => word | u64::from(*byte) << used,
        None => word,
    }
}

/// Takes bytes and hands on words.
pub struct Packer<F: FnMut(u64)> {
    word: u64,
    used: u32,
    put: F,
}

impl<F: FnMut(u64)> Packer<F> {
    /// One that hands its words to `put`.
    pub fn new(put: F) -> Self {
        Self { word: 0, used: 0, put }
    }

    /// Takes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.word |= u64::from(*byte) << (self.used & 63);
            self.used = self.used.wrapping_add(8);
            if self.used == 64 {
                (self.put)(self.word);
                (self.word, self.used) = (0, 0);
            }
        }
    }

    /// Hands on what is left, zeros behind it.
    pub fn end(mut self) {
        if self.used > 0 {
            (self.put)(self.word);
        }
    }
}

/// The beginning of a text, at most so many bytes, cut between characters.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// The end of a text, at most so many bytes: of a path it is what tells.
pub fn tail(text: &str, most: usize) -> &str {
    let mut begin = text.len().saturating_sub(most);
    while !text.is_char_boundary(begin) {
        begin = begin.saturating_add(1);
    }
    text.get(begin..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_all_bytes_in_their_order_and_zeros_behind() {
        let bytes: std::vec::Vec<u8> = (1..=24).collect();
        for length in 0..=24 {
            let packed: std::vec::Vec<u8> = words(&bytes[..length]).flat_map(u64::to_le_bytes).collect();
            let mut expected = bytes[..length].to_vec();
            expected.resize(length.next_multiple_of(8), 0);
            assert_eq!(packed, expected);
            let mut same = std::vec::Vec::new();
            let mut packer = Packer::new(|word| same.push(word));
            bytes[..length].iter().for_each(|byte| packer.bytes(&[*byte]));
            packer.end();
            assert_eq!(same.into_iter().flat_map(u64::to_le_bytes).collect::<std::vec::Vec<u8>>(), expected);
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!((cut("aä", 2), tail("äa", 2)), ("a", "a"));
        assert_eq!((cut("aä", 3), tail("äa", 9)), ("aä", "äa"));
    }
}
