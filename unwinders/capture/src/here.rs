//! The registers of whoever asks, where it asks.

use crate::syscall;
use surestack_walk::{CodeAddress, Register, Regs};

/// The registers that a caller of the function in which this stands would find again, and where in it we are. As long as that
/// function has not returned, a walk from them shows it and its callers.
#[inline(always)]
pub fn here() -> Regs {
    here_words().registers()
}

/// The same, as they were written down.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
pub fn here_words() -> HereWords {
    let mut words = [0_u64; 8];
    // SAFETY: it writes to the eight words and to nothing else.
    unsafe { surestack_here(&mut words) };
    HereWords(words)
}

/// There is nothing here yet.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[inline(always)]
pub fn here_words() -> HereWords {
    HereWords([0; 8])
}

/// pc, sp, and the registers that are kept for a caller: rbp, rbx, r12 to r15.
#[derive(Clone, Copy, Debug)]
pub struct HereWords([u64; 8]);

impl HereWords {
    /// pc, sp and rbp.
    #[inline(always)]
    pub fn first(&self) -> [u64; 3] {
        let [pc, sp, fp, ..] = self.0;
        [pc, sp, fp]
    }

    /// All of them, with what the kernel says of the thread.
    pub fn registers(&self) -> Regs {
        kept(&self.0)
    }
}

// A function of its own: code that takes an address inside itself looks, to whoever reads the instructions, as if it were
// jumped to there.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
core::arch::global_asm!(
    ".pushsection .text.surestack_here,\"ax\",@progbits",
    ".globl surestack_here",
    ".hidden surestack_here",
    ".type surestack_here,@function",
    "surestack_here:",
    ".cfi_startproc",
    "mov rax, qword ptr [rsp]",
    "mov qword ptr [rdi], rax",
    "lea rax, [rsp + 8]",
    "mov qword ptr [rdi + 8], rax",
    "mov qword ptr [rdi + 16], rbp",
    "mov qword ptr [rdi + 24], rbx",
    "mov qword ptr [rdi + 32], r12",
    "mov qword ptr [rdi + 40], r13",
    "mov qword ptr [rdi + 48], r14",
    "mov qword ptr [rdi + 56], r15",
    "ret",
    ".cfi_endproc",
    ".size surestack_here, . - surestack_here",
    ".popsection",
);

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe extern "C" {
    fn surestack_here(words: &mut [u64; 8]);
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
