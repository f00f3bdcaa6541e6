//! What a thread has for itself: one instruction that adds, its stack pointer, and a word of thread-local storage.
//!
//! The word is in the storage that a thread has from its beginning (the initial-exec model of the ELF TLS ABI), also where
//! the code is in a library: other thread-local storage of a library is made by an allocation when it is first touched, and
//! that may be in a handler.

use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

// The word, in the words of both assemblers.
global_asm!(
    ".pushsection .tbss, \"awT\", @nobits",
    ".p2align 3",
    ".globl surestack_recorder_place_1",
    ".hidden surestack_recorder_place_1",
    ".type surestack_recorder_place_1, @object",
    ".size surestack_recorder_place_1, 8",
    "surestack_recorder_place_1: .zero 8",
    ".popsection",
);

/// Adds to a word of which this thread is the only writer, and gives what it was. A handler of this thread runs before or
/// behind it.
#[inline(always)]
pub fn add(word: &AtomicU64, value: u64) -> u64 {
    arch::add(word, value)
}

/// This thread's word: 0 when it begins.
#[inline(always)]
pub fn place() -> &'static AtomicU64 {
    // SAFETY: it is this thread's, aligned, and there as long as the thread runs.
    unsafe { &*arch::place() }
}

/// The stack pointer, more or less.
#[inline(always)]
pub fn stack_pointer() -> u64 {
    arch::stack_pointer()
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::asm;
    use core::sync::atomic::AtomicU64;

    #[inline(always)]
    pub fn add(word: &AtomicU64, value: u64) -> u64 {
        let old;
        // Not locked: for one processor it is one instruction all the same, and others only read.
        // SAFETY: the word is there, and writable.
        unsafe {
            asm!("xadd qword ptr [{word}], {value}", word = in(reg) word.as_ptr(), value = inout(reg) value => old, options(nostack));
        }
        old
    }

    #[inline(always)]
    pub fn place() -> *const AtomicU64 {
        let place;
        // SAFETY: reads the thread pointer (fs:0, the psABI's variant II) and the word's distance from it, which the loader
        // filled in before any code of this object ran.
        unsafe {
            asm!(
                "mov {place}, qword ptr [rip + surestack_recorder_place_1@GOTTPOFF]",
                "add {place}, qword ptr fs:[0]",
                place = out(reg) place,
                options(pure, readonly, nostack),
            );
        }
        place
    }

    #[inline(always)]
    pub fn stack_pointer() -> u64 {
        let sp;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {sp}, rsp", sp = out(reg) sp, options(nomem, nostack, preserves_flags)) };
        sp
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use core::arch::asm;
    use core::sync::atomic::{AtomicU64, Ordering};

    #[inline(always)]
    pub fn add(word: &AtomicU64, value: u64) -> u64 {
        // A loop of load and store exclusive: a handler in between makes the store fail.
        word.fetch_add(value, Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn place() -> *const AtomicU64 {
        let place;
        // SAFETY: reads the thread pointer and the word's distance from it (AAELF64, initial exec).
        unsafe {
            asm!(
                "adrp {place}, :gottprel:surestack_recorder_place_1",
                "ldr {place}, [{place}, :gottprel_lo12:surestack_recorder_place_1]",
                "mrs {thread}, tpidr_el0",
                "add {place}, {place}, {thread}",
                place = out(reg) place,
                thread = out(reg) _,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        place
    }

    #[inline(always)]
    pub fn stack_pointer() -> u64 {
        let sp;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {sp}, sp", sp = out(reg) sp, options(nomem, nostack, preserves_flags)) };
        sp
    }
}
