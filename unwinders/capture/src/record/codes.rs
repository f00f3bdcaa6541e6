//! The number of every variant, once, for both directions.
//!
//! Numbers stay for ever; a new variant takes the next one. One that is not listed here does not compile, and neither does a
//! new field.

mod values;

use super::fields::{Fields, Payload};
use super::{Failure, Gap, Item, MessageKind, Occasion, Storm, ThreadState};
#[cfg(test)]
use std::{vec, vec::Vec};
use surestack_reliable::{ContextFault, Doubt, Doubted, Noted, Verdict};
use surestack_walk::{
    CfiFault, CodeAddress, End, Error, FoundBy, Grade, Link, Root, RowSource, SignalSign, Stack, StackKind, Witness,
};

/// Something that can stand in an item.
pub(super) trait Coded<'a>: Sized {
    fn put(&self, into: &mut Fields<'a>);

    /// `None` where the bytes end too early, or hold a number of nothing that is known here.
    fn take(from: &mut Payload<'a>) -> Option<Self>;

    /// Every variant, with every variant of what it holds.
    #[cfg(test)]
    fn samples() -> Vec<Self>;
}

/// An enum: the number of a variant, and what the variant holds.
pub(super) trait Variants<'a>: Sized {
    fn code(&self) -> u8;

    fn put_fields(&self, into: &mut Fields<'a>);

    fn take_fields(code: u8, from: &mut Payload<'a>) -> Option<Self>;

    /// Whether a variant has this number.
    fn knows(code: u8) -> bool;

    #[cfg(test)]
    fn all() -> Vec<Self>;
}

impl<'a, T: Variants<'a>> Coded<'a> for T {
    fn put(&self, into: &mut Fields<'a>) {
        self.code().put(into);
        self.put_fields(into);
    }

    fn take(from: &mut Payload<'a>) -> Option<Self> {
        let code = u8::take(from)?;
        Self::take_fields(code, from)
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        Self::all()
    }
}

macro_rules! codes {
    ($(impl<$life:lifetime> $type:ty { $(
        $code:literal = $variant:ident $({ $($field:ident),+ })? $(($inner:ident))?
    ),+ $(,)? })+) => { $(
        impl<$life> Variants<$life> for $type {
            fn code(&self) -> u8 {
                #[allow(unused_variables, reason = "the same list for numbers and fields")]
                match self { $( Self::$variant $({ $($field),+ })? $(($inner))? => $code, )+ }
            }

            fn put_fields(&self, _into: &mut Fields<$life>) {
                match self { $( Self::$variant $({ $($field),+ })? $(($inner))? => {
                    $( $( $field.put(_into); )+ )?
                    $( $inner.put(_into); )?
                } )+ }
            }

            fn take_fields(code: u8, _from: &mut Payload<$life>) -> Option<Self> {
                Some(match code {
                    $( $code => Self::$variant
                        $({ $($field: Coded::take(_from)?),+ })?
                        $(({ let $inner = Coded::take(_from)?; $inner }))?, )+
                    _ => return None,
                })
            }

            fn knows(code: u8) -> bool {
                [$($code),+].contains(&code)
            }

            #[cfg(test)]
            fn all() -> Vec<Self> {
                let mut all = vec![];
                $( {
                    $( $( let $field = Coded::samples(); )+ )?
                    $( let $inner = Coded::samples(); )?
                    let most = 1 $( $( .max($field.len()) )+ )? $( .max($inner.len()) )?;
                    all.extend((0..most).map(|_number| Self::$variant
                        $({ $($field: $field[_number % $field.len()]),+ })?
                        $(($inner[_number % $inner.len()]))?));
                } )+
                all
            }
        }
    )+ };
}

macro_rules! fields {
    ($($type:ident { $($field:ident),+ $(,)? })+) => { $(
        impl<'a> Coded<'a> for $type {
            fn put(&self, into: &mut Fields<'a>) {
                let Self { $($field),+ } = self;
                $( $field.put(into); )+
            }

            fn take(from: &mut Payload<'a>) -> Option<Self> {
                Some(Self { $($field: Coded::take(from)?),+ })
            }

            #[cfg(test)]
            fn samples() -> Vec<Self> {
                $( let $field = Coded::samples(); )+
                let most = 1 $( .max($field.len()) )+;
                (0..most).map(|number| Self { $($field: $field[number % $field.len()]),+ }).collect()
            }
        }
    )+ };
}

codes! {
    impl<'a> Item<'a> {
        1 = Occasion(occasion),
        2 = Process { pid, ppid, tid, uid, realtime, monotonic, page, exe },
        3 = Signal { tid, info },
        4 = Registers { tid, regs },
        5 = Thread { tid, state, pc, sp, name },
        6 = Frame { tid, index, noted },
        7 = Doubted { tid, doubted },
        8 = End { tid, end, verdict, frames, doubts },
        9 = Module { start, end, bias, build_id, path },
        10 = Message { kind, text },
        11 = Mapping { low, high, offset, inode, permissions, path },
        12 = StepFailed { step, failure },
        13 = Gap { what, number },
        14 = Signature(signature),
        15 = Storm(storm),
        16 = Done { ns },
        17 = Initial { sp, auxv },
        18 = Unchanged { low, high },
        19 = Recorder { at, bytes },
    }

    impl<'a> Occasion { 1 = Signal, 2 = Panic, 3 = Requested }

    impl<'a> ThreadState {
        1 = Crashed, 2 = Answered, 3 = Read, 4 = Silent, 5 = Exited, 6 = NotAsked, 7 = Refused,
    }

    impl<'a> MessageKind { 1 = Abort, 2 = Assert, 3 = Panic }

    impl<'a> Failure { 1 = Fault { signal, code, address, pc }, 2 = TimedOut { ns }, 3 = Refused { errno } }

    impl<'a> Gap {
        1 = Threads, 2 = ThreadList, 3 = Modules, 4 = Mappings, 5 = Message, 6 = Place, 7 = Bytes, 8 = Signals,
        9 = Crashes, 10 = AlternateStack, 11 = ThreadStorage, 12 = Budget, 13 = Helper, 14 = Recorder,
        15 = RecorderThreads,
    }

    impl<'a> CodeAddress { 1 = Exact(address), 2 = Return(address) }

    impl<'a> StackKind { 1 = Main, 2 = Other }

    impl<'a> Link { 1 = Call, 2 = Signal, 3 = Marker, 4 = Probe, 5 = Switch }

    impl<'a> FoundBy {
        1 = Context,
        2 = Cfi(source),
        3 = Analysed(grade),
        4 = Corrected,
        5 = SignalFrame(sign),
        6 = Probe,
        7 = Marker(number),
        8 = FramePointer,
        9 = CallAtSp,
        10 = Resolver,
        11 = Foreign(name),
    }

    impl<'a> Grade { 1 = FromEntry, 2 = FromSymbol, 3 = ToReturn }

    impl<'a> RowSource { 1 = EhFrame, 2 = DebugFrame, 3 = Table }

    impl<'a> SignalSign { 1 = Cfi, 2 = Bytes }

    impl<'a> Root {
        1 = UndefinedReturn, 2 = EntryPoint, 3 = ContextEntry, 4 = Registered, 5 = Named, 6 = Marker(number),
    }

    impl<'a> ContextFault { 1 = OffStack, 2 = Extended, 3 = OtherStack }

    impl<'a> Witness { 1 = Confirmed, 2 = Refuted { target }, 3 = NotACall, 4 = Unknown }

    impl<'a> End { 1 = Root(root), 2 = Stopped(error) }

    impl<'a> Verdict { 1 = Reliable, 2 = Unreliable, 3 = Pending(missing) }

    impl<'a> Error {
        1 = Unreadable { address },
        2 = Overflow { address },
        3 = Misaligned { address },
        4 = UnknownRegister { register },
        5 = BadCfi { pc, fault },
        6 = NoProgress { cfa },
        7 = BelowLast { cfa, last },
        8 = NotCode { address },
        9 = UnknownCode { pc },
        10 = Budget { frames },
        11 = ForgedSignalFrame { address },
        12 = BadMarker { address },
        13 = BrokenOff { frames },
    }

    impl<'a> CfiFault { 1 = Malformed, 2 = Unsupported, 3 = TooLarge, 4 = Expression, 5 = Register }

    impl<'a> Doubt {
        1 = Stopped(error),
        2 = RootMisplaced(root),
        3 = Unvouched(found_by),
        4 = FramePointerAcrossSignal,
        5 = FrameMoved { pc },
        6 = NotAfterCall { return_address },
        7 = OtherCallee { return_address, target },
        8 = RowContradicted { pc },
        9 = RowUndecided { pc },
        10 = RegisterUnproven { pc, register },
        11 = ForgedSignalFrame { ucontext, fault },
        12 = TextModified { pc },
        13 = UnknownCode { pc },
        14 = ReturnProbed { page },
        15 = ModulesChanged,
        16 = NotCode { pc },
        17 = OffStack { address },
        18 = StackSwitched { sp },
        19 = StackRevisited { sp },
    }
}

fields! {
    Storm { pid, tid, signal, code, address, pc, sp, count, realtime }
    Stack { low, high, kind }
    Noted { pc, sp, thread, stack, found_by, link, callee_cfa, return_slot, context, arrival }
    Doubted { frame, doubt }
}
