//! A thread's own record of its calls, to hold a walk against.

use std::arch::{asm, global_asm};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Deepest stack.
const DEEPEST: usize = 32;

/// Where each call of a thread will return to.
#[derive(Clone)]
pub struct Shadow {
    pub thread: u32,
    calls: Arc<Calls>,
}

struct Calls {
    returns: [AtomicU64; DEEPEST],
    depth: AtomicUsize,
}

unsafe extern "C" {
    // Only its address goes through.
    #[allow(improper_ctypes)]
    fn shadow_call(callee: extern "C" fn(&mut Level<'_>), level: &mut Level<'_>, returns: &AtomicU64);
    fn shadow_called();
}

// Notes the address that it will return to, and calls.
global_asm!(
    ".text",
    ".globl shadow_call, shadow_called",
    ".type shadow_call,@function",
    "shadow_call:",
    ".cfi_startproc",
    "mov rax, qword ptr [rsp]",
    "mov qword ptr [rdx], rax",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "shadow_called:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size shadow_call, . - shadow_call",
);

struct Level<'l> {
    shadow: &'l Shadow,
    left: usize,
    work: &'l mut dyn FnMut(),
}

extern "C" fn level(level: &mut Level<'_>) {
    let depth = level.shadow.calls.depth.fetch_add(1, Ordering::Relaxed);
    if level.left == 0 {
        (level.work)();
    } else {
        level.left -= 1;
        // SAFETY: follows the calling convention.
        unsafe { shadow_call(self::level, level, &level.shadow.calls.returns[depth]) };
        level.left += 1;
    }
    level.shadow.calls.depth.fetch_sub(1, Ordering::Relaxed);
}

impl Shadow {
    pub fn new(thread: u32) -> Self {
        let returns = [const { AtomicU64::new(0) }; DEEPEST];
        Self { thread, calls: Arc::new(Calls { returns, depth: AtomicUsize::new(0) }) }
    }

    /// Does `work`, so many calls deep.
    pub fn descend(&self, calls: usize, work: &mut dyn FnMut()) {
        level(&mut Level { shadow: self, left: calls, work });
    }

    /// What a walk has to show of those calls, innermost first.
    pub fn expected(&self) -> Vec<u64> {
        let calls = self.calls.depth.load(Ordering::Relaxed).saturating_sub(1);
        let returns = self.calls.returns[..calls].iter().rev().map(|at| at.load(Ordering::Relaxed));
        returns.flat_map(|at| [shadow_called as *const () as u64, at]).collect()
    }

    /// The part of a walk from the first such call on, as long as it should be; nothing if the walk ends before.
    pub fn of(&self, pcs: &[u64]) -> Vec<u64> {
        let first = pcs.iter().position(|pc| *pc == shadow_called as *const () as u64).unwrap_or(pcs.len());
        let all = &pcs[first..];
        let length = self.expected().len();
        assert!(!all[length.min(all.len())..].contains(&(shadow_called as *const () as u64)), "more than there are");
        all.get(..length).unwrap_or(all).to_vec()
    }
}

/// DWARF numbers of registers and what they hold in [`spin_with_known_registers`].
pub const KNOWN: [(u8, u64); 4] =
    [(12, 0x1212_3434_5656_7878), (13, 0x1313_3434_5656_7878), (14, 0x1414_3434_5656_7878), (8, 0x0808_3434_5656_7878)];

/// Spins with known registers, and says where its stack pointer is.
pub fn spin_with_known_registers(at: &AtomicU64, end: &AtomicBool) {
    // SAFETY: reads one byte, writes one word, jumps within.
    unsafe {
        asm!(
            "mov [{at}], rsp",
            "2:",
            "cmp byte ptr [{end}], 0",
            "je 2b",
            at = in(reg) at.as_ptr(),
            end = in(reg) end.as_ptr(),
            in("r12") KNOWN[0].1,
            in("r13") KNOWN[1].1,
            in("r14") KNOWN[2].1,
            in("r8") KNOWN[3].1,
        );
    }
}
