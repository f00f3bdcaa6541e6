//! Code that is to be replaced: which addresses it has, and which of its versions is the live one.

use std::fmt;
use std::ops::Range;

/// A function to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the user calls it.
    pub name: String,
    /// Its original code: its body, its parts that lie elsewhere, and the functions into which it was inlined.
    pub parts: Vec<Part>,
    /// The version that runs now.
    pub live: Version,
    /// Bytes that will be overwritten with one instruction, so that nobody may go on inside of them.
    pub overwritten: Option<Range<u64>>,
}

/// A range of code that belongs to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its addresses in the process.
    pub range: Range<u64>,
    /// The function there, where it has a name.
    pub name: Option<String>,
    /// Why it belongs to the target.
    pub whose: Whose,
}

/// Why a range of code belongs to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// It is the target's own, or was given as a range.
    Body,
    /// The compiler split it off or made a variant of it: `.cold`, `.part.N`, `.isra.N`, `.constprop.N`.
    Split,
    /// The target was inlined into it.
    Host,
    /// A later version of the target.
    Version,
}

impl fmt::Display for Whose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Body => "body",
            Self::Split => "split off by the compiler",
            Self::Host => "it was inlined there",
            Self::Version => "a later version",
        })
    }
}

/// The version of a function that runs now, and that nobody may return to once it is replaced.
///
/// As in the kernel's livepatch: when the new one is applied over an older patch, it is the older patch that threads may
/// be in; when it is taken out, the new one itself. A function of an older patch that the new one lacks goes back to its
/// original, and takes part with the older patch's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The original: the target's parts.
    #[default]
    Original,
    /// An earlier patch is in place; this is its code.
    Patched(Vec<Part>),
    /// The patch is being taken out; this is its code.
    Reverting(Vec<Part>),
}

impl Target {
    /// A target that is just this range of code, which runs now.
    pub fn range(name: impl Into<String>, range: Range<u64>) -> Self {
        let part = Part { range, name: None, whose: Whose::Body };
        Self { name: name.into(), parts: vec![part], live: Version::Original, overwritten: None }
    }

    /// The code that runs now.
    pub fn live(&self) -> &[Part] {
        match &self.live {
            Version::Original => &self.parts,
            Version::Patched(parts) | Version::Reverting(parts) => parts,
        }
    }
}

impl Part {
    /// Code of a later version of a target.
    pub fn version(range: Range<u64>) -> Self {
        Self { range, name: None, whose: Whose::Version }
    }
}
