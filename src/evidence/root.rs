//! Whether a frame is outermost because of where it is, not because of its name.

use super::FileEvidence;
use crate::analysis::{Flow, Limits, SP, State};
use crate::thread_start::is_behind_clone;
use surestack_walk::{CodeAddress, Proof, Register, Regs, Root, Stack, StackKind};

/// Most instructions from an entry point to the call that never returns: a dozen in every libc seen.
const START: usize = 400;
/// Room between a thread's base address and where its stack begins, beside the static thread-local storage of the modules:
/// what the thread library keeps free for modules that come later, and what it put on the stack first.
const THREAD_TOP: u64 = 16 << 10;
/// Where a stack of the program's own making begins, below the end of its mapping.
const TOP_PAGE: u64 = 4 << 10;

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
    ///
    /// A thread library puts the thread's own block above the stack, and the block's address into the base of `fs`. A task
    /// that the program made itself, without a base of its own, is believed at the end of its mapping and nowhere else: what
    /// lies above it in a larger mapping nobody knows.
    fn cloned(&self, pc: CodeAddress, sp: u64, stack: Stack, regs: &Regs) -> Option<Proof> {
        if !is_behind_clone(&self.text(), pc) {
            return None;
        }
        let base = regs.get(Register::THREAD)?;
        if !stack.holds(base, 8) {
            return (stack.kind != StackKind::Main && stack.high.checked_sub(sp)? <= TOP_PAGE).then_some(Proof::Proven);
        }
        let room = THREAD_TOP.saturating_add(self.thread_local);
        let at_top = sp < base && base.checked_sub(sp)? <= room;
        Some(if at_top { Proof::Proven } else { Proof::Refuted })
    }
}
