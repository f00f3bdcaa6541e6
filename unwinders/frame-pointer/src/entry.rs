//! Code that has no frame of its own at the moment it was interrupted, told by its bytes or by there being none.

use crate::{Found, called, fill_caller, follows_call};
use surestack_walk::{CodeAddress, Error, FoundBy, Link, Mapping, Register, Regs, Step, Target, Unwinder, Why};

/// Steps from an interrupted instruction whose return address lies at the stack pointer: the target of a call through a
/// bad pointer, or the first and last instructions of a function that keeps frame records.
///
/// ```text
///   high │ return address         │ sp + 8 after `push %rbp`, sp before it and at `ret`
///        │ caller's frame pointer │
///   low  └────────────────────────┘ ◄ sp
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry;

impl Unwinder for Entry {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(CodeAddress::Exact(pc)) = callee.pc() else {
            return Ok(Step::NotMine(Why::NoPc));
        };
        match target.modules.mapping(pc) {
            // Nothing ran there: a call or a return has just led to it.
            Mapping::Nothing | Mapping::Data => from_call(target, callee, caller),
            Mapping::Code | Mapping::Unknown => by_bytes(target, callee, pc, caller),
        }
    }
}

/// The caller of code that could not be entered: what the call left.
fn from_call(target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
    if let Some(link) = target.arch.link {
        let return_address = target.arch.strip(callee.need(link)?, target.registry.signed_bits);
        if !follows_call(target, return_address) {
            return Ok(Step::NotMine(Why::NotAfterCall));
        }
        return by_link(target, callee, return_address, caller);
    }
    by_slot(target, callee, 0, None, caller)
}

/// The caller of code that is at one of the known places of a prologue or epilogue.
fn by_bytes(target: &Target<'_>, callee: &Regs, pc: u64, caller: &mut Regs) -> Result<Step, Error> {
    let mut code = [0; 16];
    let (before, after) = (8_usize, 8_usize);
    let start = pc.wrapping_sub(8);
    if target.memory.read(start, code.get_mut(..before + after).unwrap_or_default()).is_err() {
        return Ok(Step::NotMine(Why::NoText));
    }
    let (behind, ahead) = code.split_at(before);
    for place in target.arch.prologue {
        if behind.ends_with(place.before) && ahead.starts_with(place.after) {
            return by_slot(target, callee, u64::from(place.return_slot), place.saved_fp.map(u64::from), caller);
        }
    }
    Ok(Step::NotMine(Why::Undecided))
}

/// The caller whose return address lies `offset` bytes above the stack pointer. The callee-saved registers are still
/// the caller's; its frame pointer lies at `saved_fp`, or is still in the register.
fn by_slot(
    target: &Target<'_>,
    callee: &Regs,
    offset: u64,
    saved_fp: Option<u64>,
    caller: &mut Regs,
) -> Result<Step, Error> {
    let sp = callee.need(target.arch.sp)?;
    let slot = sp.checked_add(offset).ok_or(Error::Overflow { address: sp })?;
    let return_address = target.memory.word(slot)?;
    if !follows_call(target, return_address) {
        return Ok(Step::NotMine(Why::NotAfterCall));
    }
    let cfa = slot.checked_add(8).ok_or(Error::Overflow { address: slot })?;
    fill_caller(target, callee, Found { cfa, return_address, return_slot: slot }, caller);
    for &register in target.arch.callee_saved {
        caller.inherit(register, callee);
    }
    if let Some(place) = saved_fp.and_then(|offset| sp.checked_add(offset)) {
        match target.memory.word(place) {
            Ok(value) => caller.set_saved(target.arch.fp, value, place),
            Err(_) => caller.forget_one(target.arch.fp),
        }
    }
    Ok(called(cfa, slot, FoundBy::CallAtSp))
}

/// The caller that a link register leads to; the stack has not been touched.
fn by_link(target: &Target<'_>, callee: &Regs, return_address: u64, caller: &mut Regs) -> Result<Step, Error> {
    let cfa = callee.need(target.arch.sp)?;
    caller.forget();
    for &register in target.arch.callee_saved {
        caller.inherit(register, callee);
    }
    caller.set(target.arch.sp, cfa);
    caller.set(Register::PC, return_address);
    caller.set_pc(CodeAddress::Return(return_address));
    Ok(Step::Caller { cfa, return_slot: None, link: Link::Call, found_by: FoundBy::CallAtSp })
}
