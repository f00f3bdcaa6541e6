//! Frame records, the marker frames among them, and code that has no frame yet.
//!
//! ```text
//!   high │ …                      │
//!        │ return address         │ fp + 8
//!        │ caller's frame pointer │ ◄ fp     a frame record
//!        │ locals                 │
//!   low  └────────────────────────┘ ◄ sp
//! ```
//!
//! A frame pointer is an ordinary register in most code, so nothing here takes it for a fact: a record must lie on the
//! stack above the stack pointer and hold an address that follows a call, and a frame found by it says so. Marker
//! frames are found by following records too, never by scanning: stale ones lie about on real stacks.
#![no_std]
#![forbid(unsafe_code)]

mod entry;
mod marker;

pub use entry::Entry;
pub use marker::Markers;

use surestack_walk::{CodeAddress, Error, FoundBy, Link, Mapping, Register, Regs, Step, Target, Unwinder, Why};

/// Steps by frame records.
#[derive(Clone, Copy, Debug, Default)]
pub struct FramePointer;

impl Unwinder for FramePointer {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(fp) = callee.get(target.arch.fp) else {
            return Ok(Step::NotMine(Why::NoFramePointer));
        };
        let Some(record) = Record::read(target, callee, fp) else {
            return Ok(Step::NotMine(Why::NoFrameRecord));
        };
        let return_address = target.arch.strip(record.return_address, target.registry.signed_bits);
        if !follows_call(target, return_address) {
            return Ok(Step::NotMine(Why::NotAfterCall));
        }
        let cfa = fp.checked_add(16).ok_or(Error::Overflow { address: fp })?;
        fill_caller(target, callee, Found { cfa, return_address, return_slot: fp.wrapping_add(8) }, caller);
        caller.set_saved(target.arch.fp, record.caller_fp, fp);
        Ok(called(cfa, fp.wrapping_add(8), FoundBy::FramePointer))
    }
}

/// Two words of the stack: the caller's frame pointer and the return address.
#[derive(Clone, Copy, Debug)]
struct Record {
    caller_fp: u64,
    return_address: u64,
}

impl Record {
    /// The record at `fp`, if one can lie there: aligned, on the stack, not below the stack pointer.
    fn read(target: &Target<'_>, callee: &Regs, fp: u64) -> Option<Self> {
        let sp = callee.get(target.arch.sp)?;
        let same_stack = match (target.stacks.find(sp), target.stacks.find(fp)) {
            (Some(stack), Some(_)) => stack.holds(fp, 16),
            (None, None) => true,
            _ => false,
        };
        if !fp.is_multiple_of(8) || fp < sp || !same_stack {
            return None;
        }
        let caller_fp = target.memory.word(fp).ok()?;
        let return_address = target.memory.word(fp.checked_add(8)?).ok()?;
        Some(Self { caller_fp, return_address })
    }
}

/// A return address, where it lay, and the frame it ends.
struct Found {
    cfa: u64,
    return_address: u64,
    return_slot: u64,
}

/// The caller as far as a bare return address tells: pc and sp, and nothing of the registers the callee may have saved.
fn fill_caller(target: &Target<'_>, callee: &Regs, found: Found, caller: &mut Regs) {
    caller.forget();
    for register in [Register::THREAD, Register::GS_BASE, Register::CS, Register::SS] {
        caller.inherit(register, callee);
    }
    caller.set(target.arch.sp, found.cfa);
    caller.set_saved(Register::PC, found.return_address, found.return_slot);
    caller.set_pc(CodeAddress::Return(found.return_address));
}

fn called(cfa: u64, return_slot: u64, found_by: FoundBy) -> Step {
    Step::Caller { cfa, return_slot: Some(return_slot), link: Link::Call, found_by }
}

/// Whether `address` is in code, with a call before it. Text that cannot be read is not held against it.
fn follows_call(target: &Target<'_>, address: u64) -> bool {
    match target.modules.mapping(address) {
        Mapping::Data | Mapping::Nothing => return false,
        Mapping::Code | Mapping::Unknown => {}
    }
    target.follows_call(address).unwrap_or_else(|| target.modules.mapping(address) == Mapping::Code)
}
