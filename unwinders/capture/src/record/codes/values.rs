//! Numbers, names and registers in an item.

use super::Coded;
use crate::record::fields::{Fields, Payload, copy};
#[cfg(test)]
use std::{vec, vec::Vec};
use surestack_reliable::Missing;
use surestack_walk::{Register, Regs};

macro_rules! numbers {
    ($($type:ty: $($sample:expr),+;)+) => { $(
        impl Coded<'_> for $type {
            fn put(&self, into: &mut Fields<'_>) {
                into.number(&self.to_le_bytes());
            }

            fn take(from: &mut Payload<'_>) -> Option<Self> {
                from.number().map(Self::from_le_bytes)
            }

            #[cfg(test)]
            fn samples() -> Vec<Self> {
                vec![$($sample),+]
            }
        }
    )+ };
}

numbers! {
    u8: 5, u8::MAX;
    u16: 0x1234, u16::MAX;
    u32: 0x1234_5678, u32::MAX;
    i32: 11, -6;
    u64: 0x1234_5678_9abc_def0, u64::MAX, 0;
}

impl<'a> Coded<'a> for usize {
    fn put(&self, into: &mut Fields<'a>) {
        u64::try_from(*self).unwrap_or(u64::MAX).put(into);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        u64::take(from)?.try_into().ok()
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![0, 174_763]
    }
}

impl<'a> Coded<'a> for &'a [u8] {
    fn put(&self, into: &mut Fields<'a>) {
        into.string(self);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        from.string()
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![b"/usr/bin/demo", b"", b"\xff\0name"]
    }
}

/// Whether there is one, and it.
impl<'a, T: Coded<'a>> Coded<'a> for Option<T> {
    fn put(&self, into: &mut Fields<'a>) {
        u8::from(self.is_some()).put(into);
        if let Some(value) = self {
            value.put(into);
        }
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(None),
            1 => T::take(from).map(Some),
            _ => None,
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        T::samples().into_iter().map(Some).chain([None]).collect()
    }
}

impl<'a> Coded<'a> for Register {
    fn put(&self, into: &mut Fields<'a>) {
        self.number().put(into);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        Self::numbered(u8::take(from)?)
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        (0..u8::MAX).filter_map(Self::numbered).collect()
    }
}

impl<'a> Coded<'a> for Missing {
    fn put(&self, into: &mut Fields<'a>) {
        self.bits().put(into);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        Self::of_bits(u8::take(from)?)
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        (0..u8::MAX).filter_map(Self::of_bits).collect()
    }
}

/// Which are known, a bit for each; their values, ascending; whether the pc is a return address.
impl<'a> Coded<'a> for Regs {
    fn put(&self, into: &mut Fields<'a>) {
        let every = || (0..u8::MAX).map_while(Register::numbered);
        let known = every().filter(|register| self.get(*register).is_some());
        known.fold(0u64, |set, register| set | 1 << (register.number() & 63)).put(into);
        every().filter_map(|register| self.get(register)).for_each(|value| value.put(into));
        self.pc().put(into);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        let known = u64::take(from)?;
        let mut regs = Self::new();
        for number in (0..64).filter(|number| known & (1 << number) != 0) {
            regs.set(Register::numbered(number)?, u64::take(from)?);
        }
        if let Some(pc) = Coded::take(from)? {
            regs.set_pc(pc);
        }
        Some(regs)
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        let (mut all, mut few) = (Self::new(), Self::new());
        Register::samples().into_iter().for_each(|register| all.set(register, u64::from(register.number()) << 8));
        few.set_pc(surestack_walk::CodeAddress::Return(0x40_1000));
        vec![all, few, Self::new()]
    }
}

/// Names of unwinders that are not ours, of those that are known here.
const FOREIGN: [&str; 1] = ["framehop"];
/// What the others are called: a name must live as long as the program, which bytes of a record do not.
const OTHER: &str = "another unwinder";
/// Bytes of a name that are recorded, for whoever looks at the bytes.
const NAME: usize = 16;

impl<'a> Coded<'a> for &'static str {
    fn put(&self, into: &mut Fields<'a>) {
        let mut name = [0; NAME];
        copy(&mut name, self.as_bytes());
        into.number(&name);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        let name: [u8; NAME] = from.number()?;
        let written = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(FOREIGN.into_iter().find(|known| known.as_bytes() == written).unwrap_or(OTHER))
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        FOREIGN.into_iter().chain([OTHER]).collect()
    }
}
