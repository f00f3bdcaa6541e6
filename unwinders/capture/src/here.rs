//! The registers of whoever asks, where it asks.

use crate::syscall;
use surestack_walk::{CodeAddress, Register, Regs};

/// The registers that a caller of the function in which this stands would find again, and where in it we are. As long as that
/// function has not returned, a walk from them shows it and its callers.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
pub fn here() -> Regs {
    let mut words = [0_u64; 8];
    // SAFETY: writes to `words` only.
    unsafe {
        core::arch::asm!(
            "lea {scratch}, [rip]",
            "mov [{words}], {scratch}",
            "mov [{words} + 8], rsp",
            "mov [{words} + 16], rbp",
            "mov [{words} + 24], rbx",
            "mov [{words} + 32], r12",
            "mov [{words} + 40], r13",
            "mov [{words} + 48], r14",
            "mov [{words} + 56], r15",
            words = in(reg) &raw mut words,
            scratch = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    kept(&words)
}

/// There is nothing here yet.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[inline(always)]
pub fn here() -> Regs {
    kept(&[0; 8])
}

#[inline(never)]
fn kept(words: &[u64; 8]) -> Regs {
    /// What there is where no system call is being made.
    const NO_CALL: u64 = u64::MAX;
    let [pc, sp, rbp, rbx, r12, r13, r14, r15] = *words;
    let mut regs = Regs::new();
    let general = [(7, sp), (6, rbp), (3, rbx), (12, r12), (13, r13), (14, r14), (15, r15)];
    for (number, value) in general {
        if let Some(register) = Register::general(number) {
            regs.set(register, value);
        }
    }
    if let Ok(base) = syscall::thread_base() {
        regs.set(Register::THREAD, base);
    }
    regs.set(Register::SYSCALL, NO_CALL);
    regs.set_pc(CodeAddress::Exact(pc));
    regs
}
