//! x86_64: System V ABI (AMD64 supplement 1.0), Linux `arch/x86`.

use super::{Arch, ExtendedState, Prologue, SignalFrameLayout, SystemCall, Trampoline};
use crate::{Layout, Register};

const RAX: Register = Register(0);
const RDX: Register = Register(1);
const RCX: Register = Register(2);
const RBX: Register = Register(3);
const RSI: Register = Register(4);
const RDI: Register = Register(5);
const RBP: Register = Register(6);
const RSP: Register = Register(7);
const R8: Register = Register(8);
const R9: Register = Register(9);
const R10: Register = Register(10);
const R11: Register = Register(11);
const R12: Register = Register(12);
const R13: Register = Register(13);
const R14: Register = Register(14);
const R15: Register = Register(15);

/// The 21 words with which both `pt_regs` and `user_regs_struct` begin, and what more there is.
macro_rules! entry_words {
    ($($more:expr),*) => {
        &[
            (R15, 0, 8),
            (R14, 8, 8),
            (R13, 16, 8),
            (R12, 24, 8),
            (RBP, 32, 8),
            (RBX, 40, 8),
            (R11, 48, 8),
            (R10, 56, 8),
            (R9, 64, 8),
            (R8, 72, 8),
            (RAX, 80, 8),
            (RCX, 88, 8),
            (RDX, 96, 8),
            (RSI, 104, 8),
            (RDI, 112, 8),
            (Register::SYSCALL, 120, 8),
            (Register::PC, 128, 8),
            (Register::CS, 136, 8),
            (Register::FLAGS, 144, 8),
            (RSP, 152, 8),
            (Register::SS, 160, 8),
            $($more),*
        ]
    };
}

/// x86_64 Linux.
pub static X86_64: Arch = Arch {
    name: "x86_64",
    machine: 62,
    registers: &[
        (Register::PC, "rip"),
        (RSP, "rsp"),
        (RBP, "rbp"),
        (RAX, "rax"),
        (RBX, "rbx"),
        (RCX, "rcx"),
        (RDX, "rdx"),
        (RSI, "rsi"),
        (RDI, "rdi"),
        (R8, "r8"),
        (R9, "r9"),
        (R10, "r10"),
        (R11, "r11"),
        (R12, "r12"),
        (R13, "r13"),
        (R14, "r14"),
        (R15, "r15"),
        (Register::FLAGS, "eflags"),
        (Register::CS, "cs"),
        (Register::SS, "ss"),
        (Register::THREAD, "fs_base"),
        (Register::GS_BASE, "gs_base"),
    ],
    // AMD64 supplement, figure 3.36.
    dwarf: &[
        (0, RAX),
        (1, RDX),
        (2, RCX),
        (3, RBX),
        (4, RSI),
        (5, RDI),
        (6, RBP),
        (7, RSP),
        (8, R8),
        (9, R9),
        (10, R10),
        (11, R11),
        (12, R12),
        (13, R13),
        (14, R14),
        (15, R15),
        (16, Register::PC),
        (49, Register::FLAGS),
        (58, Register::THREAD),
        (59, Register::GS_BASE),
    ],
    sp: RSP,
    fp: RBP,
    link: None,
    callee_saved: &[RBX, RBP, R12, R13, R14, R15, Register::THREAD, Register::GS_BASE, Register::CS, Register::SS],
    signed_bits: 0,
    // struct user_regs_struct, arch/x86/include/asm/user_64.h.
    core_registers: Layout { size: 216, fields: entry_words!((Register::THREAD, 168, 8), (Register::GS_BASE, 176, 8)) },
    // struct pt_regs: the same words, without the segment bases.
    entry_registers: Layout { size: 168, fields: entry_words!() },
    // struct rt_sigframe: pretcode, ucontext (304 bytes), siginfo. The return has popped pretcode.
    signal_frame: SignalFrameLayout {
        trampolines: &[
            // mov $15,%rax; syscall: glibc, musl, Go
            Trampoline { bytes: &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], syscall: 7 },
            // mov $15,%eax; syscall: hand-written and older restorers
            Trampoline { bytes: &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05], syscall: 5 },
        ],
        siginfo: 304,
        ucontext: 0,
        stack: 16,
        // struct _fpx_sw_bytes in _fpstate_64, arch/x86/include/uapi/asm/sigcontext.h.
        extended: Some(ExtendedState {
            pointer: 224,
            size: 512,
            sign: (464, 0x4650_5853),
            whole: 468,
            end: 0x4650_5845,
        }),
        // struct sigcontext_64 at offset 40 of ucontext; cs, gs, fs, ss are 16 bits each.
        registers: Layout {
            size: 304,
            fields: &[
                (R8, 40, 8),
                (R9, 48, 8),
                (R10, 56, 8),
                (R11, 64, 8),
                (R12, 72, 8),
                (R13, 80, 8),
                (R14, 88, 8),
                (R15, 96, 8),
                (RDI, 104, 8),
                (RSI, 112, 8),
                (RBP, 120, 8),
                (RBX, 128, 8),
                (RDX, 136, 8),
                (RAX, 144, 8),
                (RCX, 152, 8),
                (RSP, 160, 8),
                (Register::PC, 168, 8),
                (Register::FLAGS, 176, 8),
                (Register::CS, 184, 2),
                (Register::SS, 190, 2),
            ],
        },
        fault_address: 216,
        error_code: 192,
    },
    // syscall; int $0x80; sysenter
    system_call: SystemCall { instructions: &[&[0x0f, 0x05], &[0xcd, 0x80], &[0x0f, 0x34]], result: RAX },
    // glibc's __start_context: mov %rbx,%rsp; mov (%rsp),%rdi; test %rdi,%rdi
    context_entries: &[&[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff]],
    ends_with_call,
    prologue: &[
        // push %rbp ▸ mov %rsp,%rbp (both encodings)
        Prologue { before: &[0x55], after: &[0x48, 0x89, 0xe5], return_slot: 8, saved_fp: Some(0) },
        Prologue { before: &[0x55], after: &[0x48, 0x8b, 0xec], return_slot: 8, saved_fp: Some(0) },
        // pop %rbp; ret
        Prologue { before: &[], after: &[0x5d, 0xc3], return_slot: 8, saved_fp: Some(0) },
        // ret; ret $n; rep ret
        Prologue { before: &[], after: &[0xc3], return_slot: 0, saved_fp: None },
        Prologue { before: &[], after: &[0xc2], return_slot: 0, saved_fp: None },
        Prologue { before: &[], after: &[0xf3, 0xc3], return_slot: 0, saved_fp: None },
        // jmp *slot(%rip), as a stub for an import begins: linkers other than GNU's describe it in no row
        Prologue { before: &[], after: &[0xff, 0x25], return_slot: 0, saved_fp: None },
        Prologue { before: &[], after: &[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25], return_slot: 0, saved_fp: None },
        // endbr64; push %rbp
        Prologue { before: &[], after: &[0x55, 0x48, 0x89, 0xe5], return_slot: 0, saved_fp: None },
        Prologue { before: &[], after: &[0xf3, 0x0f, 0x1e, 0xfa, 0x55], return_slot: 0, saved_fp: None },
    ],
};

/// Whether the bytes end with `call rel32` or one of the forms of `call r/m64`.
///
/// Cannot be exact: operand bytes may look like a call. It can only say "no" for sure.
fn ends_with_call(bytes: &[u8]) -> bool {
    let from_end = |back: usize| bytes.len().checked_sub(back).and_then(|at| bytes.get(at)).copied();
    // A call of the next instruction is how old code reads its own pc; nobody returns to behind it.
    if from_end(5) == Some(0xe8) && !bytes.ends_with(&[0; 4]) {
        return true;
    }
    // ff /2 with its ModRM, SIB and displacement, 2 to 7 bytes long; prefixes come before and do not matter.
    (2..=7).any(|length| {
        from_end(length) == Some(0xff)
            && from_end(length - 1).is_some_and(|modrm| {
                modrm & 0x38 == 0x10 && operand_length(modrm, || from_end(length.checked_sub(2)?)) == Some(length - 1)
            })
    })
}

/// Bytes of ModRM, SIB and displacement.
fn operand_length(modrm: u8, sib: impl Fn() -> Option<u8>) -> Option<usize> {
    let mode = modrm >> 6;
    let has_sib = mode != 3 && modrm & 7 == 4;
    let displacement = match mode {
        0 if modrm & 7 == 5 => 4,
        0 if has_sib && sib()? & 7 == 5 => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some(1 + usize::from(has_sib) + displacement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_call_is_recognised_before_a_return_address() {
        let calls: &[&[u8]] = &[
            &[0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd4],
            &[0xff, 0x10],
            &[0xff, 0x50, 0x08],
            &[0xff, 0x14, 0xc2],
            &[0xff, 0x54, 0x24, 0x08],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x90, 1, 2, 3, 4],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
            &[0x41, 0xff, 0x14, 0xdd, 1, 2, 3, 4],
        ];
        for call in calls {
            assert!(ends_with_call(call), "{call:x?}");
        }
    }

    #[test]
    fn code_that_is_not_a_call_is_refused() {
        // jmp *%rax; push (%rax); jmp rel32; call with one byte missing; nothing; call of the next instruction
        let others: &[&[u8]] =
            &[&[0xe8, 0, 0, 0, 0], &[0xff, 0xe0], &[0xff, 0x30], &[0xe9, 1, 2, 3, 4], &[0xff, 0x15, 1, 2, 3], &[]];
        for other in others {
            assert!(!ends_with_call(other), "{other:x?}");
        }
    }
}
