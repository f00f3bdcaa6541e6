//! Whether a frame is outermost because of where it is, not because of its name.

use super::FileEvidence;
use crate::analysis::{Flow, Limits, SP, State};
use surestack_walk::{CodeAddress, Proof, Register, Regs, Root, Stack};

/// Most instructions from an entry point to the call that never returns: a dozen in every libc seen.
const START: usize = 400;
/// Room between a thread's base address and the top of its stack: its static thread-local storage, which lies below the
/// base, and what the thread library put there first.
const THREAD_TOP: u64 = 64 << 10;
/// `mov $number, %eax; syscall` of clone and clone3.
const CLONES: [[u8; 7]; 2] = [[0xb8, 56, 0, 0, 0, 0x0f, 0x05], [0xb8, 0xb3, 1, 0, 0, 0x0f, 0x05]];
/// How far behind it the code of the child reaches up to its only call: 14 and 19 bytes in glibc 2.36.
const NEAR: u64 = 48;

impl FileEvidence<'_> {
    /// Whether `regs` stand where `root` must stand; `None` where nobody can tell.
    pub(super) fn prove(&self, root: Root, regs: &Regs) -> Option<Proof> {
        let (pc, sp) = (regs.pc()?, regs.get(self.arch.sp)?);
        let stack = self.stacks.find(sp)?;
        let on_main = self.initial_sp.map(|initial| stack.holds(initial, 0));
        match root {
            Root::EntryPoint | Root::UndefinedReturn if on_main == Some(true) => self.started(pc, sp),
            Root::UndefinedReturn => self.cloned(pc, sp, stack, regs),
            // Its place on a stack that was made for it cannot be checked further: nothing records where that ends.
            Root::ContextEntry => (!on_main?).then_some(Proof::Proven),
            Root::EntryPoint | Root::Registered | Root::Named | Root::Marker(_) => None,
        }
    }

    /// The first thread: the code from the entry points, executed with the first stack pointer, has this one here.
    fn started(&self, pc: CodeAddress, sp: u64) -> Option<Proof> {
        let text = self.text();
        let limits = Limits { steps: START, inside: &|_| true, begins: &|_| false };
        let reached = |start: &u64| {
            let flow = Flow::follow(&text, vec![(*start, State::at_entry_with(self.initial_sp?))], &limits);
            let visit = match pc {
                CodeAddress::Exact(address) => flow.at(address),
                CodeAddress::Return(address) => flow.call_before(address),
            };
            visit.map(|visit| visit.state.number(SP))
        };
        let found = self.starts.iter().find_map(reached)?;
        Some(if found? == sp { Proof::Proven } else { Proof::Refuted })
    }

    /// Another thread: the code behind the `syscall` that made it, at the top of the stack it was given.
    fn cloned(&self, pc: CodeAddress, sp: u64, stack: Stack, regs: &Regs) -> Option<Proof> {
        let base = regs.get(Register::THREAD)?;
        let at_top = sp < base && base.checked_sub(sp)? <= THREAD_TOP && stack.holds(base, 8);
        (at_top && self.is_behind_clone(pc.value())?).then_some(Proof::Proven)
    }

    /// Whether a thread was made shortly before `pc`: the number of the system call is loaded right before it, and what
    /// the child runs lies right behind (glibc has no unwind information in between).
    fn is_behind_clone(&self, pc: u64) -> Option<bool> {
        let start = pc.checked_sub(NEAR)?;
        let mut code = vec![0; usize::try_from(NEAR).ok()?];
        self.memory.read(start, &mut code).ok()?;
        Some(CLONES.iter().any(|form| code.windows(form.len()).any(|bytes| bytes == form)))
    }
}
