//! What a user makes known about a target: markers and outermost entries.

use crate::Layout;
use core::ops::Range;

/// Things no file says. Empty by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registry<'a> {
    /// How entry frames are marked on this target's stacks.
    pub markers: &'a [Marker<'a>],
    /// Code whose frames are outermost: entries of coroutines, fibers, foreign runtimes.
    pub roots: &'a [Range<u64>],
    /// Generated code, for which whoever generates it vouches: it is what it is said to be although no file holds it.
    pub generated: &'a [Range<u64>],
    /// Bits of a code address that hold a signature (aarch64 pointer authentication), beside the architecture's own.
    pub signed_bits: u64,
}

/// One way in which an entry frame says "saved registers here".
#[derive(Clone, Copy, Debug)]
pub struct Marker<'a> {
    /// The number the frame's `found_by` carries.
    pub id: u16,
    /// How it is recognised.
    pub sign: Sign,
    /// How the registers lie in the saved block.
    pub layout: &'a Layout,
}

/// The sign by which a marker frame is recognised while following frame records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A three-word frame whose return address lies in a function of two bytes that nobody calls.
    ///
    /// ```text
    ///   fp+16   address of the registers
    ///   fp+8    marker function + 1
    ///   fp      the interrupted code's frame pointer
    /// ```
    Function {
        /// First byte of the marker function.
        start: u64,
    },
    /// The saved frame pointer with bit 0 set is the address of the registers (Linux `ENCODE_FRAME_POINTER`).
    LowBitSet,
    /// 32-bit: the saved frame pointer with bit 31 cleared is the address of the registers.
    HighBitClear,
    /// A frame record `{0, 0, type}` that lies inside the saved block (arm64 `frame_record_meta`).
    Record {
        /// `type` when registers surround the record.
        registers: u64,
        /// `type` when the record is the outermost one.
        outermost: u64,
        /// Offset of the record in the block.
        offset: u64,
    },
}
