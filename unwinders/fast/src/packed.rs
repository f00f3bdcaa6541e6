//! Rules of 20 bits.
//!
//! ```text
//!   bit 19   18 … 8            7 … 2              1 … 0
//!   0        cfa: sp + 8 n     fp: cfa - 8 m      0           nearly all code
//!   1        cfa: fp + 8 n     fp: cfa - 8 m      0           frames with a frame pointer, alloca
//!   1        cfa: *(fp - 8 n)  fp: *fp            1           stacks that were realigned (gcc)
//!   1        what it is, and a number             2           everything else: see Special
//! ```
//!
//! The return address lies right below the canonical frame address in all of them. `m` is kept as a negative number of six
//! bits; 1 says that the frame pointer was not touched, since what lies there is the return address.

use surestack_cfi::{CfaRule, Entry, Expression, Row, Rule};
use surestack_walk::{Arch, Register, Root};

/// Bytes of a word.
const WORD: u64 = 8;
/// Bits of a rule.
pub(crate) const BITS: u32 = 20;
const OTHER: u32 = 1 << 19;
const CFA: u32 = 8;
const CFA_MOST: u64 = (1 << 11) - 1;
const FP: u32 = 2;
const FP_MOST: u64 = 32;
const UNTOUCHED: u64 = 1;
const BY_FP: u32 = 0;
const ALIGNED: u32 = 1;
const SPECIAL: u32 = 2;

/// What a row says of the caller's pc, stack pointer and frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packed(u32);

/// A rule, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// The canonical frame address is the stack pointer plus so many bytes.
    BySp {
        /// Bytes.
        cfa: u64,
        /// How far below it the caller's frame pointer was saved; 8 if it was not.
        fp: u64,
    },
    /// The same, with the frame pointer.
    ByFp {
        /// Bytes.
        cfa: u64,
        /// As above.
        fp: u64,
    },
    /// The canonical frame address was saved so many bytes below the frame pointer, which points at its caller's.
    Aligned {
        /// Bytes.
        below: u64,
    },
    /// Something else.
    Special(Special),
}

/// What else a rule may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A sigreturn trampoline, by its bytes.
    Signal,
    /// Nobody called: the row leaves the return address undefined.
    Outermost,
    /// What the first function of a `makecontext` stack returns to.
    ContextEntry,
    /// An entry of the procedure linkage table, which has pushed a word from this byte of its 16 on.
    Linkage(u8),
    /// More than fits here.
    Full,
}

impl Packed {
    /// Whether `bits` would be read back as they are. All that are made here are of 20 bits.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << BITS) - 1))
    }

    /// The 20 bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// A rule that says only this.
    pub const fn special(special: Special) -> Self {
        let (what, number) = match special {
            Special::Full => (0, 0),
            Special::Signal => (1, 0),
            Special::Outermost => (2, 0),
            Special::ContextEntry => (3, 0),
            Special::Linkage(from) => (4, from & 15),
        };
        Self(OTHER | what << (CFA + 4) | (number as u32) << CFA | SPECIAL)
    }

    /// What it says.
    pub fn unpacked(self) -> Unpacked {
        let cfa = u64::from(self.0 >> CFA) & CFA_MOST;
        let fp = FP_MOST.saturating_mul(2).saturating_sub(u64::from(self.0 >> FP) & 63).saturating_mul(WORD);
        let bytes = cfa.saturating_mul(WORD);
        match (self.0 & OTHER, self.0 & 3) {
            (0, _) => Unpacked::BySp { cfa: bytes, fp },
            (_, BY_FP) => Unpacked::ByFp { cfa: bytes, fp },
            (_, ALIGNED) => Unpacked::Aligned { below: bytes },
            _ => Unpacked::Special(match cfa >> 4 {
                1 => Special::Signal,
                2 => Special::Outermost,
                3 => Special::ContextEntry,
                4 => Special::Linkage(u8::try_from(cfa & 15).unwrap_or_default()),
                _ => Special::Full,
            }),
        }
    }

    /// What `row` says, as far as that can be packed; [`Special::Full`] else.
    pub fn of(row: &Row<'_>, arch: &Arch) -> Self {
        match row.entry {
            Entry::Outermost(Root::UndefinedReturn) => return Self::special(Special::Outermost),
            Entry::Outermost(Root::ContextEntry) => return Self::special(Special::ContextEntry),
            Entry::Outermost(_) | Entry::Signal => return Self::special(Special::Full),
            Entry::Called => {}
        }
        let return_rule = row.rules.get(row.return_register);
        if return_rule == Some(Rule::Undefined) {
            return Self::special(Special::Outermost);
        }
        let is_plain = row.return_register == Register::PC
            && return_rule == Some(Rule::Offset(-8))
            && row
                .rules
                .iter()
                .all(|(register, rule)| register == Register::PC || is_harmless(arch, register, rule, row));
        is_plain.then(|| Self::plain(row, arch)).flatten().unwrap_or(Self::special(Special::Full))
    }

    fn plain(row: &Row<'_>, arch: &Arch) -> Option<Self> {
        let fp = row.rules.get(arch.fp);
        match row.cfa {
            CfaRule::Register(register, offset) => {
                let words = words(offset)?;
                let saved = match fp {
                    None | Some(Rule::SameValue) => UNTOUCHED,
                    Some(Rule::Offset(offset)) => words_below(offset).filter(|saved| *saved > UNTOUCHED)?,
                    Some(_) => return None,
                };
                if words == 0 || saved > FP_MOST {
                    return None;
                }
                match register {
                    // What was saved lies in the frame.
                    sp if sp == arch.sp && saved <= words => Some(Self::made(0, words, saved)),
                    by if by == arch.fp => Some(Self::made(OTHER | BY_FP, words, saved)),
                    _ => None,
                }
            }
            CfaRule::Expression(expression) => {
                let bytes = expression.bytes(row.expressions)?;
                if let Some(from) = linkage(bytes).filter(|_| matches!(fp, None | Some(Rule::SameValue))) {
                    return Some(Self::special(Special::Linkage(from)));
                }
                let Some(Rule::Expression(saved)) = fp else { return None };
                let is_at_fp = saved.bytes(row.expressions) == Some(&[BREG_FP, 0]);
                let below = aligned(bytes).filter(|_| is_at_fp)?;
                Some(Self::made(OTHER | ALIGNED, below, UNTOUCHED))
            }
        }
    }

    /// From numbers that fit.
    fn made(kind: u32, words: u64, saved: u64) -> Self {
        let low = |value: u64| u32::try_from(value).unwrap_or_default();
        Self(kind | low(words) << CFA | (64 - low(saved)) << FP)
    }
}

/// `DW_OP_breg6`, the frame pointer of x86_64.
const BREG_FP: u8 = 0x76;
const DEREF: u8 = 0x06;

/// Whether following this rule cannot fail, and touches neither the pc nor what the packed rule says of sp and fp.
fn is_harmless(arch: &Arch, register: Register, rule: Rule, row: &Row<'_>) -> bool {
    match rule {
        _ if register == arch.sp => rule == Rule::ValOffset(0),
        Rule::Expression(expression) | Rule::ValExpression(expression) => is_address(expression, row),
        Rule::Undefined
        | Rule::SameValue
        | Rule::Offset(_)
        | Rule::ValOffset(_)
        | Rule::Register(_)
        | Rule::Constant(_) => true,
    }
}

/// Whether an expression is a register and a distance of one byte: nothing in it can be broken.
fn is_address(expression: Expression, row: &Row<'_>) -> bool {
    matches!(expression.bytes(row.expressions), Some(&[0x70..=0x8f, distance]) if distance < 0x80)
}

/// A distance upwards in words, if it is one that fits.
fn words(offset: i64) -> Option<u64> {
    let bytes = u64::try_from(offset).ok()?;
    (bytes.is_multiple_of(WORD) && bytes / WORD <= CFA_MOST).then_some(bytes / WORD)
}

/// A distance downwards in words.
fn words_below(offset: i64) -> Option<u64> {
    words(offset.checked_neg()?)
}

/// `DW_OP_breg6 -8n; DW_OP_deref`: n.
fn aligned(expression: &[u8]) -> Option<u64> {
    match *expression {
        // A signed LEB128 of one byte that is negative.
        [BREG_FP, distance @ 0x40..=0x7f, DEREF] => {
            let below = 0x80 - u64::from(distance);
            below.is_multiple_of(WORD).then_some(below / WORD)
        }
        _ => None,
    }
}

/// What linkers write for the procedure linkage table: `breg7 8; breg16 0; lit15; and; lit<from>; ge; lit3; shl; plus`.
fn linkage(expression: &[u8]) -> Option<u8> {
    match *expression {
        [0x77, 8, 0x80, 0, 0x3f, 0x1a, from @ 0x30..=0x3f, 0x2a, 0x33, 0x24, 0x22] => Some(from - 0x30),
        _ => None,
    }
}
