//! What a signal interrupted: registers and reason, from what the kernel passed to the handler.

use crate::memory::{OwnMemory, Range};
use crate::syscall;
use surestack_signal_frame::{SavedContext, Signal};
use surestack_walk::{Arch, CodeAddress, Error, Memory, Register, Regs, Stop};

/// The architecture this was compiled for.
#[cfg(target_arch = "x86_64")]
pub static ARCH: &Arch = &surestack_walk::X86_64;
/// The architecture this was compiled for.
#[cfg(target_arch = "aarch64")]
pub static ARCH: &Arch = &surestack_walk::AARCH64;

/// Bytes of a `siginfo_t`.
pub const SIGINFO: usize = 128;

/// What the kernel passed to a handler that asked for it (`SA_SIGINFO`).
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// Address of the `ucontext_t`.
    pub ucontext: usize,
    /// Address of the `siginfo_t`.
    pub siginfo: usize,
}

impl Interrupted {
    /// The interrupted registers, each with the place where it is saved.
    ///
    /// # Errors
    /// Where the addresses leave the address space.
    ///
    /// # Safety
    /// These are what the kernel passed to a handler that has not returned yet.
    pub unsafe fn registers(&self) -> Result<Regs, Error> {
        let mut regs = Regs::new();
        let known = [range(self.ucontext, ARCH.signal_frame.registers.size)?];
        // SAFETY: the caller promises that the structure is there.
        let memory = unsafe { OwnMemory::new(&known) };
        ARCH.signal_frame.registers.decode(&memory, known[0].low, &mut regs)?;
        if let Some(pc) = regs.get(Register::PC) {
            regs.set_pc(CodeAddress::Exact(pc));
        }
        if let Ok(base) = syscall::thread_base() {
            regs.set(Register::THREAD, base);
        }
        Ok(regs)
    }

    /// The interrupted pc, stack pointer and frame pointer alone.
    ///
    /// # Errors
    /// Where the addresses leave the address space.
    ///
    /// # Safety
    /// As for [`Interrupted::registers`].
    pub unsafe fn first(&self) -> Result<[u64; 3], Error> {
        let known = [range(self.ucontext, ARCH.signal_frame.registers.size)?];
        // SAFETY: the caller promises that the structure is there.
        let memory = unsafe { OwnMemory::new(&known) };
        let mut first = [0; 3];
        for (place, wanted) in first.iter_mut().zip([Register::PC, ARCH.sp, ARCH.fp]) {
            let field = ARCH.signal_frame.registers.fields.iter().find(|(register, ..)| *register == wanted);
            let &(_, offset, width) = field.ok_or(Error::UnknownRegister { register: wanted })?;
            *place = memory.value(known[0].low.wrapping_add(u64::from(offset)), width)?;
        }
        Ok(first)
    }

    /// Which signal it was, and why.
    ///
    /// # Errors
    /// Where the addresses leave the address space.
    ///
    /// # Safety
    /// As for [`Interrupted::registers`].
    pub unsafe fn signal(&self) -> Result<Signal, Error> {
        let known = [range(self.ucontext, ARCH.signal_frame.registers.size)?, range(self.siginfo, SIGINFO as u64)?];
        // SAFETY: the caller promises that the structures are there.
        let memory = unsafe { OwnMemory::new(&known) };
        SavedContext { ucontext: known[0].low, siginfo: known[1].low }.signal(ARCH, &memory)
    }

    /// The bytes of the `siginfo_t`.
    ///
    /// # Safety
    /// As for [`Interrupted::registers`].
    pub unsafe fn information(&self) -> [u8; SIGINFO] {
        // SAFETY: the caller promises that it is there; bytes need no alignment.
        unsafe { core::ptr::with_exposed_provenance::<[u8; SIGINFO]>(self.siginfo).read() }
    }
}

/// Why a thread that took this signal is not running.
pub fn stop(signal: &Signal) -> Stop {
    Stop { signal: signal.number, code: signal.code }
}

fn range(at: usize, size: u64) -> Result<Range, Error> {
    let low = u64::try_from(at).map_err(|_| Error::Overflow { address: 0 })?;
    let high = low.checked_add(size).ok_or(Error::Overflow { address: low })?;
    Ok(Range { low, high })
}
