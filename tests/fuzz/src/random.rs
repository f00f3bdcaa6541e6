//! Numbers that are the same on every machine (SplitMix64), and mutations of bytes.

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of one input.
    pub fn new(target: &str, seed: u64, input: u64) -> Self {
        let name = target.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Self(seed ^ name.rotate_left(32));
        random.0 ^= random.number().wrapping_add(input.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 when there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// An index into something of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of `some`, of which there must be at least one.
    pub fn one<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        &some[self.index(some.len())]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A byte; those that break length and offset fields are likelier.
    pub fn byte(&mut self) -> u8 {
        match self.below(4) {
            0 => [0, 1, 0x7f, 0x80, 0xff, 0x10][self.index(6)],
            _ => self.number().to_le_bytes()[0],
        }
    }

    /// Changes a few bytes of `bytes`.
    pub fn mutate(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.below(6) {
            let at = self.index(bytes.len());
            let Some(byte) = bytes.get_mut(at) else { return };
            *byte = match self.below(3) {
                0 => *byte ^ (1 << self.below(8)),
                1 => byte.wrapping_add(1),
                _ => self.byte(),
            };
        }
    }
}
