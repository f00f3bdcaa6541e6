//! The stack machine of DWARF expressions: DWARF 5 section 2.5, as far as call frame information may use it (6.4.2).

use gimli::{Encoding, EndianSlice, Format, LittleEndian, Operation};
use surestack_walk::{Error, Regs, Target};

/// Deeper than any expression in the wild by far: the deepest seen has four values (PLT entries).
const DEPTH: usize = 32;
/// Operations of one evaluation, backward branches included.
const BUDGET: usize = 512;

/// What `bytes` leave on the stack, which begins with `first`, if there is one. `broken` is returned for an expression
/// that is malformed, uses what call frame information may not, or exceeds its budget.
///
/// # Errors
/// `broken`, or why a register or memory it reads is not to be had.
pub fn evaluate(
    bytes: &[u8],
    first: Option<u64>,
    target: &Target<'_>,
    regs: &Regs,
    broken: Error,
) -> Result<u64, Error> {
    let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };
    let mut stack = Stack { values: [0; DEPTH], depth: 0, broken };
    if let Some(first) = first {
        stack.push(first)?;
    }
    let mut at = 0_usize;
    for _ in 0..BUDGET {
        let rest = bytes.get(at..).ok_or(broken)?;
        if rest.is_empty() {
            return stack.pop();
        }
        let mut reader = EndianSlice::new(rest, LittleEndian);
        let operation = Operation::parse(&mut reader, encoding).map_err(|_| broken)?;
        let next = bytes.len() - reader.len();
        at = match operation {
            Operation::Skip { target } => branch(next, target).ok_or(broken)?,
            Operation::Bra { target } if stack.pop()? != 0 => branch(next, target).ok_or(broken)?,
            Operation::Bra { .. } => next,
            other => {
                stack.operate(other, target, regs)?;
                next
            }
        };
    }
    Err(broken)
}

fn branch(from: usize, by: i16) -> Option<usize> {
    from.checked_add_signed(isize::from(by))
}

struct Stack {
    values: [u64; DEPTH],
    depth: usize,
    broken: Error,
}

impl Stack {
    fn push(&mut self, value: u64) -> Result<(), Error> {
        *self.values.get_mut(self.depth).ok_or(self.broken)? = value;
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) -> Result<u64, Error> {
        self.depth = self.depth.checked_sub(1).ok_or(self.broken)?;
        self.values.get(self.depth).copied().ok_or(self.broken)
    }

    /// The value `index` places below the top.
    fn pick(&self, index: usize) -> Result<u64, Error> {
        let at = self.depth.checked_sub(1).and_then(|top| top.checked_sub(index)).ok_or(self.broken)?;
        self.values.get(at).copied().ok_or(self.broken)
    }

    fn unary(&mut self, operation: impl FnOnce(u64) -> u64) -> Result<(), Error> {
        let value = self.pop()?;
        self.push(operation(value))
    }

    /// `operation(second, top)`; `None` from it (a division by zero) is a broken expression.
    fn binary(&mut self, operation: impl FnOnce(u64, u64) -> Option<u64>) -> Result<(), Error> {
        let top = self.pop()?;
        let second = self.pop()?;
        self.push(operation(second, top).ok_or(self.broken)?)
    }

    fn compare(&mut self, test: impl FnOnce(&i64, &i64) -> bool) -> Result<(), Error> {
        self.binary(|a, b| Some(u64::from(test(&a.cast_signed(), &b.cast_signed()))))
    }

    fn operate<'b>(
        &mut self,
        operation: Operation<EndianSlice<'b, LittleEndian>>,
        target: &Target<'_>,
        regs: &Regs,
    ) -> Result<(), Error> {
        match operation {
            Operation::Address { address: value } | Operation::UnsignedConstant { value } => self.push(value),
            Operation::SignedConstant { value } => self.push(value.cast_unsigned()),
            Operation::RegisterOffset { register, offset, .. } => {
                let register = target.arch.register(register.0).ok_or(self.broken)?;
                self.push(regs.need(register)?.wrapping_add_signed(offset))
            }
            Operation::Deref { size, space: false, .. } => {
                let address = self.pop()?;
                self.push(target.memory.value(address, size)?)
            }
            Operation::Pick { index } => self.push(self.pick(usize::from(index))?),
            Operation::Drop => self.pop().map(|_| ()),
            Operation::Swap => {
                let (top, second) = (self.pop()?, self.pop()?);
                self.push(top)?;
                self.push(second)
            }
            Operation::Rot => {
                let (top, second, third) = (self.pop()?, self.pop()?, self.pop()?);
                self.push(top)?;
                self.push(third)?;
                self.push(second)
            }
            Operation::Abs => self.unary(|a| a.cast_signed().wrapping_abs().cast_unsigned()),
            Operation::Neg => self.unary(u64::wrapping_neg),
            Operation::Not => self.unary(|a| !a),
            Operation::PlusConstant { value } => self.unary(|a| a.wrapping_add(value)),
            Operation::Plus => self.binary(|a, b| Some(a.wrapping_add(b))),
            Operation::Minus => self.binary(|a, b| Some(a.wrapping_sub(b))),
            Operation::Mul => self.binary(|a, b| Some(a.wrapping_mul(b))),
            Operation::Div => self.binary(|a, b| a.cast_signed().checked_div(b.cast_signed()).map(i64::cast_unsigned)),
            Operation::Mod => self.binary(u64::checked_rem),
            Operation::And => self.binary(|a, b| Some(a & b)),
            Operation::Or => self.binary(|a, b| Some(a | b)),
            Operation::Xor => self.binary(|a, b| Some(a ^ b)),
            Operation::Shl => {
                self.binary(|a, b| Some(u32::try_from(b).ok().and_then(|b| a.checked_shl(b)).unwrap_or(0)))
            }
            Operation::Shr => {
                self.binary(|a, b| Some(u32::try_from(b).ok().and_then(|b| a.checked_shr(b)).unwrap_or(0)))
            }
            Operation::Shra => self.binary(|a, b| {
                let by = u32::try_from(b).unwrap_or(63).min(63);
                Some((a.cast_signed() >> by).cast_unsigned())
            }),
            Operation::Eq => self.compare(i64::eq),
            Operation::Ne => self.compare(i64::ne),
            Operation::Ge => self.compare(i64::ge),
            Operation::Gt => self.compare(i64::gt),
            Operation::Le => self.compare(i64::le),
            Operation::Lt => self.compare(i64::lt),
            Operation::Nop => Ok(()),
            _ => Err(self.broken),
        }
    }
}
