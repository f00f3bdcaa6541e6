//! Recognises what stands under a signal handler, and the foot of a `makecontext` stack, by their bytes.
//!
//! A handler returns into a trampoline that calls `rt_sigreturn`; at that moment the stack pointer leads to the
//! `ucontext_t` the kernel saved, which holds every register of what was interrupted:
//!
//! ```text
//!   high │ siginfo_t               │            aarch64: │ ucontext_t  pc, sp, x0… │
//!        │ ucontext_t  rip, rsp, … │                     │ siginfo_t               │ ◄ sp
//!        ├─────────────────────────┤ ◄ sp in the trampoline
//!        │ address of trampoline   │   return address of the handler (x86_64)
//!   low  │ frames of the handler   │
//! ```
//!
//! Works with any restorer of the known forms (glibc, musl, Go, the vDSO, hand-written), with or without unwind
//! information. What it cannot do: recognise a trampoline whose text is not in the target's memory.
#![no_std]
#![forbid(unsafe_code)]

use surestack_walk::{
    Arch, Code, CodeAddress, Error, FoundBy, Link, Memory, Register, Regs, Root, SignalSign, Stack, StackKind, Step,
    Target, Unwinder, Why,
};

/// Steps from a sigreturn trampoline to what the signal interrupted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalFrame;

impl Unwinder for SignalFrame {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(pc) = callee.pc() else {
            return Ok(Step::NotMine(Why::NoPc));
        };
        match underfoot(target, pc) {
            None => return Ok(Step::NotMine(Why::NotTrampoline)),
            Some(Underfoot::ContextEntry) => return Ok(Step::End(Root::ContextEntry)),
            Some(Underfoot::Trampoline) => {}
        }
        let frame = SavedContext::at(target.arch, callee.need(target.arch.sp)?)?;
        target.arch.signal_frame.registers.decode(target.memory, frame.ucontext, caller)?;
        if !plausible(caller) {
            return Err(Error::ForgedSignalFrame { address: frame.ucontext });
        }
        // Not saved there, and no handler changes them.
        for register in [Register::THREAD, Register::GS_BASE] {
            caller.inherit(register, callee);
        }
        Ok(Step::Caller {
            cfa: frame.ucontext,
            return_slot: caller.place(Register::PC),
            link: Link::Signal,
            found_by: FoundBy::SignalFrame(SignalSign::Bytes),
        })
    }
}

/// Code that is known by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underfoot {
    /// A sigreturn trampoline.
    Trampoline,
    /// What the first function of a `makecontext` stack returns to.
    ContextEntry,
}

/// What of that is at `pc`, if anything.
pub fn underfoot(target: &Target<'_>, pc: CodeAddress) -> Option<Underfoot> {
    let here = Code::at(target.memory, pc.value());
    if here.is_empty() {
        return None;
    }
    if !pc.is_exact() && here.starts_with_any(target.arch.context_entries.iter().copied()) {
        return Some(Underfoot::ContextEntry);
    }
    in_trampoline(target.arch, target.memory, pc, &here).then_some(Underfoot::Trampoline)
}

/// Whether `pc` is in a sigreturn trampoline: at its first byte, or at its system call.
fn in_trampoline(arch: &Arch, memory: &dyn Memory, pc: CodeAddress, here: &Code) -> bool {
    arch.signal_frame.trampolines.iter().any(|trampoline| {
        let (before, rest) = trampoline.bytes.split_at_checked(usize::from(trampoline.syscall)).unwrap_or_default();
        let started = || Code::at(memory, pc.value().wrapping_sub(u64::from(trampoline.syscall)));
        here.starts_with(trampoline.bytes)
            || pc.is_exact() && !rest.is_empty() && here.starts_with(rest) && started().starts_with(before)
    })
}

/// Whether the kernel can have saved these for user space: x86 selectors of ring 3, or an architecture without them.
fn plausible(regs: &Regs) -> bool {
    regs.get(Register::CS).is_none_or(|cs| cs & 3 == 3)
        && regs.get(Register::SS).is_none_or(|ss| ss == 0 || ss & 3 == 3)
}

/// What the kernel saved when it delivered a signal.
#[derive(Clone, Copy, Debug)]
pub struct SavedContext {
    /// Address of the `ucontext_t`.
    pub ucontext: u64,
    /// Address of the `siginfo_t`.
    pub siginfo: u64,
}

/// What a signal frame says about the signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// `si_signo`.
    pub number: i32,
    /// `si_code`.
    pub code: i32,
    /// The word after the header of `siginfo_t`: the fault address, or sender's pid and uid.
    pub detail: u64,
    /// The fault address of the machine context (x86 cr2), where there is one.
    pub fault_address: u64,
    /// The hardware's error code (x86), where there is one.
    pub error_code: u64,
}

impl SavedContext {
    /// The context under a trampoline whose frame has stack pointer `sp`.
    ///
    /// # Errors
    /// [`Error::Overflow`] when it would leave the address space.
    pub fn at(arch: &Arch, sp: u64) -> Result<Self, Error> {
        let layout = &arch.signal_frame;
        let above = |offset: u16| sp.checked_add(u64::from(offset)).ok_or(Error::Overflow { address: sp });
        Ok(Self { ucontext: above(layout.ucontext)?, siginfo: above(layout.siginfo)? })
    }

    /// The context whose `ucontext_t` is at `address`: the `callee_cfa` of a frame found by a trampoline's bytes.
    ///
    /// # Errors
    /// [`Error::Overflow`] when no stack pointer can lead to it.
    pub fn of_ucontext(arch: &Arch, address: u64) -> Result<Self, Error> {
        let below = address.checked_sub(u64::from(arch.signal_frame.ucontext));
        Self::at(arch, below.ok_or(Error::Overflow { address })?)
    }

    /// Which signal was delivered.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the target does not hold the `siginfo_t`.
    pub fn signal(&self, arch: &Arch, memory: &dyn Memory) -> Result<Signal, Error> {
        let layout = &arch.signal_frame;
        // struct siginfo: si_signo, si_errno, si_code, padding, then a union whose first word matters here.
        let number = memory.value(self.siginfo, 4)?;
        let code = memory.value(self.siginfo.wrapping_add(8), 4)?;
        let machine = |offset: u16| match offset {
            0 => Ok(0),
            offset => memory.word(self.ucontext.wrapping_add(u64::from(offset))),
        };
        Ok(Signal {
            number: low_half(number),
            code: low_half(code),
            detail: memory.word(self.siginfo.wrapping_add(16))?,
            fault_address: machine(layout.fault_address)?,
            error_code: machine(layout.error_code)?,
        })
    }

    /// The alternate stack that was in force, `None` when there was none.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the target does not hold the `ucontext_t`.
    pub fn alternate_stack(&self, arch: &Arch, memory: &dyn Memory) -> Result<Option<Stack>, Error> {
        // stack_t: ss_sp, ss_flags (SS_DISABLE is 2), ss_size.
        let at = self.ucontext.wrapping_add(u64::from(arch.signal_frame.stack));
        let low = memory.word(at)?;
        let disabled = memory.value(at.wrapping_add(8), 4)? & 2 != 0;
        let size = memory.word(at.wrapping_add(16))?;
        let stack = |high| Stack { low, high, kind: StackKind::Other };
        Ok(if disabled || size == 0 { None } else { low.checked_add(size).map(stack) })
    }
}

/// The low 32 bits, as the signed number that they are.
fn low_half(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
