//! The fast path over our own thread.
//!
//! The stack is that of the table of threads, so that nobody has to ask the kernel. Its words are just loaded.

use crate::memory::{OwnMemory, Range};
use crate::stacks::{THREADS, ThreadStack};
use crate::trace::BUDGET;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_fast::{Cache, Chase, Evaluated, Ground, Start, Take, Words};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_module_map::ModuleMap;
use surestack_probe::Probes;
use surestack_signal_frame::SignalFrame;
use surestack_walk::{End, NoEvidence, Registry, Regs, Stack, StackKind, Stacks, Stop, Target, Unwinder};

/// Rules of this process's code.
pub static CACHE: Cache = Cache::new();

/// Walks this thread from where it is, or was interrupted, and hands its frames over. None where `take` had enough.
///
/// # Errors
/// [`Unknown`] where the stack is not of the table.
///
/// # Safety
/// The thread is the one that calls, and `[pc, sp, fp]` are its registers or what a signal interrupted whose handler has not
/// returned.
#[inline(always)]
pub unsafe fn chase(
    first: [u64; 3],
    regs: &dyn Fn() -> Regs,
    modules: &ModuleMap,
    take: &mut impl Take,
) -> Result<Option<End>, Unknown> {
    let [pc, sp, fp] = first;
    let (thread, previous) = THREADS.find_with_memory(sp).ok_or(Unknown)?;
    let known = KnownStacks { thread: &thread };
    let stack = known.find(sp).ok_or(Unknown)?;
    let from = |range: Range| if (range.low..range.high).contains(&sp) { Range { low: sp, ..range } } else { range };
    let ranges = [from(thread.stack), from(thread.alternate)];
    // SAFETY: as the caller promises; the thread stands on one of them, and has them both until it says otherwise.
    let memory = unsafe { OwnMemory::new(&ranges) };
    let target = Target {
        arch: crate::ARCH,
        memory: &memory,
        modules,
        stacks: &known,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let unwinders: [&dyn Unwinder; 6] = [&SignalFrame, &Cfi(DwarfRows), &Probes, &Markers, &Entry, &FramePointer];
    let ground =
        Ground { target: &target, unwinders: &unwinders, budget: BUDGET, cache: &CACHE, rules: Evaluated, words: Own };
    let start = Start { pc, sp, fp, stack, regs };
    let mut chase = Chase::new(&ground, &start);
    let Some(previous) = previous else { return Ok(chase.run(take)) };
    // SAFETY: this is the thread on whose stack `sp` is.
    Ok(unsafe {
        previous.with(sp, stack.low, |previous| match previous {
            Some(previous) => chase.run_again(previous, take),
            None => chase.run(take),
        })
    })
}

/// A stack that nobody made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// Words of the stacks of the thread that runs.
struct Own;

impl Words for Own {
    #[inline(always)]
    fn word(&self, address: u64) -> Option<u64> {
        let at = core::ptr::with_exposed_provenance::<u64>(usize::try_from(address).ok()?);
        // SAFETY: a multiple of 8 on a stack of the thread's, above a stack pointer of a frame that it still has. Volatile:
        // others may write there.
        Some(unsafe { at.read_volatile() })
    }
}

/// The stacks of one thread, as the table has them.
struct KnownStacks<'t> {
    thread: &'t ThreadStack,
}

impl Stacks for KnownStacks<'_> {
    fn find(&self, address: u64) -> Option<Stack> {
        let holds = |range: &&Range| range.low <= address && address <= range.high && range.low < range.high;
        let found = [&self.thread.stack, &self.thread.alternate].into_iter().find(holds)?;
        Some(Stack { low: found.low, high: found.high, kind: StackKind::Other })
    }
}
