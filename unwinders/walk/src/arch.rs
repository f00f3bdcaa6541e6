//! An architecture is a value.
//!
//! To add one: write a file beside `arch/x86_64.rs`, fill in an [`Arch`], and export it. Every field says which document
//! it comes from. Nothing else in the project names an architecture, except where code for it runs.

mod aarch64;
mod x86_64;

use crate::{Layout, Register};

pub use aarch64::AARCH64;
pub use x86_64::X86_64;

/// What differs between machines as far as stacks are concerned. All of them are 64-bit and little-endian so far.
#[derive(Debug)]
pub struct Arch {
    /// As `uname -m` says it.
    pub name: &'static str,
    /// `e_machine` of its ELF files.
    pub machine: u16,
    /// General registers with their names, in the order in which a report prints them.
    pub registers: &'static [(Register, &'static str)],
    /// DWARF numbers of the registers, by the ABI's DWARF mapping.
    pub dwarf: &'static [(u16, Register)],
    /// The stack pointer.
    pub sp: Register,
    /// The frame pointer of the ABI's frame records.
    pub fp: Register,
    /// The link register, where calls leave the return address in a register.
    pub link: Option<Register>,
    /// Registers that a function must hand back unchanged, the stack pointer excepted.
    pub callee_saved: &'static [Register],
    /// Bits of a code address that may hold a pointer-authentication signature.
    pub signed_bits: u64,
    /// The general register set of core notes and ptrace (`NT_PRSTATUS`).
    pub core_registers: Layout,
    /// The block that entry code saves (`pt_regs`), for marker frames.
    pub entry_registers: Layout,
    /// What the kernel pushes for a signal handler.
    pub signal_frame: SignalFrameLayout,
    /// How code calls the kernel.
    pub system_call: SystemCall,
    /// The bytes of `__start_context`, to which the first function of a `makecontext` stack returns.
    pub context_entries: &'static [&'static [u8]],
    /// Whether a call ends at the end of these bytes (up to eight of them).
    pub ends_with_call: fn(&[u8]) -> bool,
    /// How an interrupted function is told to have its return address at the stack pointer, see [`Prologue`].
    pub prologue: &'static [Prologue],
}

/// How code calls the kernel.
#[derive(Debug)]
pub struct SystemCall {
    /// The instructions that do, all of one length.
    pub instructions: &'static [&'static [u8]],
    /// Where the kernel leaves the result.
    pub result: Register,
}

/// A place in a frame-pointer prologue or epilogue where the frame record is not in force, by the code around it.
#[derive(Debug)]
pub struct Prologue {
    /// Bytes before the pc.
    pub before: &'static [u8],
    /// Bytes from the pc on.
    pub after: &'static [u8],
    /// Offset from the stack pointer at which the return address lies.
    pub return_slot: u8,
    /// Offset from the stack pointer at which the caller's frame pointer lies; none while it is still in the register.
    pub saved_fp: Option<u8>,
}

/// Where things lie on the stack while a signal handler's trampoline is about to return.
#[derive(Debug)]
pub struct SignalFrameLayout {
    /// The code that `rt_sigreturn`s, from its first byte.
    pub trampolines: &'static [Trampoline],
    /// Offset of `siginfo_t` from the stack pointer.
    pub siginfo: u16,
    /// Offset of `ucontext_t` from the stack pointer.
    pub ucontext: u16,
    /// Offset of `uc_stack` in the `ucontext_t`.
    pub stack: u16,
    /// The registers in the `ucontext_t`.
    pub registers: Layout,
    /// Offset in the `ucontext_t` of the word with the fault address, 0 when there is none.
    pub fault_address: u16,
    /// Offset in the `ucontext_t` of the hardware error code, 0 when there is none.
    pub error_code: u16,
    /// The vector registers, where they lie apart and are signed.
    pub extended: Option<ExtendedState>,
}

/// The block of vector registers that a `ucontext_t` points at. Offsets count from the block, the pointer's from the
/// `ucontext_t`.
#[derive(Debug)]
pub struct ExtendedState {
    /// Offset of the pointer; it is null where the processor saved none.
    pub pointer: u16,
    /// Size of the part that is always there.
    pub size: u16,
    /// Offset of the word that says whether there is more, and what it then holds.
    pub sign: (u16, u32),
    /// Offset of the size of all of it, the closing sign included.
    pub whole: u16,
    /// What the last four bytes then hold.
    pub end: u32,
}

/// The bytes of a trampoline.
#[derive(Debug)]
pub struct Trampoline {
    /// The code.
    pub bytes: &'static [u8],
    /// Offset of its system call instruction.
    pub syscall: u8,
}

impl Arch {
    /// The architecture of ELF files with this `e_machine`.
    pub fn of_machine(machine: u16) -> Option<&'static Self> {
        [&X86_64, &AARCH64].into_iter().find(|arch| arch.machine == machine)
    }

    /// The register that DWARF calls `number`; none for those not tracked (vector registers).
    #[inline]
    pub fn register(&self, number: u16) -> Option<Register> {
        // The first numbers are in their places.
        let place = self.dwarf.get(usize::from(number)).filter(|(dwarf, _)| *dwarf == number);
        let &(_, register) = place.or_else(|| self.dwarf.iter().find(|(dwarf, _)| *dwarf == number))?;
        Some(register)
    }

    /// The name of a register, as the ABI writes it.
    pub fn register_name(&self, register: Register) -> Option<&'static str> {
        self.registers.iter().find(|(named, _)| *named == register).map(|&(_, name)| name)
    }

    /// A code address without its signature. Leaves addresses of the upper half, the kernel's, canonical.
    pub const fn strip(&self, address: u64, more: u64) -> u64 {
        let bits = self.signed_bits | more;
        if address & (1 << 55) != 0 && bits != 0 { address | bits } else { address & !bits }
    }
}
