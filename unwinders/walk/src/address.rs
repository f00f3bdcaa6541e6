//! A place in code, and which instruction to look up for it.

use core::fmt;

/// A program counter, with what it points at.
///
/// The difference of one byte is the commonest bug of unwinders, so it is decided here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeAddress {
    /// The next instruction of interrupted code: a signal, a trap, a stopped thread.
    Exact(u64),
    /// Where a call returns to; the call itself is the instruction before.
    Return(u64),
}

impl CodeAddress {
    /// The address itself, as it stood in the register or on the stack.
    pub const fn value(self) -> u64 {
        match self {
            Self::Exact(address) | Self::Return(address) => address,
        }
    }

    /// The address to look up in unwind tables, symbols and line tables.
    ///
    /// A noreturn callee may be the last instruction of its function, so a return address can lie in the next one:
    /// one byte less is inside the call.
    pub const fn lookup(self) -> u64 {
        match self {
            Self::Exact(address) => address,
            Self::Return(address) => address.wrapping_sub(1),
        }
    }

    /// Whether this is an interrupted pc.
    pub const fn is_exact(self) -> bool {
        matches!(self, Self::Exact(_))
    }
}

impl fmt::Display for CodeAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#x}", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_address_is_looked_up_one_byte_before() {
        assert_eq!(CodeAddress::Return(0x1000).lookup(), 0xfff);
    }

    #[test]
    fn an_interrupted_pc_is_looked_up_where_it_is() {
        assert_eq!(CodeAddress::Exact(0x1000).lookup(), 0x1000);
    }
}
