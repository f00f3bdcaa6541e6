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

use surestack_cfi::{
    CfaRule, Compact, CompactCfa, CompactExpression, CompactRule, Entry, Expression, Function, Origin, Row, Rule,
};
use surestack_walk::{Arch, Register, Root, RowSource};

/// Bytes of a word.
const WORD: u64 = 8;
/// Bits of a rule.
pub(crate) const BITS: u32 = 20;
const OTHER: u32 = 1 << 19;
const CFA_AT: u32 = 8;
const CFA_MOST: u64 = (1 << 11) - 1;
const FP_AT: u32 = 2;
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
        Self(OTHER | what << (CFA_AT + 4) | (number as u32) << CFA_AT | SPECIAL)
    }

    /// What it says.
    pub fn unpacked(self) -> Unpacked {
        let cfa = u64::from(self.0 >> CFA_AT) & CFA_MOST;
        let fp = FP_MOST.saturating_mul(2).saturating_sub(u64::from(self.0 >> FP_AT) & 63).saturating_mul(WORD);
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
        if row.origin != Origin::Cfi(RowSource::EhFrame) {
            // Frames say where their rows came from.
            return Self::special(Special::Full);
        }
        match row.entry {
            Entry::Outermost(Root::UndefinedReturn) => return Self::special(Special::Outermost),
            Entry::Outermost(Root::ContextEntry) => return Self::special(Special::ContextEntry),
            Entry::Outermost(_) | Entry::Signal => return Self::special(Special::Full),
            Entry::Called => {}
        }
        let bytes = |expression: Expression| expression.bytes(row.expressions).unwrap_or_default();
        let plain = |rule: Rule| match rule {
            Rule::Undefined => Plain::Lost,
            Rule::SameValue => Plain::Same,
            Rule::Offset(offset) => Plain::At(offset),
            Rule::ValOffset(offset) => Plain::Is(offset),
            Rule::Register(_) | Rule::Constant(_) => Plain::Other,
            Rule::Expression(expression) => Plain::AtExpression(bytes(expression)),
            Rule::ValExpression(expression) => Plain::IsExpression(bytes(expression)),
        };
        let by = |register: Register| match register {
            sp if sp == arch.sp => By::Sp,
            fp if fp == arch.fp => By::Fp,
            _ => By::Other,
        };
        let mut made = Made::new(match row.cfa {
            CfaRule::Register(register, offset) => Cfa::Register(by(register), offset),
            CfaRule::Expression(expression) => Cfa::Expression(bytes(expression)),
        });
        for (register, rule) in row.rules.iter() {
            let role = match register {
                Register::PC => Role::Pc,
                other => match by(other) {
                    By::Sp => Role::Sp,
                    By::Fp => Role::Fp,
                    By::Other => Role::Other,
                },
            };
            made.take(role, plain(rule));
        }
        if row.return_register == Register::PC && is_x86_64(arch) {
            made.packed()
        } else {
            Self::special(Special::Full)
        }
    }

    /// The same of a row as it was decoded. `section` is what its expressions lie in.
    pub fn of_compact(row: &Compact, function: &Function<'_>, section: &[u8], arch: &Arch) -> Self {
        if !is_x86_64(arch) || function.is_signal_frame || function.return_register != PC {
            return Self::special(Special::Full);
        }
        let bytes = |expression: CompactExpression| Expression::from(expression).bytes(section).unwrap_or_default();
        let by = |register: u8| match register {
            SP => By::Sp,
            FP => By::Fp,
            _ => By::Other,
        };
        let mut made = Made::new(match row.cfa {
            CompactCfa::Register(register, offset) => Cfa::Register(by(register), i64::from(offset)),
            CompactCfa::Expression(expression) => Cfa::Expression(bytes(expression)),
        });
        for (register, rule) in row.rules() {
            // Nearly all.
            if matches!(rule, CompactRule::Offset(_)) && ![PC, SP, FP].contains(&register) {
                continue;
            }
            let role = match register {
                PC => Role::Pc,
                SP => Role::Sp,
                FP => Role::Fp,
                _ => Role::Other,
            };
            made.take(
                role,
                match rule {
                    CompactRule::Undefined => Plain::Lost,
                    CompactRule::SameValue => Plain::Same,
                    CompactRule::Offset(offset) => Plain::At(i64::from(offset)),
                    CompactRule::ValOffset(offset) => Plain::Is(i64::from(offset)),
                    CompactRule::Register(_) => Plain::Other,
                    CompactRule::Expression(expression) => Plain::AtExpression(bytes(expression)),
                    CompactRule::ValExpression(expression) => Plain::IsExpression(bytes(expression)),
                },
            );
        }
        made.packed()
    }

    /// From numbers that fit.
    fn made(kind: u32, words: u64, saved: u64) -> Self {
        let low = |value: u64| u32::try_from(value).unwrap_or_default();
        Self(kind | low(words) << CFA_AT | (64 - low(saved)) << FP_AT)
    }
}

// DWARF numbers of x86_64 (AMD64 supplement, 3.6.2).
const FP: u8 = 6;
const SP: u8 = 7;
const PC: u8 = 16;

/// Whether these are the architecture's numbers, which expressions are written with.
fn is_x86_64(arch: &Arch) -> bool {
    arch.register(u16::from(FP)) == Some(arch.fp) && arch.register(u16::from(SP)) == Some(arch.sp)
}

/// What canonical frame addresses are counted from.
enum By {
    Sp,
    Fp,
    Other,
}

/// A rule of a canonical frame address.
enum Cfa<'b> {
    Register(By, i64),
    Expression(&'b [u8]),
}

/// What a register is to a walk.
enum Role {
    Pc,
    Sp,
    Fp,
    Other,
}

/// A rule of a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain<'b> {
    Lost,
    Same,
    At(i64),
    Is(i64),
    AtExpression(&'b [u8]),
    IsExpression(&'b [u8]),
    Other,
}

/// A packed rule in the making.
struct Made<'b> {
    cfa: Cfa<'b>,
    pc: Option<Plain<'b>>,
    fp: Plain<'b>,
    /// Whether following the other rules cannot fail.
    harmless: bool,
}

impl<'b> Made<'b> {
    fn new(cfa: Cfa<'b>) -> Self {
        Self { cfa, pc: None, fp: Plain::Same, harmless: true }
    }

    fn take(&mut self, role: Role, rule: Plain<'b>) {
        match role {
            Role::Pc => self.pc = Some(rule),
            Role::Fp => self.fp = rule,
            Role::Sp => self.harmless &= rule == Plain::Is(0),
            Role::Other => {
                self.harmless &= match rule {
                    Plain::AtExpression(bytes) | Plain::IsExpression(bytes) => is_address(bytes),
                    _ => true,
                }
            }
        }
    }

    fn packed(&self) -> Packed {
        match self.pc {
            Some(Plain::Lost) => Packed::special(Special::Outermost),
            Some(Plain::At(-8)) if self.harmless => self.called().unwrap_or(Packed::special(Special::Full)),
            _ => Packed::special(Special::Full),
        }
    }

    fn called(&self) -> Option<Packed> {
        match self.cfa {
            Cfa::Register(ref by, offset) => {
                let words = words(offset).filter(|words| *words > 0)?;
                let saved = match self.fp {
                    Plain::Same => UNTOUCHED,
                    Plain::At(offset) => words_below(offset).filter(|saved| (2..=FP_MOST).contains(saved))?,
                    _ => return None,
                };
                match by {
                    // What was saved lies in the frame.
                    By::Sp if saved <= words => Some(Packed::made(0, words, saved)),
                    By::Fp => Some(Packed::made(OTHER | BY_FP, words, saved)),
                    By::Sp | By::Other => None,
                }
            }
            Cfa::Expression(bytes) => match (linkage(bytes), aligned(bytes)) {
                (Some(from), _) if self.fp == Plain::Same => Some(Packed::special(Special::Linkage(from))),
                (_, Some(below)) if self.fp == Plain::AtExpression(&[BREG_FP, 0]) => {
                    Some(Packed::made(OTHER | ALIGNED, below, UNTOUCHED))
                }
                _ => None,
            },
        }
    }
}

/// `DW_OP_breg6`, the frame pointer of x86_64.
const BREG_FP: u8 = 0x76;
const DEREF: u8 = 0x06;

/// Whether an expression is a register that there is and a distance of one byte: nothing in it can be broken.
fn is_address(expression: &[u8]) -> bool {
    matches!(expression, &[0x70..=0x80, distance] if distance < 0x80)
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
