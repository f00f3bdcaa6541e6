//! Whether a signal frame can be the kernel's.
//!
//! Its trampoline and the selectors in it were looked at when it was stepped through. Here: that all of it lies on the
//! stack the handler ran on, that the vector registers lie where the kernel puts them and are signed as it signs them, and
//! that a change of stacks is one the kernel would have made.

use crate::ContextFault;
use surestack_walk::{Error, Register, Stack, Target};

/// `SS_DISABLE` of `stack_t`.
const DISABLED: u64 = 2;

/// What is wrong with the frame whose `ucontext_t` holds the pc at `slot` and that interrupted code on `interrupted`.
pub(crate) fn fault(target: &Target<'_>, slot: u64, interrupted: Option<Stack>) -> Option<ContextFault> {
    let fields = target.arch.signal_frame.registers.fields;
    let offset = fields.iter().find(|(register, ..)| *register == Register::PC).map(|&(_, offset, _)| offset);
    let ucontext = slot.wrapping_sub(u64::from(offset.unwrap_or_default()));
    let Some(stack) = target.stacks.find(ucontext) else {
        return Some(ContextFault::OffStack);
    };
    if !stack.holds(ucontext, target.arch.signal_frame.registers.size) {
        return Some(ContextFault::OffStack);
    }
    match extended(target, ucontext, stack) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Some(ContextFault::Extended),
    }
    if interrupted.is_none_or(|interrupted| interrupted == stack) {
        return None;
    }
    match ran_on_alternate(target, ucontext) {
        Ok(true) => None,
        Ok(false) | Err(_) => Some(ContextFault::OtherStack),
    }
}

/// Whether the vector registers lie on the handler's stack, above the `ucontext_t`, signed at both ends.
fn extended(target: &Target<'_>, ucontext: u64, stack: Stack) -> Result<bool, Error> {
    let Some(layout) = &target.arch.signal_frame.extended else { return Ok(true) };
    let memory = target.memory;
    let block = memory.word(ucontext.wrapping_add(u64::from(layout.pointer)))?;
    if block == 0 {
        return Ok(true);
    }
    if block <= ucontext || !block.is_multiple_of(16) || !stack.holds(block, u64::from(layout.size)) {
        return Ok(false);
    }
    let (sign, signed) = layout.sign;
    if memory.value(block.wrapping_add(u64::from(sign)), 4)? != u64::from(signed) {
        // A processor without more than these.
        return Ok(true);
    }
    let whole = memory.value(block.wrapping_add(u64::from(layout.whole)), 4)?;
    if whole < u64::from(layout.size) || !stack.holds(block, whole) {
        return Ok(false);
    }
    let end = block.wrapping_add(whole).wrapping_sub(4);
    Ok(memory.value(end, 4)? == u64::from(layout.end))
}

/// Whether the handler ran on the alternate stack that was in force.
fn ran_on_alternate(target: &Target<'_>, ucontext: u64) -> Result<bool, Error> {
    let at = ucontext.wrapping_add(u64::from(target.arch.signal_frame.stack));
    let low = target.memory.word(at)?;
    let disabled = target.memory.value(at.wrapping_add(8), 4)? & DISABLED != 0;
    let size = target.memory.word(at.wrapping_add(16))?;
    Ok(!disabled && ucontext.checked_sub(low).is_some_and(|inside| inside < size))
}
