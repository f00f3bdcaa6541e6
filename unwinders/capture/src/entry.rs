//! The first and last instructions of every report.
//!
//! ```text
//!   kernel ─► surestack_signal_entry ─► surestack_claim     whose is this signal, and on which stack is it answered?
//!                 │ changes stacks       surestack_handle    the report
//!                 │ changes back         previous handler, if there is one
//!                 └─► restorer           surestack_finish    what is left to do when that has returned
//! ```
//!
//! On the stack of the report there is a marker frame at the top, in the form that kernels use: a function of two nops that
//! nobody calls, returned to at its second byte, and above it the address of the interrupted registers. Whoever follows
//! frame pointers, or unwind information, or only prints return addresses, sees `surestack_signal_frame+1` there and can go
//! on at the registers.
//!
//! ```text
//!   high │ address of the ucontext_t     │
//!        │ surestack_signal_frame + 1    │ returns into a function that nobody calls
//!   low  │ interrupted frame pointer     │ ◄ rbp in surestack_handle's caller
//! ```

use core::arch::global_asm;

global_asm!(
    ".pushsection .text.surestack_entry,\"ax\",@progbits",
    ".globl surestack_signal_entry, surestack_signal_frame, surestack_restorer",
    ".hidden surestack_signal_entry, surestack_signal_frame, surestack_restorer",
    // Two nops, of which the second is returned to; above it the address of the registers, which is the frame's CFA:
    // DW_CFA_def_cfa_expression { DW_OP_breg7 (rsp) 0; DW_OP_deref }
    ".balign 16",
    ".type surestack_signal_frame,@function",
    "surestack_signal_frame:",
    ".cfi_startproc",
    ".cfi_escape 0x0f, 0x03, 0x77, 0x00, 0x06",
    "nop",
    "nop",
    ".cfi_endproc",
    ".size surestack_signal_frame, . - surestack_signal_frame",
    "ud2",
    ".balign 16",
    ".type surestack_signal_entry,@function",
    "surestack_signal_entry:",
    ".cfi_startproc",
    "endbr64",
    // Whoever was installed over us calls this like any function, and goes on with its own registers.
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset rbp, -16",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset rbx, -24",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset r12, -32",
    "push r13",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset r13, -40",
    "push r14",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset r14, -48",
    "push r15",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset r15, -56",
    "mov r12, rdi",
    "mov r13, rsi",
    "mov r14, rdx",
    "mov r15, rsp",
    ".cfi_def_cfa r15, 56",
    "mov rcx, rsp",
    "sub rsp, 8",
    // (signal, siginfo, ucontext, sp) -> rax: the top of a stack, and rdx the stack; or FIRST, and rdx the handler to call first; or 0 when nothing is left to do
    "call {claim}",
    "test rax, rax",
    "jz 5f",
    "cmp rax, {first}",
    "jne 2f",
    // The handler before ours comes first: it may make the fault good.
    "push qword ptr [r14 + 168]",
    "push qword ptr [r14 + 160]",
    "mov rax, rdx",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    "call rax",
    "mov dword ptr [rip + {chained_in}], 0",
    "pop rax",
    "cmp rax, qword ptr [r14 + 160]",
    "jne 5f",
    "pop rax",
    "cmp rax, qword ptr [r14 + 168]",
    "jne 5f",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    "call {claim_next}",
    "test rax, rax",
    "jz 5f",
    "2:",
    "mov rbx, rdx",
    "mov rsp, rax",
    "and rsp, -16",
    "sub rsp, 8",
    "push r14",
    "lea rcx, [rip + surestack_signal_frame + 1]",
    "push rcx",
    "push rbp",
    "mov rbp, rsp",
    ".cfi_remember_state",
    ".cfi_def_cfa rbp, 16",
    ".cfi_offset rbp, -16",
    // Of the frame above, which has them from the kernel.
    ".cfi_same_value rbx",
    ".cfi_same_value r12",
    ".cfi_same_value r13",
    ".cfi_same_value r14",
    ".cfi_same_value r15",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    "mov rcx, rbx",
    // (signal, siginfo, ucontext, stack) -> rax: the handler to chain to, or 0; rdx: what it is called with blocked
    "call {handle}",
    "mov rsp, r15",
    ".cfi_restore_state",
    "mov rbp, qword ptr [r15 + 40]",
    // Back on the stack that the kernel chose: the alternate stack is what it was, and ours is free.
    "push rax",
    "mov rdi, rbx",
    "mov rsi, r14",
    "mov rcx, rax",
    "call {release}",
    "pop rax",
    "test rax, rax",
    "jz 5f",
    // As the kernel would have called it.
    "sub rsp, 8",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    "call rax",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    "call {finish}",
    "5:",
    "mov rsp, r15",
    ".cfi_def_cfa rsp, 56",
    "pop r15",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r15",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r14",
    "pop r13",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r13",
    "pop r12",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r12",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "pop rbp",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbp",
    "ret",
    ".cfi_endproc",
    ".size surestack_signal_entry, . - surestack_signal_entry",
    // What the kernel lets handlers return to. Debuggers know it by its bytes and by this name, which is local.
    ".balign 16",
    "nop",
    ".type __restore_rt,@function",
    "__restore_rt:",
    "mov rax, 15",
    "syscall",
    ".size __restore_rt, . - __restore_rt",
    "ud2",
    ".type surestack_restorer,@function",
    "surestack_restorer:",
    ".cfi_startproc",
    "lea rax, [rip + __restore_rt]",
    "ret",
    ".cfi_endproc",
    ".size surestack_restorer, . - surestack_restorer",
    ".popsection",
    claim = sym super::handler::surestack_claim,
    claim_next = sym super::handler::surestack_claim_next,
    first = const super::handler::FIRST,
    handle = sym super::handler::surestack_handle,
    release = sym super::leave::surestack_release,
    chained_in = sym super::leave::CHAINED_IN,
    finish = sym super::leave::surestack_finish,
);

unsafe extern "C" {
    fn surestack_signal_entry();
    fn surestack_signal_frame();
    fn surestack_restorer() -> usize;
}

/// Address of the handler to install.
pub fn entry() -> usize {
    (surestack_signal_entry as *const ()).addr()
}

/// Address of what it returns to (`SA_RESTORER`).
pub fn restorer() -> usize {
    // SAFETY: it returns an address and does nothing else.
    unsafe { surestack_restorer() }
}

/// Address of the marker function: an entry frame returns to its second byte.
pub fn marker() -> usize {
    (surestack_signal_frame as *const ()).addr()
}
