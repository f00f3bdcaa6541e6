//! aarch64: AAPCS64, DWARF for the Arm 64-bit architecture (2023Q3), Linux `arch/arm64`.

use super::{Arch, SignalFrameLayout, SystemCall, Trampoline};
use crate::{Layout, Register};

const fn x(number: u8) -> Register {
    Register(number)
}

const SP: Register = Register(31);

/// Declares the 31 general registers of a block that begins with them at `$base`.
macro_rules! general_registers {
    ($base:expr; $($number:literal)*; $($more:expr),*) => {
        &[$((x($number), $base + 8 * $number, 8),)* $($more),*]
    };
}

macro_rules! layout {
    ($base:expr; $($more:expr),*) => {
        general_registers!($base; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; $($more),*)
    };
}

/// aarch64 Linux.
pub static AARCH64: Arch = Arch {
    name: "aarch64",
    machine: 183,
    registers: &[
        (Register::PC, "pc"),
        (SP, "sp"),
        (x(29), "x29"),
        (x(30), "x30"),
        (x(0), "x0"),
        (x(1), "x1"),
        (x(2), "x2"),
        (x(3), "x3"),
        (x(4), "x4"),
        (x(5), "x5"),
        (x(6), "x6"),
        (x(7), "x7"),
        (x(8), "x8"),
        (x(9), "x9"),
        (x(10), "x10"),
        (x(11), "x11"),
        (x(12), "x12"),
        (x(13), "x13"),
        (x(14), "x14"),
        (x(15), "x15"),
        (x(16), "x16"),
        (x(17), "x17"),
        (x(18), "x18"),
        (x(19), "x19"),
        (x(20), "x20"),
        (x(21), "x21"),
        (x(22), "x22"),
        (x(23), "x23"),
        (x(24), "x24"),
        (x(25), "x25"),
        (x(26), "x26"),
        (x(27), "x27"),
        (x(28), "x28"),
        (Register::FLAGS, "pstate"),
    ],
    dwarf: &[
        (0, x(0)),
        (1, x(1)),
        (2, x(2)),
        (3, x(3)),
        (4, x(4)),
        (5, x(5)),
        (6, x(6)),
        (7, x(7)),
        (8, x(8)),
        (9, x(9)),
        (10, x(10)),
        (11, x(11)),
        (12, x(12)),
        (13, x(13)),
        (14, x(14)),
        (15, x(15)),
        (16, x(16)),
        (17, x(17)),
        (18, x(18)),
        (19, x(19)),
        (20, x(20)),
        (21, x(21)),
        (22, x(22)),
        (23, x(23)),
        (24, x(24)),
        (25, x(25)),
        (26, x(26)),
        (27, x(27)),
        (28, x(28)),
        (29, x(29)),
        (30, x(30)),
        (31, SP),
        (32, Register::PC),
        (34, Register::RA_SIGN_STATE),
    ],
    sp: SP,
    fp: x(29),
    link: Some(x(30)),
    callee_saved: &[x(19), x(20), x(21), x(22), x(23), x(24), x(25), x(26), x(27), x(28), x(29)],
    // 48-bit user addresses, bit 55 selects the half: Documentation/arch/arm64/pointer-authentication.rst
    signed_bits: 0xff7f_0000_0000_0000,
    // struct user_pt_regs
    core_registers: Layout {
        size: 272,
        fields: layout!(0; (SP, 248, 8), (Register::PC, 256, 8), (Register::FLAGS, 264, 8)),
    },
    // struct pt_regs begins with the same words; what follows are no registers.
    entry_registers: Layout {
        size: 272,
        fields: layout!(0; (SP, 248, 8), (Register::PC, 256, 8), (Register::FLAGS, 264, 8)),
    },
    // struct rt_sigframe: siginfo (128 bytes), ucontext; sigcontext at offset 176 of ucontext.
    signal_frame: SignalFrameLayout {
        // mov x8,#139; svc #0: the vDSO's __kernel_rt_sigreturn, glibc's and musl's restorers
        trampolines: &[Trampoline { bytes: &[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4], syscall: 4 }],
        siginfo: 0,
        ucontext: 128,
        stack: 16,
        // They lie inside, in records of their own.
        extended: None,
        registers: Layout {
            size: 456,
            fields: layout!(184; (SP, 432, 8), (Register::PC, 440, 8), (Register::FLAGS, 448, 8)),
        },
        fault_address: 176,
        error_code: 0,
    },
    // svc #0
    system_call: SystemCall { instructions: &[&[0x01, 0, 0, 0xd4]], result: x(0) },
    context_entries: &[],
    ends_with_call,
    // Before its frame record is written a function has its return address in x30, which only unwind information tells.
    prologue: &[],
};

/// Whether the bytes end with BL, BLR or one of BLRAA and its kin.
fn ends_with_call(bytes: &[u8]) -> bool {
    let Some(word) = bytes.last_chunk::<4>().map(|word| u32::from_le_bytes(*word)) else {
        return false;
    };
    let bl = word & 0xfc00_0000 == 0x9400_0000;
    let blr = word & 0xffff_fc1f == 0xd63f_0000;
    let blra = word & 0xfeff_f000 == 0xd63f_0000 && word & 0x0000_0800 != 0;
    bl || blr || blra
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bl_and_blr_are_calls_and_a_branch_is_not() {
        assert!(ends_with_call(&0x9400_0010_u32.to_le_bytes()));
        assert!(ends_with_call(&0xd63f_0100_u32.to_le_bytes())); // blr x8
        assert!(ends_with_call(&0xd63f_0908_u32.to_le_bytes()[..]) || ends_with_call(&0xd73f_0908_u32.to_le_bytes())); // blraa x8,x8
        assert!(!ends_with_call(&0x1400_0010_u32.to_le_bytes())); // b
        assert!(!ends_with_call(&0xd61f_0100_u32.to_le_bytes())); // br x8
        assert!(!ends_with_call(&[0, 0, 0x94]));
    }

    #[test]
    fn a_signed_return_address_is_stripped_and_a_kernel_address_stays_canonical() {
        assert_eq!(AARCH64.strip(0x004a_0055_0287_4000, 0), 0x0000_0055_0287_4000);
        assert_eq!(AARCH64.strip(0x0061_0055_028b_7780, 0), 0x0000_0055_028b_7780);
        assert_eq!(AARCH64.strip(0xff7f_8000_1000_0000 | (1 << 55), 0), 0xffff_8000_1000_0000);
    }
}
