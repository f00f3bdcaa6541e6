//! Marker frames: a frame record that says "saved registers here".

use crate::Record;
use surestack_walk::{Error, FoundBy, Link, Marker, Register, Regs, Root, Sign, Step, Target, Unwinder, Why};

/// Steps from entry code to what it interrupted, by the markers in the target's registry.
///
/// To be asked after unwind information: a function that has some may keep the entry code's frame pointer in the
/// register, and is not the frame that is marked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Markers;

impl Unwinder for Markers {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(fp) = callee.get(target.arch.fp).filter(|_| !target.registry.markers.is_empty()) else {
            return Ok(Step::NotMine(Why::NoFramePointer));
        };
        if let Some(step) = tagged(target, callee, fp, caller)? {
            return Ok(step);
        }
        let Some(record) = Record::read(target, callee, fp) else {
            return Ok(Step::NotMine(Why::NoFrameRecord));
        };
        if let Some(step) = function(target, callee, fp, record, caller)? {
            return Ok(step);
        }
        let step = meta(target, callee, fp, record, caller)?;
        Ok(step.unwrap_or(Step::NotMine(Why::NotMarked)))
    }
}

/// A frame pointer that is no pointer but the tagged address of saved registers.
///
/// ```text
///   high │ saved registers        │ ◄ fp without its tag
///        │ return into entry code │
///   low  │ fp of the handler …    │
/// ```
fn tagged(target: &Target<'_>, callee: &Regs, fp: u64, caller: &mut Regs) -> Result<Option<Step>, Error> {
    for marker in target.registry.markers {
        let address = match marker.sign {
            Sign::LowBitSet if fp & 1 == 1 => fp & !1,
            Sign::HighBitClear if fp >> 31 == 0 => fp | 0x8000_0000,
            _ => continue,
        };
        return entry_registers(target, callee, marker, address, caller).map(Some);
    }
    Ok(None)
}

/// A record whose return address lies in a marker function; the word above points at the registers.
fn function(
    target: &Target<'_>,
    callee: &Regs,
    fp: u64,
    record: Record,
    caller: &mut Regs,
) -> Result<Option<Step>, Error> {
    for marker in target.registry.markers {
        let Sign::Function { start } = marker.sign else {
            continue;
        };
        if record.return_address.checked_sub(start).is_none_or(|offset| offset >= 2) {
            continue;
        }
        let pointer = fp.checked_add(16).ok_or(Error::Overflow { address: fp })?;
        let address = target.memory.word(pointer)?;
        // The registers lie above the marker frame, and hold the frame pointer that the record saved.
        if address < pointer.wrapping_add(8) {
            return Err(Error::BadMarker { address });
        }
        let step = entry_registers(target, callee, marker, address, caller)?;
        if caller.get(target.arch.fp) != Some(record.caller_fp) {
            return Err(Error::BadMarker { address });
        }
        return Ok(Some(step));
    }
    Ok(None)
}

/// A record of two zeros inside the saved block, with a type above it.
fn meta(target: &Target<'_>, callee: &Regs, fp: u64, record: Record, caller: &mut Regs) -> Result<Option<Step>, Error> {
    if record.caller_fp != 0 || record.return_address != 0 {
        return Ok(None);
    }
    for marker in target.registry.markers {
        let Sign::Record { registers, outermost, offset } = marker.sign else {
            continue;
        };
        let kind = target.memory.word(fp.checked_add(16).ok_or(Error::Overflow { address: fp })?)?;
        let address = fp.checked_sub(offset).ok_or(Error::Overflow { address: fp })?;
        if kind == outermost {
            return Ok(Some(Step::End(Root::Marker(marker.id))));
        }
        if kind != registers {
            return Err(Error::BadMarker { address: fp });
        }
        return entry_registers(target, callee, marker, address, caller).map(Some);
    }
    Ok(None)
}

/// The interrupted code's registers, exactly as they were saved at `address`, all of them on a stack.
fn entry_registers(
    target: &Target<'_>,
    callee: &Regs,
    marker: &Marker<'_>,
    address: u64,
    caller: &mut Regs,
) -> Result<Step, Error> {
    let bad = Error::BadMarker { address };
    let on_stack = callee
        .get(target.arch.sp)
        .and_then(|sp| target.stacks.find(sp))
        .is_none_or(|stack| stack.holds(address, marker.layout.size));
    if !on_stack || !address.is_multiple_of(4) {
        return Err(bad);
    }
    marker.layout.decode(target.memory, address, caller)?;
    // Selectors of ring 0 or 3; anything else was never a saved code segment.
    if caller.get(Register::CS).is_some_and(|cs| !matches!(cs & 3, 0 | 3)) {
        return Err(bad);
    }
    Ok(Step::Caller {
        cfa: address,
        return_slot: caller.place(Register::PC),
        link: Link::Marker,
        found_by: FoundBy::Marker(marker.id),
    })
}
