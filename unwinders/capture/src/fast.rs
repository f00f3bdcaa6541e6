//! The fast path over our own thread.
//!
//! Its stacks are those of the table of threads, so that nobody has to ask the kernel. Their words are just loaded.

use crate::mapping::{Mapped, Mappings};
use crate::memory::{OwnMemory, Range};
use crate::remembered::Memory;
use crate::stacks::{THREADS, ThreadStack};
use crate::syscall::{self, Answer, Errno};
use crate::trace::BUDGET;
use core::sync::atomic::{AtomicU64, Ordering};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_fast::{Cache, Chase, Compiled, Evaluated, Ground, Packed, Ruled, Rules, Start, Take, Words};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_module_map::ModuleMap;
use surestack_probe::Probes;
use surestack_signal_frame::SignalFrame;
use surestack_walk::{CodeAddress, End, NoEvidence, Registry, Regs, Stack, StackKind, Stacks, Stop, Target, Unwinder};

/// Rules of this process's code.
pub static CACHE: Cache = Cache::new();

/// Code that is never unmapped.
static LASTING: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// This code is never unmapped, and can be read: that of the C library, which has the trampoline under every handler.
///
/// # Safety
/// So it is.
pub unsafe fn lasts(code: Range) {
    let [low, high] = &LASTING;
    low.store(code.low, Ordering::Relaxed);
    high.store(code.high, Ordering::Release);
}

fn lasting_code() -> Range {
    let [low, high] = &LASTING;
    // Both are written once, the lower bound first.
    let high = high.load(Ordering::Acquire);
    Range { low: low.load(Ordering::Relaxed), high }
}

/// Walks this thread from where it is, or was interrupted, and hands its frames over. None where `take` had enough.
///
/// On a stack of the table there is no system call in it. Of others the kernel is asked.
///
/// # Errors
/// Where the kernel does not say which stack that is.
///
/// # Safety
/// The thread is the one that calls, and `[pc, sp, fp]` are its registers or what a signal interrupted whose handler has not
/// returned.
#[inline(always)]
pub unsafe fn chase(
    first: [u64; 3],
    regs: impl Fn() -> Regs,
    modules: &ModuleMap,
    layers: Layers,
    take: &mut impl Take,
) -> Answer<Option<End>> {
    let [_, sp, _] = first;
    let Some((thread, previous)) = THREADS.find_with_memory(sp) else {
        // SAFETY: as the caller promises.
        return unsafe { chase_elsewhere(first, regs, modules, layers, take) };
    };
    let from = |range: Range| if (range.low..range.high).contains(&sp) { Range { low: sp, ..range } } else { range };
    let ranges = [from(thread.stack), from(thread.alternate), lasting_code()];
    // SAFETY: as the caller promises; the thread stands on one of them, and has them both until it says otherwise.
    Ok(unsafe { over(first, regs, modules, &Known { thread, mappings: None }, &ranges, previous, layers, take) })
}

/// The same, on a stack that nobody made known.
///
/// # Errors
/// # Safety
/// As for [`chase`].
#[cold]
#[inline(never)]
unsafe fn chase_elsewhere(
    first: [u64; 3],
    regs: impl Fn() -> Regs,
    modules: &ModuleMap,
    layers: Layers,
    take: &mut impl Take,
) -> Answer<Option<End>> {
    const CLOSE_ON_EXEC: i32 = 0o2_000_000;
    const NOWHERE: Range = Range { low: 0, high: 0 };
    let [_, sp, _] = first;
    // Each time anew: in a forked child, what its parent opened shows the parent's.
    let maps = syscall::open_at(-100, c"/proc/self/maps", CLOSE_ON_EXEC, 0)?;
    let known = Known {
        thread: ThreadStack { thread: 0, stack: NOWHERE, alternate: NOWHERE },
        mappings: Some(Mappings::new(Some(maps))),
    };
    let end = match known.find(sp) {
        // SAFETY: as the caller promises; the kernel says that it is mapped.
        Some(stack) => Ok(unsafe {
            let ranges = [Range { low: sp, high: stack.high }, lasting_code()];
            over(first, regs, modules, &known, &ranges, None, layers, take)
        }),
        None => Err(Errno::ENOENT),
    };
    let _ = syscall::close(maps);
    end
}

/// Over stacks that are known, of which `ranges` may be read anywhere.
///
/// # Safety
/// As for [`chase`]; and they are mapped.
#[expect(clippy::too_many_arguments, reason = "made of two kinds of stacks, and called twice")]
#[inline(always)]
unsafe fn over(
    [pc, sp, fp]: [u64; 3],
    regs: impl Fn() -> Regs,
    modules: &ModuleMap,
    known: &Known,
    ranges: &[Range],
    previous: Option<&Memory>,
    layers: Layers,
    take: &mut impl Take,
) -> Option<End> {
    let stack = known.find(sp)?;
    // SAFETY: as the caller promises.
    let memory = unsafe { OwnMemory::new(ranges) };
    let target = Target {
        arch: crate::ARCH,
        memory: &memory,
        modules,
        stacks: known,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let unwinders: [&dyn Unwinder; 6] = [&SignalFrame, &Cfi(DwarfRows), &Probes, &Markers, &Entry, &FramePointer];
    let ground = Ground {
        target: &target,
        unwinders: &unwinders,
        budget: BUDGET,
        cache: &CACHE,
        rules: OwnRules { modules, layers },
        words: Own,
    };
    let start = Start { pc, sp, fp, stack, regs };
    let mut chase = Chase::new(&ground, &start);
    if layers <= Layers::NoCache {
        return chase.without_cache().run(take);
    }
    let Some(previous) = previous.filter(|_| layers == Layers::All) else { return chase.run(take) };
    // SAFETY: this is the thread on whose stack `sp` is.
    unsafe {
        previous.with(sp, stack.low, |previous| match previous {
            Some(previous) => chase.run_again(previous, take),
            None => chase.run(take),
        })
    }
}

/// What is used of the fast path: all, but by those who measure what each layer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layers {
    /// Unwind information, evaluated for each frame.
    Evaluator,
    /// Compiled tables, where there are any.
    NoCache,
    /// Tables, and the rules of all threads.
    NoMemory,
    /// And the previous trace.
    All,
}

/// Rules of our own modules.
pub(crate) struct OwnRules<'m> {
    pub modules: &'m ModuleMap,
    pub layers: Layers,
}

impl Rules for OwnRules<'_> {
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed> {
        if self.layers > Layers::Evaluator
            && let Ok((Some(found), _)) = self.modules.look_up(pc.lookup())
            && let Some(table) = found.record.table.and_then(Compiled::table)
        {
            let may_go_there = || found.record.code.iter().any(|(low, high)| (*low..*high).contains(&pc.value()));
            match table.look_up(pc.lookup().wrapping_sub(found.record.bias)) {
                Ruled::Rule(rule) if pc.is_exact() || may_go_there() => return Some(rule),
                Ruled::Rule(_) | Ruled::Ask => {}
                Ruled::Nothing => return None,
            }
        }
        Evaluated.rule(target, pc)
    }
}

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

/// The stacks of one thread, as the table has them, and what the kernel says of others if it is to be asked.
struct Known {
    thread: ThreadStack,
    mappings: Option<Mappings>,
}

impl Stacks for Known {
    fn find(&self, address: u64) -> Option<Stack> {
        let holds = |range: &&Range| range.low <= address && address <= range.high && range.low < range.high;
        let mapped = || {
            let mapped = self.mappings.as_ref()?.at(address).ok()??;
            mapped.may(Mapped::WRITABLE).then_some(Range { low: mapped.low, high: mapped.high })
        };
        // An alternate stack may be a buffer on the thread's own, and is then the one that is meant: whoever interrupts a trace
        // from there is above it without its being gone.
        let known = [&self.thread.alternate, &self.thread.stack].into_iter().find(holds).copied();
        let found = known.or_else(mapped)?;
        Some(Stack { low: found.low, high: found.high, kind: StackKind::Other })
    }
}
