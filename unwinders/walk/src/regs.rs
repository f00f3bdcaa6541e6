//! Registers: which of them are known, their values, and where they were saved.

use crate::{CodeAddress, Error, Memory};
use core::fmt;

/// A register of any architecture: a slot of [`Regs`].
///
/// Slots 0 to 31 are the general registers by their DWARF numbers, so that x86_64's rax is 0 and aarch64's sp is 31;
/// the rest are shared by role.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Register(pub(crate) u8);

impl Register {
    /// How many slots there are.
    pub const COUNT: usize = 40;
    /// The program counter.
    pub const PC: Self = Self(32);
    /// Flags, PSTATE.
    pub const FLAGS: Self = Self(33);
    /// x86 code segment selector.
    pub const CS: Self = Self(34);
    /// x86 stack segment selector.
    pub const SS: Self = Self(35);
    /// Base of the thread's storage: x86_64 fs_base.
    pub const THREAD: Self = Self(36);
    /// x86_64 gs_base.
    pub const GS_BASE: Self = Self(37);
    /// x86_64 orig_rax: the system call being restarted, or -1.
    pub const SYSCALL: Self = Self(38);
    /// aarch64 RA_SIGN_STATE pseudo register (DWARF 34).
    pub const RA_SIGN_STATE: Self = Self(39);

    /// The general register in slot `number`, below 32.
    pub const fn general(number: u8) -> Option<Self> {
        if number < 32 { Some(Self(number)) } else { None }
    }

    /// The register in slot `number`, for whoever got the number from [`Register::number`].
    pub const fn numbered(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The number of its slot.
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }

    fn slot(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Register {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PC => out.write_str("pc"),
            Self::FLAGS => out.write_str("flags"),
            Self(number) => write!(out, "r{number}"),
        }
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A set of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegisterSet(u64);

impl RegisterSet {
    /// No register.
    pub const EMPTY: Self = Self(0);

    /// The set with `register` added.
    #[must_use]
    pub const fn with(self, register: Register) -> Self {
        Self(self.0 | register.bit())
    }

    /// What is in either set.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `register` is in it.
    pub const fn contains(self, register: Register) -> bool {
        self.0 & register.bit() != 0
    }

    /// The lowest register in it; `None` when it is empty.
    pub fn first(self) -> Option<Register> {
        u8::try_from(self.0.trailing_zeros()).ok().filter(|slot| *slot < 64).map(Register)
    }
}

/// The registers of one frame. A register is known or it is not; there is no zero for "don't know".
#[derive(Clone, Copy)]
pub struct Regs {
    values: [u64; Register::COUNT],
    /// Address at which each register's value lies on the stack, for those in `saved`.
    places: [u64; Register::COUNT],
    known: u64,
    saved: u64,
    returns: bool,
}

impl Default for Regs {
    fn default() -> Self {
        Self::new()
    }
}

impl Regs {
    /// No register known.
    pub const fn new() -> Self {
        Self { values: [0; Register::COUNT], places: [0; Register::COUNT], known: 0, saved: 0, returns: false }
    }

    /// Forgets every register.
    pub fn forget(&mut self) {
        self.known = 0;
        self.saved = 0;
        self.returns = false;
    }

    /// Forgets one register.
    pub fn forget_one(&mut self, register: Register) {
        self.known &= !register.bit();
        self.saved &= !register.bit();
    }

    /// The value of `register`, if it is known.
    pub fn get(&self, register: Register) -> Option<u64> {
        if self.known & register.bit() == 0 {
            return None;
        }
        self.values.get(register.slot()).copied()
    }

    /// The value of `register`.
    ///
    /// # Errors
    /// [`Error::UnknownRegister`] when it is not known.
    pub fn need(&self, register: Register) -> Result<u64, Error> {
        self.get(register).ok_or(Error::UnknownRegister { register })
    }

    /// Makes `register` known, its value not in memory.
    pub fn set(&mut self, register: Register, value: u64) {
        if let Some(slot) = self.values.get_mut(register.slot()) {
            *slot = value;
            self.known |= register.bit();
            self.saved &= !register.bit();
        }
    }

    /// Makes `register` known with the value that was saved at `address`.
    pub fn set_saved(&mut self, register: Register, value: u64, address: u64) {
        self.set(register, value);
        if let Some(place) = self.places.get_mut(register.slot()) {
            *place = address;
            self.saved |= register.bit();
        }
    }

    /// Where the value of `register` lies in memory; `None` while it is in the register itself or unknown.
    pub fn place(&self, register: Register) -> Option<u64> {
        if self.saved & register.bit() == 0 {
            return None;
        }
        self.places.get(register.slot()).copied()
    }

    /// Takes `register` over from another frame, known or not, with its place.
    pub fn inherit(&mut self, register: Register, from: &Self) {
        // Without asking which of it means anything: this is done six times for each frame.
        let slot = register.slot();
        for (to, from) in [(&mut self.values, &from.values), (&mut self.places, &from.places)] {
            if let (Some(to), Some(from)) = (to.get_mut(slot), from.get(slot)) {
                *to = *from;
            }
        }
        self.known = self.known & !register.bit() | from.known & register.bit();
        self.saved = self.saved & !register.bit() | from.saved & register.bit();
    }

    /// The program counter and what it points at.
    pub fn pc(&self) -> Option<CodeAddress> {
        let value = self.get(Register::PC)?;
        Some(if self.returns { CodeAddress::Return(value) } else { CodeAddress::Exact(value) })
    }

    /// Sets the program counter; where it was saved is [`Regs::set_saved`]'s to say, before this.
    pub fn set_pc(&mut self, pc: CodeAddress) {
        if self.get(Register::PC) != Some(pc.value()) {
            self.set(Register::PC, pc.value());
        }
        self.returns = !pc.is_exact();
    }
}

impl fmt::Debug for Regs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = out.debug_map();
        for number in 0..64u8 {
            let register = Register(number);
            if usize::from(number) < Register::COUNT
                && let Some(value) = self.get(register)
            {
                map.entry(&register, &format_args!("{value:#x}"));
            }
        }
        map.finish()
    }
}

/// How registers lie in a saved block: `pt_regs`, `ucontext_t`, NT_PRSTATUS.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bytes of the block.
    pub size: u64,
    /// Register, offset in the block, width in bytes.
    pub fields: &'static [(Register, u16, u8)],
}

impl Layout {
    /// Replaces `into` by the registers saved at `address`, the pc exact.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when a field cannot be read, [`Error::Overflow`] when the block leaves the address space.
    pub fn decode(&self, memory: &dyn Memory, address: u64, into: &mut Regs) -> Result<(), Error> {
        into.forget();
        for &(register, offset, width) in self.fields {
            let at = address.checked_add(u64::from(offset)).ok_or(Error::Overflow { address })?;
            into.set_saved(register, memory.value(at, width)?, at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;

    const A: Register = Register(3);
    const B: Register = Register(4);

    #[test]
    fn a_register_that_was_never_set_is_unknown_and_not_zero() {
        assert_eq!(Regs::new().get(A), None);
        assert_eq!(Regs::new().need(A), Err(Error::UnknownRegister { register: A }));
    }

    #[test]
    fn a_saved_register_says_where_it_lies_until_it_is_set_anew() {
        let mut regs = Regs::new();
        regs.set_saved(A, 7, 0x100);
        assert_eq!((regs.get(A), regs.place(A)), (Some(7), Some(0x100)));
        regs.set(A, 8);
        assert_eq!((regs.get(A), regs.place(A)), (Some(8), None));
    }

    #[test]
    fn a_block_is_decoded_by_width_and_its_pc_is_exact() {
        static LAYOUT: Layout = Layout { size: 16, fields: &[(A, 0, 8), (B, 8, 2), (Register::PC, 10, 4)] };
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 0x33, 0, 0x00, 0x10, 0, 0];
        let mut regs = Regs::new();
        regs.set(Register(9), 9);
        LAYOUT.decode(&Bytes { address: 0x40, bytes: &bytes }, 0x40, &mut regs).unwrap();
        assert_eq!((regs.get(A), regs.get(B), regs.get(Register(9))), (Some(1), Some(0x33), None));
        assert_eq!(regs.pc(), Some(CodeAddress::Exact(0x1000)));
        assert_eq!(regs.place(B), Some(0x48));
    }
}
