//! Where a stopped thread goes on if the kernel begins its system call anew.
//!
//! ```text
//!           mov  $34,%eax
//!   pc-2 ▸  syscall          begun anew: no handler ran, or one with SA_RESTART
//!   pc   ▸  …                where the registers say that it is; here it goes on when a handler made the call fail
//! ```
//!
//! A stop interrupts a call that waits. Which of the two it will be is decided only when the thread runs again: a signal
//! may still come. Both ways have to be looked at, and the instruction before may belong to another function.

use super::Snapshot;
use surestack_walk::{CodeAddress, Register, Regs};

/// Bytes of the longest instruction that calls the kernel.
const LONGEST: usize = 4;
/// `ERESTARTSYS`, `ERESTARTNOINTR`, `ERESTARTNOHAND`, `ERESTART_RESTARTBLOCK`: results that programs never see.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

impl Snapshot {
    /// The registers of a thread stopped with `regs` if its system call is begun anew; none where it is in none.
    ///
    /// Whoever stopped it may have done so before the call was made, and then its result says nothing: behind an
    /// instruction that calls the kernel only the number of the call, if it is known, says that there is none.
    pub fn restarted(&self, regs: &Regs) -> Option<Regs> {
        /// What `orig_rax` is where no system call is being made.
        const NO_CALL: u64 = u64::MAX;
        if regs.get(Register::SYSCALL) == Some(NO_CALL) {
            return None;
        }
        let call = &self.arch.system_call;
        let pc = regs.pc().filter(|pc| pc.is_exact())?.value();
        let size = call.instructions.first()?.len();
        let before = pc.checked_sub(u64::try_from(size).ok()?)?;
        let mut buffer = [0; LONGEST];
        let bytes = buffer.get_mut(..size)?;
        let mut is_call = || self.memory.read(before, bytes).is_ok() && call.instructions.contains(&&*bytes);
        let restarts = regs.get(call.result).is_some_and(|result| RESTARTS.contains(&result.cast_signed()));
        let mut regs = *regs;
        regs.set_pc(CodeAddress::Exact(before));
        (restarts || is_call()).then_some(regs)
    }
}
