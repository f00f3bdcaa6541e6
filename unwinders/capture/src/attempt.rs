//! A step of a report, tried: a fault in it ends the step and not the report.
//!
//! ```text
//!   attempt ─► surestack_attempt ─► surestack_step(number, report) ─► done
//!                   ▲                      │ fault, or the step's time is over
//!                   └── rsp, as it was ◄───┘ surestack_claim sends the interrupted thread back here
//! ```
//!
//! What a step was in the middle of is left as it is: steps share nothing that could be left half-way but what each begins
//! anew.

use crate::stack::HandlerStack;
use core::arch::global_asm;
use core::sync::atomic::Ordering;

global_asm!(
    ".pushsection .text.surestack_attempt,\"ax\",@progbits",
    ".globl surestack_attempt, surestack_attempt_failed",
    ".hidden surestack_attempt, surestack_attempt_failed",
    ".type surestack_attempt,@function",
    "surestack_attempt:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa rsp, 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa rbp, 16",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    ".cfi_offset rbx, -24",
    ".cfi_offset r12, -32",
    ".cfi_offset r13, -40",
    ".cfi_offset r14, -48",
    ".cfi_offset r15, -56",
    "sub rsp, 8",
    "mov qword ptr [rdx], rsp",
    "call {step}",
    "xor eax, eax",
    "2:",
    // From here rbp is the frame's only while the stack pointer is too: both are the same on either way.
    "lea rbp, [rsp + 48]",
    "mov r15, qword ptr [rbp - 40]",
    "mov r14, qword ptr [rbp - 32]",
    "mov r13, qword ptr [rbp - 24]",
    "mov r12, qword ptr [rbp - 16]",
    "mov rbx, qword ptr [rbp - 8]",
    "mov rsp, rbp",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size surestack_attempt, . - surestack_attempt",
    ".type surestack_attempt_failed,@function",
    "surestack_attempt_failed:",
    "mov eax, 1",
    "jmp 2b",
    ".size surestack_attempt_failed, . - surestack_attempt_failed",
    ".popsection",
    step = sym super::handler::surestack_step,
);

unsafe extern "C" {
    fn surestack_attempt(step: u32, report: *mut core::ffi::c_void, keep: *mut usize) -> u32;
    fn surestack_attempt_failed();
}

/// Does a step. Says whether it came to its end.
///
/// # Safety
/// `report` is what [`super::handler::surestack_step`] takes, and `stack` the one that this runs on.
pub unsafe fn attempt(step: u32, report: *mut core::ffi::c_void, stack: &HandlerStack) -> bool {
    let place = stack.attempt_word();
    // SAFETY: the function keeps to the ABI; the word it writes is the stack's own.
    let failed = unsafe { surestack_attempt(step, report, place.as_ptr()) };
    place.store(0, Ordering::Relaxed);
    failed == 0
}

/// Where a thread goes on whose attempt failed; its stack pointer is then what the attempt kept.
pub fn failed() -> usize {
    (surestack_attempt_failed as *const ()).addr()
}
