//! What happened, in one sentence: from the signal, the registers, the faulting instruction and the mappings.

use super::signals::*;
use crate::snapshot::{Mapped, SignalInfo, Snapshot, Thread};
use instruction::{Access, Operand};
use std::fmt::Write;
use surestack_walk::CodeAddress;

mod instruction;

/// Addresses below this are null pointers with an offset: nothing is ever mapped there (`vm.mmap_min_addr`).
const NULL: u64 = 0x1_0000;
/// How far from the stack pointer an access still is one to the stack: a large frame, probed from its far end.
const NEAR_STACK: u64 = 1 << 20;

const SEGV_ACCERR: i32 = 2;

/// A thread that took a signal, and everything a sentence about it is made of.
struct Scene<'s> {
    snapshot: &'s Snapshot,
    thread: &'s Thread,
    signal: SignalInfo,
    name: &'s dyn Fn(CodeAddress) -> Option<String>,
}

/// What happened to the process of a core whose first thread is `thread`.
pub fn end(snapshot: &Snapshot, thread: &Thread, name: &dyn Fn(CodeAddress) -> Option<String>) -> String {
    match thread.signal.or_else(|| bare_signal(thread)) {
        Some(signal) if !ends(signal.number) => {
            format!("no crash: the core was taken of a living process, with {}", signal_name(signal.number))
        }
        _ => what(snapshot, thread, name),
    }
}

/// What happened to `thread`: "SIGSEGV: read of null pointer + 0x18 through rax in gamma_fn". `name` names a function.
pub fn what(snapshot: &Snapshot, thread: &Thread, name: &dyn Fn(CodeAddress) -> Option<String>) -> String {
    let Some(signal) = thread.signal.or_else(|| bare_signal(thread)) else {
        return "no signal: the threads were stopped where they were".to_owned();
    };
    let scene = Scene { snapshot, thread, signal, name };
    let signal_name = signal_name(signal.number);
    match scene.sender() {
        Some(sender) => format!("{signal_name} {sender}"),
        None => format!("{signal_name}: {}", scene.cause()),
    }
}

/// A signal that was delivered to `function`, in short: "SIGSEGV (SEGV_MAPERR) at 0x18 in gamma_fn".
pub fn delivered(signal: SignalInfo, function: Option<&str>) -> String {
    let mut text = signal_name(signal.number);
    if let Some(code) = code_name(signal.number, signal.code) {
        let _ = write!(text, " ({code})");
    }
    if let Some(address) = signal.address {
        let _ = write!(text, " at {address:#x}");
    }
    if let Some((pid, uid)) = signal.sender {
        let _ = write!(text, " sent by pid {pid} (uid {uid})");
    }
    if let Some(function) = function {
        let _ = write!(text, " in {function}");
    }
    text
}

/// Whether a signal that the thread had ends a process.
pub fn is_crash(thread: &Thread) -> bool {
    thread.signal.or_else(|| bare_signal(thread)).is_some_and(|signal| ends(signal.number))
}

/// A core without NT_SIGINFO still has the number.
fn bare_signal(thread: &Thread) -> Option<SignalInfo> {
    let stop = thread.stop;
    (stop.signal != 0).then(|| SignalInfo { number: stop.signal, code: stop.code, ..SignalInfo::default() })
}

impl Scene<'_> {
    /// Who sent the signal, when it was not the kernel because of a fault.
    fn sender(&self) -> Option<String> {
        let (pid, uid) = match self.signal.sender {
            Some(sender) if self.signal.code <= 0 => sender,
            None if self.signal.code < 0 => return Some("sent by a process".to_owned()),
            _ => return None,
        };
        if self.snapshot.process.pid != Some(pid) {
            let thread = self.in_function().replacen(" in ", "; the thread was in ", 1);
            return Some(format!("sent by pid {pid} (uid {uid}){thread}"));
        }
        let how = if self.signal.number == SIGABRT { " (abort)" } else { "" };
        Some(format!("raised by the process itself{how}"))
    }

    fn cause(&self) -> String {
        match self.signal.number {
            SIGSEGV | SIGBUS => self.memory_fault(),
            SIGFPE => self.arithmetic(),
            SIGILL => self.illegal(),
            SIGTRAP => format!("{}{}", self.trap(), self.in_function()),
            SIGSYS => self.system_call(),
            SIGABRT => format!("aborted{}", self.in_function()),
            _ => format!("the process was ended by it{}", self.in_function()),
        }
    }

    fn memory_fault(&self) -> String {
        let Some(pc) = self.pc() else { return "the pc is not known".to_owned() };
        let operand = self.operand();
        if self.signal.number == SIGSEGV && self.signal.code == SI_KERNEL {
            return self.unaddressed(operand.as_ref());
        }
        let Some(address) = self.signal.address else {
            return format!("a memory fault whose address is not known{}", self.in_function());
        };
        if address == pc {
            return self.execution(pc);
        }
        let access = self.access(operand.as_ref());
        if let Some(stack) = self.overflowed(address) {
            return format!("stack overflow{} ({access}{stack} of thread {})", self.in_function(), self.thread.id);
        }
        let place = self.place(address, operand.as_ref());
        let through = self.through(address, operand.as_ref());
        format!("{access}{place}{through}{}", self.in_function())
    }

    /// A fault without an address: the processor refuses addresses that are not canonical before it looks them up.
    fn unaddressed(&self, operand: Option<&Operand>) -> String {
        const SILENT: &str = "(the kernel reports no address for these)";
        const RET: u8 = 0xc3;
        let function = self.in_function();
        if self.is_x86()
            && self.code().first() == Some(&RET)
            && let Some(to) = self.sp().and_then(|sp| self.snapshot.memory.word(sp).ok())
        {
            return format!("return to non-canonical address {to:#018x}{function} {SILENT}");
        }
        let Some(operand) = operand.filter(|operand| !is_canonical(operand.address)) else {
            return format!("general protection fault{function} {SILENT}");
        };
        let access = self.access(Some(operand));
        let culprit = operand.registers.iter().find(|(_, value)| !is_canonical(*value));
        let through = culprit.map(|(name, _)| format!(" through {name}")).unwrap_or_default();
        format!("{access}non-canonical address {:#018x}{through}{function} {SILENT}", operand.address)
    }

    /// The pc itself cannot be executed.
    fn execution(&self, pc: u64) -> String {
        let caller = self.caller().map(|name| format!(" in {name}")).unwrap_or_default();
        let verb = if caller.is_empty() { "jump" } else { "call" };
        if pc < NULL {
            let offset = if pc == 0 { String::new() } else { format!(" + {pc:#x}") };
            return format!("{verb} through null pointer{offset}{caller}");
        }
        match self.snapshot.space.mapped(pc) {
            Some(mapped) => {
                format!("execution of non-executable memory at {pc:#x}{}{caller}", self.kind_of(mapped, pc))
            }
            None if !is_canonical(pc) => format!("{verb} to non-canonical address {pc:#x}{caller}"),
            None => format!("{verb} to unmapped address {pc:#x}{caller}"),
        }
    }

    /// What is wrong with an address that was read or written.
    fn place(&self, address: u64, operand: Option<&Operand>) -> String {
        if self.signal.number == SIGBUS {
            return match self.signal.code {
                1 => format!("misaligned address {address:#x}"),
                2 => format!("address {address:#x} beyond the end of its file{}", self.file_at(address)),
                3 => format!("address {address:#x}, which the hardware could not deliver"),
                4 | 5 => format!("address {address:#x} in memory that the hardware reports broken"),
                _ => format!("address {address:#x}"),
            };
        }
        if address < NULL {
            return if address == 0 { "null pointer".to_owned() } else { format!("null pointer + {address:#x}") };
        }
        match self.snapshot.space.mapped(address) {
            Some(mapped) if self.signal.code == SEGV_ACCERR => {
                let writes = operand.is_some_and(|operand| operand.access == Access::Write);
                let what = match (mapped.writable, writes) {
                    (Some(false), true) if mapped.file.is_some() || mapped.executable == Some(true) => {
                        "read-only memory"
                    }
                    _ => "protected memory",
                };
                format!("{what} at {address:#x}{}", self.kind_of(mapped, address))
            }
            _ if self.signal.code == 3 => format!("address {address:#x} outside of its bounds"),
            _ if self.signal.code == 4 => format!("address {address:#x}, which a protection key forbids"),
            _ => format!("unmapped address {address:#x}"),
        }
    }

    /// Whether the access fell off the low end of the thread's stack. The guard page, or what lies unmapped below the
    /// main thread's stack, is then beside the stack pointer, and above it lies writable memory.
    fn overflowed(&self, address: u64) -> Option<&'static str> {
        let sp = self.sp()?;
        if address.abs_diff(sp) > NEAR_STACK {
            return None;
        }
        let mappings = &self.snapshot.space.mappings;
        let accessible = |mapped: &Mapped| mapped.writable == Some(true);
        let hit = self.snapshot.space.mapped(address);
        if hit.is_some_and(accessible) {
            return None;
        }
        let above = mappings.iter().find(|mapped| mapped.start > address).filter(|mapped| accessible(mapped))?;
        let on_it = sp >= address.saturating_sub(NEAR_STACK) && sp < above.end && above.file.is_none();
        if !on_it || above.start.abs_diff(address) > NEAR_STACK {
            return None;
        }
        Some(if hit.is_some() { "the guard page below the stack" } else { "memory below the end of the stack" })
    }

    fn access(&self, operand: Option<&Operand>) -> &'static str {
        match operand.map(|operand| operand.access) {
            Some(Access::Read) => "read of ",
            Some(Access::Write) => "write to ",
            Some(Access::Call) => "call through ",
            None => "access to ",
        }
    }

    /// The register that led there: the base when its value is in the neighbourhood of the address.
    fn through(&self, address: u64, operand: Option<&Operand>) -> String {
        let Some(operand) = operand else { return String::new() };
        let near = |value: u64| value.abs_diff(address) <= NEAR_STACK;
        let register = operand
            .registers
            .iter()
            .filter(|(name, _)| !matches!(*name, "rip" | "rsp"))
            .find(|(_, value)| near(*value));
        register.map(|(name, _)| format!(" through {name}")).unwrap_or_default()
    }

    fn arithmetic(&self) -> String {
        let what = match self.signal.code {
            1 if self.divisor() == Some(0) => "integer division by zero",
            1 if self.divisor().is_some() => "integer division whose quotient does not fit",
            1 => "integer division by zero or overflow",
            2 => "integer overflow",
            3 => "floating-point division by zero",
            4 => "floating-point overflow",
            5 => "floating-point underflow",
            6 => "inexact floating-point result",
            7 => "invalid floating-point operation",
            8 => "subscript out of range",
            _ => "arithmetic fault",
        };
        format!("{what}{}", self.in_function())
    }

    fn illegal(&self) -> String {
        let code = self.code();
        let what = match code.get(..2) {
            Some([0x0f, 0x0b]) if self.is_x86() => {
                "trap instruction ud2 (the compiler's mark for what must not be reached)"
            }
            _ => "illegal instruction",
        };
        format!("{what}{}", self.in_function())
    }

    fn trap(&self) -> &'static str {
        match self.signal.code {
            2 => "single step",
            3 => "branch",
            4 => "hardware breakpoint or watchpoint",
            _ => "breakpoint",
        }
    }

    fn system_call(&self) -> String {
        let number = self.thread.regs.get(surestack_walk::Register::SYSCALL);
        let number = number.filter(|number| *number <= u64::from(u16::MAX)).map(|number| format!(" {number}"));
        let why = if self.signal.code == 1 { " forbidden by a seccomp filter" } else { " refused" };
        format!("system call{}{why}{}", number.unwrap_or_default(), self.in_function())
    }

    fn in_function(&self) -> String {
        let name = self.thread.regs.pc().and_then(|pc| (self.name)(pc));
        name.map(|name| format!(" in {name}")).unwrap_or_default()
    }

    /// The function that the word at the stack pointer, or the link register, returns to.
    fn caller(&self) -> Option<String> {
        let arch = self.snapshot.arch;
        let returns_to = match arch.link {
            Some(link) => arch.strip(self.thread.regs.get(link)?, self.snapshot.signed_bits),
            None => self.snapshot.memory.word(self.sp()?).ok()?,
        };
        let mapped = self.snapshot.space.mapped(returns_to)?;
        (mapped.executable == Some(true)).then(|| (self.name)(CodeAddress::Return(returns_to)))?
    }

    fn kind_of(&self, mapped: &Mapped, address: u64) -> String {
        let holds = |address: u64| (mapped.start..mapped.end).contains(&address);
        if self.sp().is_some_and(holds) {
            return " (the stack)".to_owned();
        }
        match &mapped.file {
            Some(_) => self.file_at(address),
            None => " (memory of no file)".to_owned(),
        }
    }

    fn file_at(&self, address: u64) -> String {
        let file = self.snapshot.space.mapped(address).and_then(|mapped| mapped.file.as_ref());
        let name = file.and_then(|(path, _)| path.file_name());
        name.map(|name| format!(" ({})", name.to_string_lossy())).unwrap_or_default()
    }

    fn operand(&self) -> Option<Operand> {
        let wanted = self.signal.address.filter(|_| self.signal.code != SI_KERNEL);
        self.is_x86()
            .then(|| instruction::operand(&self.code(), self.pc()?, &self.thread.regs, self.snapshot.arch, wanted))?
    }

    fn divisor(&self) -> Option<u64> {
        let (arch, memory) = (self.snapshot.arch, &*self.snapshot.memory);
        self.is_x86().then(|| instruction::divisor(&self.code(), self.pc()?, &self.thread.regs, arch, memory))?
    }

    fn is_x86(&self) -> bool {
        self.snapshot.arch.machine == surestack_walk::X86_64.machine
    }

    /// The bytes of the instruction at the pc, and what follows.
    fn code(&self) -> Vec<u8> {
        let Some(pc) = self.pc() else { return Vec::new() };
        // The longest instruction has 15 bytes, and the last of a mapping may have fewer behind it.
        (1..=15)
            .rev()
            .find_map(|length| {
                let mut bytes = vec![0; length];
                self.snapshot.memory.read(pc, &mut bytes).ok().map(|()| bytes)
            })
            .unwrap_or_default()
    }

    fn pc(&self) -> Option<u64> {
        self.thread.regs.pc().map(CodeAddress::value)
    }

    fn sp(&self) -> Option<u64> {
        self.thread.regs.get(self.snapshot.arch.sp)
    }
}

/// Whether the upper bits of an address are all the same, as the processor demands (57 bits with five-level paging).
fn is_canonical(address: u64) -> bool {
    let upper = address >> 47;
    upper == 0 || upper == (1 << 17) - 1
}

#[cfg(test)]
mod tests;
