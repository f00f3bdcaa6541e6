//! The registers of a thread that is not running, from the block the kernel hands out (`NT_PRSTATUS`).

use surestack_walk::{Arch, Bytes, Memory, Regs};

/// The registers in `block`, as live ones: they lie in no memory of the target. None when the block is too short.
pub fn live(arch: &Arch, block: &[u8]) -> Option<Regs> {
    let memory = Bytes { address: 0, bytes: block };
    let mut regs = Regs::new();
    for &(register, offset, width) in arch.core_registers.fields {
        regs.set(register, memory.value(u64::from(offset), width).ok()?);
    }
    Some(regs)
}
