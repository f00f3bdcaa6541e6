//! Steps out of the code that the Linux kernel maps into a process for its probes (uprobes).
//!
//! A probe on a five-byte nop becomes, once it was hit, a call into a page named `[uprobes-trampoline]` near the code. What
//! that page pushes is undone before it returns, so that the interrupted function's registers are all at hand:
//!
//! ```text
//!   site:  call page                    high │ site + 5  │ ◄ slot
//!   page:  push %rcx                         │ rcx       │
//!          push %r11                         │ r11       │
//!          push %rax                    low  │ rax       │ ◄ sp from the third push to the first pop
//!          mov $336, %rax; syscall
//!          pop %rax; pop %r11; pop %rcx
//!          ret
//! ```
//!
//! A probe on a function's return (uretprobe) replaces its return address with the page named `[uprobes]`. The address that
//! was there lies in the kernel, where nobody can read it: there is no step out of that page, and [`Why::ReturnProbed`] says
//! so.
//!
//! Both pages may be unreadable from another process, and for the kernel too when it writes a core: it writes zeros. Then
//! their names tell, or what may be done with them, and the call at the site.
//!
//! Source: `arch/x86/kernel/uprobes.c` of Linux 6.18.
#![no_std]
#![forbid(unsafe_code)]

use surestack_walk::{CodeAddress, Error, FoundBy, Link, ProbeKind, Register, Regs, Step, Target, Unwinder, Why};

/// The code of the page for probes on nops.
const TRAMPOLINE: [u8; 18] =
    [0x51, 0x41, 0x53, 0x50, 0x48, 0xc7, 0xc0, 0x50, 0x01, 0, 0, 0x0f, 0x05, 0x58, 0x41, 0x5b, 0x59, 0xc3];
/// Its instructions: offset, and how many words are pushed before it.
const PUSHED: [(u64, u64); 9] = [(0, 0), (1, 1), (3, 2), (4, 3), (11, 3), (13, 3), (14, 2), (16, 1), (17, 0)];
/// The registers it pushes, by their DWARF numbers, in this order.
const SAVED: [u8; 3] = [2, 11, 0];
/// Length of a direct call.
const CALL: u64 = 5;

/// Steps out of the kernel's probe pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probes;

impl Unwinder for Probes {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(pc) = callee.pc() else {
            return Ok(Step::NotMine(Why::NoPc));
        };
        let Some(page) = target.modules.probe(pc.value()) else {
            return Ok(Step::NotMine(Why::NotProbed));
        };
        let CodeAddress::Exact(address) = pc else {
            return Ok(Step::NotMine(Why::ReturnProbed));
        };
        if page.kind == ProbeKind::Return {
            return Ok(Step::NotMine(Why::ReturnProbed));
        }
        let mut code = TRAMPOLINE;
        let is_known = target.memory.read(page.start, &mut code).is_err() || [TRAMPOLINE, [0; 18]].contains(&code);
        let offset = address.wrapping_sub(page.start);
        match PUSHED.iter().find(|(at, _)| *at == offset) {
            Some((_, pushed)) if is_known => from_nop(target, page.start, *pushed, callee, caller),
            _ => Ok(Step::NotMine(Why::NotTrampoline)),
        }
    }
}

/// The code whose nop became a call of `page`, which has pushed so many words.
fn from_nop(target: &Target<'_>, page: u64, pushed: u64, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
    let sp = callee.need(target.arch.sp)?;
    let slot = sp.checked_add(pushed.wrapping_mul(8)).ok_or(Error::Overflow { address: sp })?;
    let cfa = slot.checked_add(8).ok_or(Error::Overflow { address: slot })?;
    let behind = target.memory.word(slot)?;
    if !calls(target, behind, page) {
        return Ok(Step::NotMine(Why::NotAfterCall));
    }
    *caller = *callee;
    for (number, depth) in SAVED.into_iter().zip(1..=pushed) {
        let (Some(register), Some(place)) = (Register::general(number), slot.checked_sub(depth.wrapping_mul(8))) else {
            continue;
        };
        match target.memory.word(place) {
            Ok(value) => caller.set_saved(register, value, place),
            Err(_) => caller.forget_one(register),
        }
    }
    caller.set(target.arch.sp, cfa);
    caller.set_saved(Register::PC, behind, slot);
    caller.set_pc(CodeAddress::Exact(behind));
    Ok(Step::Caller { cfa, return_slot: Some(slot), link: Link::Probe, found_by: FoundBy::Probe })
}

/// Whether the instruction before `behind` is a call of `page`.
fn calls(target: &Target<'_>, behind: u64, page: u64) -> bool {
    let mut call = [0; 5];
    let site = behind.wrapping_sub(CALL);
    let [opcode, a, b, c, d] = match target.memory.read(site, &mut call) {
        Ok(()) => call,
        Err(_) => return false,
    };
    opcode == 0xe8 && behind.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d]))) == page
}
