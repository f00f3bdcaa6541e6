//! Evidence that would be needed.

use core::fmt;

/// A set of kinds of evidence that nobody at hand could give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Missing(u8);

impl Missing {
    /// Nothing is missing.
    pub const NONE: Self = Self(0);
    /// Whether the outermost frame is at its place.
    pub const ROOT: Self = Self(1);
    /// Whether a pc is in executable memory.
    pub const CODE: Self = Self(2);
    /// Whether the instructions agree with a row.
    pub const ROW: Self = Self(4);
    /// Whether code has the bytes of its file.
    pub const TEXT: Self = Self(8);
    /// Whether a call that leads to the callee is the only one on the stack that does: only the thread's memory tells.
    pub const STACK: Self = Self(16);

    /// Every kind, in words.
    const WORDS: [(Self, &'static str); 5] = [
        (Self::ROOT, "that the outermost frame is at its place"),
        (Self::CODE, "that every pc is in code"),
        (Self::ROW, "that the instructions agree with every row"),
        (Self::TEXT, "that all code has the bytes of its file"),
        (Self::STACK, "that no other call on the stack leads to the same code"),
    ];

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as a number, a bit for each kind.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of a number; `None` where it has bits of no kind.
    pub const fn of_bits(bits: u8) -> Option<Self> {
        let all = Self::ROOT.and(Self::CODE).and(Self::ROW).and(Self::TEXT).and(Self::STACK);
        if bits & !all.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: Self) -> bool {
        self.0 & kind.0 == kind.0
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::WORDS.iter().filter(|(kind, _)| self.contains(*kind)).map(|(_, name)| name);
        if let Some(first) = names.next() {
            out.write_str(first)?;
        }
        names.try_for_each(|name| write!(out, ", {name}"))
    }
}
