//! What was examined, carried from the process that judged to the one that asked.

use super::shared::{Full, Reader, Writer};
use crate::consistency::decision::{Answer, Decision, Hit, Overall, Reason, Standing, Wait};
use crate::consistency::target::{Part, Target, Version, Whose};
use crate::consistency::trace::{Of, State, ThreadTrace, Trace, TraceFrame};
use crate::consistency::world::Obstacle;
use crate::consistency::{Examined, Searched};
use crate::snapshot::process::parked::Listed;
use std::ops::Range;
use std::time::Duration;
use surestack_reliable::{Doubted, Missing, Verdict};
use surestack_walk::{CodeAddress, Root};

/// Something that can be written to shared memory, and read there as a value of its own.
pub(super) trait Carry: Sized {
    /// Writes it.
    fn put(&self, into: &mut Writer<'_>) -> Result<(), Full>;
    /// Reads it, where it was written.
    fn take(from: &mut Reader<'_>) -> Option<Self>;
}

/// Types without pointers, but for names that are in the program itself.
macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Carry for $type {
            fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
                into.put(*self)
            }
            fn take(from: &mut Reader<'_>) -> Option<Self> {
                from.take()
            }
        }
    )*};
}

plain!(
    u8,
    u32,
    u64,
    usize,
    Of,
    Whose,
    CodeAddress,
    TraceFrame,
    Verdict,
    Doubted,
    Root,
    Missing,
    Hit,
    Wait,
    Duration,
    Listed
);

/// Structs, field by field.
macro_rules! fields {
    ($($type:ident { $($field:ident),* })*) => {$(
        impl Carry for $type {
            fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
                $(self.$field.put(into)?;)*
                Ok(())
            }
            fn take(from: &mut Reader<'_>) -> Option<Self> {
                Some(Self { $($field: Carry::take(from)?),* })
            }
        }
    )*};
}

fields! {
    Part { range, name, whose }
    Target { name, parts, live, overwritten }
    Trace { frames, verdict, doubts, believed, root, saved }
    ThreadTrace { of, name, state }
    Searched { obstacles, bytes, took }
    Answer { of, name, standing }
    Decision { threads, overall }
    Examined { targets, traces, searched, decision }
}

/// Enums: the number of the variant, and its fields.
macro_rules! variants {
    ($($type:ident { $($number:literal => $variant:ident $( { $($field:ident),* } )? $( ( $($item:ident),* ) )?),* })*) => {$(
        impl Carry for $type {
            fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
                match self {
                    $(Self::$variant $( { $($field),* } )? $( ( $($item),* ) )? => {
                        into.put::<u8>($number)?;
                        $($($field.put(into)?;)*)?
                        $($($item.put(into)?;)*)?
                    })*
                }
                Ok(())
            }
            fn take(from: &mut Reader<'_>) -> Option<Self> {
                match from.take::<u8>()? {
                    $($number => {
                        $($(let $field = Carry::take(from)?;)*)?
                        $($(let $item = Carry::take(from)?;)*)?
                        Some(Self::$variant $( { $($field),* } )? $( ( $($item),* ) )?)
                    })*
                    _ => None,
                }
            }
        }
    )*};
}

variants! {
    Version { 0 => Original, 1 => Patched(parts), 2 => Reverting(parts) }
    State { 0 => Held(trace), 1 => InCall { behind, anew }, 2 => Running, 3 => Gone }
    Standing {
        0 => Clear,
        1 => Blocked { hits, wait, doubts },
        2 => Untrusted { doubts, missing, believed },
        3 => Running,
        4 => Gone
    }
    Overall { 0 => Apply, 1 => RetryLater(reasons), 2 => Refuse(reasons) }
    Reason {
        0 => Thread(number),
        1 => NoTargets,
        2 => NoCode(number),
        3 => NoThreads,
        4 => NotSearched,
        5 => Process(obstacle)
    }
    Obstacle {
        0 => InlinesUnknown { target, why },
        1 => Setjmp { function, at },
        2 => Undecoded { target, at },
        3 => SharesMemory { id },
        4 => Unchecked { what },
        5 => Unreadable { range },
        6 => ThreadsChanged,
        7 => ModulesChanged,
        8 => Unlisted { at, value, target, place }
    }
}

impl<T: Carry, E: Carry> Carry for Result<T, E> {
    fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
        into.put(u8::from(self.is_ok()))?;
        match self {
            Ok(value) => value.put(into),
            Err(value) => value.put(into),
        }
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        if from.take::<u8>()? == 1 { T::take(from).map(Ok) } else { E::take(from).map(Err) }
    }
}

impl<T: Carry> Carry for Option<T> {
    fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
        into.put(u8::from(self.is_some()))?;
        self.as_ref().map_or(Ok(()), |value| value.put(into))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        if from.take::<u8>()? == 1 { T::take(from).map(Some) } else { Some(None) }
    }
}

impl<T: Carry> Carry for Vec<T> {
    fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
        into.put(self.len())?;
        self.iter().try_for_each(|value| value.put(into))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let length = from.take::<usize>()?;
        // As long as it will be from the start: a list that grows leaves copies of itself behind in freed memory.
        let mut list = Self::with_capacity(length);
        for _ in 0..length {
            list.push(T::take(from)?);
        }
        Some(list)
    }
}

impl Carry for String {
    fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
        into.put(self.len())?;
        self.bytes().try_for_each(|byte| into.put(byte))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let bytes: Vec<u8> = Carry::take(from)?;
        Self::from_utf8(bytes).ok()
    }
}

impl Carry for Range<u64> {
    fn put(&self, into: &mut Writer<'_>) -> Result<(), Full> {
        into.put(self.start)?;
        into.put(self.end)
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Some(from.take()?..from.take()?)
    }
}
