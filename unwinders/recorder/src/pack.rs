//! Bytes to words: a record and a description are made of whole words.

/// The words of some bytes, zeros behind the last.
#[inline]
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (whole, rest) = bytes.as_chunks::<8>();
    let last = (!rest.is_empty()).then(|| {
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        word
    });
    whole.iter().copied().chain(last).map(u64::from_le_bytes)
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
