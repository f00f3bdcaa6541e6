//! The alternate stack of a thread that may be on it at this moment.

use crate::syscall::{AlternateStack, Answer};

/// Sets the thread's alternate stack, even where the thread is on the one it has: the kernel looks at the stack pointer,
/// which points nowhere while it is asked.
///
/// A handler that returns has the kernel set what the `uc_stack` of its context says: whoever calls this in a handler
/// writes it there too.
///
/// # Safety
/// The new one is the thread's alone, and stays as long as it is in force. All signals are blocked that can be.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn replace(new: &AlternateStack) -> Answer {
    const SIGALTSTACK: usize = 131;
    let answer: isize;
    // SAFETY: the stack pointer is back before anything uses it: the kernel writes no signal's frame meanwhile, since signals
    // are blocked, and the call itself does not touch the stack. `new` is only read.
    unsafe {
        core::arch::asm!(
            "mov r8, rsp",
            "xor esp, esp",
            "syscall",
            "mov rsp, r8",
            inlateout("rax") SIGALTSTACK => answer,
            in("rdi") core::ptr::from_ref(new),
            in("rsi") 0_usize,
            out("r8") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match i32::try_from(answer) {
        Ok(0) => Ok(()),
        other => Err(crate::syscall::Errno(other.map_or(i32::MAX, i32::wrapping_neg))),
    }
}

/// There are no system calls here yet.
///
/// # Safety
/// None is made.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub unsafe fn replace(_new: &AlternateStack) -> Answer {
    Err(crate::syscall::Errno::ENOSYS)
}
