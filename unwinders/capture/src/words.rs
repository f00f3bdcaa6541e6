//! What happened, in words.

use crate::leave::signal;
use crate::mapping::Mapped;
use crate::text::Text;
use surestack_signal_frame::Signal;

/// Faults below this address are of null pointers.
const NULL: u64 = 0x1_0000;

/// The name of a signal.
pub fn signal_name(number: i32) -> &'static str {
    match number {
        signal::ILL => "SIGILL",
        signal::TRAP => "SIGTRAP",
        signal::ABRT => "SIGABRT",
        signal::BUS => "SIGBUS",
        signal::FPE => "SIGFPE",
        signal::SEGV => "SIGSEGV",
        signal::SYS => "SIGSYS",
        _ => "signal",
    }
}

/// Whether a fault is a stack overflow: at an address that is no stack any more, and the stack pointer is where a stack ends.
pub fn is_overflow(information: &Signal, sp: u64, fault: Option<Mapped>, stack: Option<Mapped>) -> bool {
    /// How far below its stack pointer a function touches its frame first: a large one is probed page by page.
    const REACH: u64 = 1 << 16;
    let near = information.detail.abs_diff(sp) <= REACH;
    let writable = |mapped: Option<Mapped>| mapped.filter(|mapped| mapped.may(Mapped::WRITABLE));
    let ends = match writable(stack) {
        // The stack pointer is on the stack still, and the fault right below it.
        Some(stack) => information.detail < stack.low && sp.saturating_sub(stack.low) <= REACH,
        None => true,
    };
    matches!(information.number, signal::SEGV | signal::BUS)
        && information.code > 0
        && near
        && writable(fault).is_none()
        && ends
}

/// Says what the signal means.
pub fn describe(text: &mut Text, information: &Signal, pc: u64, overflow: bool) {
    const SI_KERNEL: i32 = 0x80;
    let Signal { number, code, detail, error_code, .. } = *information;
    if code <= 0 {
        let (process, user) = (detail & 0xffff_ffff, detail >> 32);
        text.text("sent by process ").number(process).text(", user ").number(user);
        return;
    }
    match number {
        _ if overflow => {
            text.text("stack overflow");
        }
        signal::SEGV if code == SI_KERNEL => {
            text.text("a protection fault: the address is not one (not canonical), or the instruction is not allowed");
        }
        signal::SEGV | signal::BUS => {
            // Page fault error code: bit 1 write, bit 4 instruction fetch.
            let what = match (error_code & 16 != 0 || detail == pc, error_code & 2 != 0) {
                (true, _) => "executing",
                (_, true) => "writing",
                _ => "reading",
            };
            text.text(what).text(" at ").hex(detail, 1);
            if detail < NULL {
                text.text(": a null pointer");
            }
        }
        signal::FPE if code == 1 => {
            text.text("integer division by zero, or a quotient that does not fit");
        }
        signal::FPE => {
            text.text("arithmetic error");
        }
        signal::ILL => {
            text.text("an instruction that is not allowed");
        }
        signal::TRAP => {
            text.text("a breakpoint or trap");
        }
        signal::SYS => {
            text.text("a system call that is not allowed");
        }
        _ => {
            text.text("signal ").number(u64::try_from(number).unwrap_or_default());
        }
    }
}
