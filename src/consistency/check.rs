//! The decision over a snapshot: everything is looked at, and then decided.

use super::decision::{Decision, decide};
use super::expand::{Expanded, expand};
use super::names::{Named, Ranges};
use super::scan::{Frames, Searched, Spared, search};
use super::setjmp::setjmp;
use super::target::Target;
use super::trace::{Of, State, ThreadTrace, Trace};
use super::world::{Obstacle, Unlisted, World};
use crate::error::Error;
use crate::snapshot::{Absence, Absent, Gap, Snapshot};
use crate::symbol::{Store, Symbols};
use crate::trace::{Known, Tracer};
use std::ops::Range;
use surestack_walk::{Register, Registry, Regs, Stop};

/// More frames than a thread whose functions are to be replaced should have; deeper stacks are doubted.
const BUDGET: usize = 1 << 20;

/// What is to be replaced, and what the caller knows.
#[derive(Clone, Debug, Default)]
pub struct Request<'r> {
    /// Targets by name.
    pub names: Vec<Named>,
    /// Targets whose ranges the caller knows: all of them, with parts and hosts.
    pub targets: Vec<Target>,
    /// Every stack that will be run on and that is no thread's now: coroutines, fibers.
    pub stacks: Vec<ListedStack>,
    /// Code whose frames are outermost, markers of entry frames.
    pub registry: Registry<'r>,
    /// What the caller vouches for.
    pub vouches: Vec<Vouch>,
}

/// A stack that is no thread's.
#[derive(Clone, Debug)]
pub struct ListedStack {
    /// The registers with which it will be gone on with.
    pub regs: Regs,
    /// Its memory.
    pub range: Range<u64>,
}

/// Something that cannot be shown, and that the caller says is so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vouch {
    /// The ranges of the targets, as found or given, are all of their code.
    RangesComplete,
    /// No `longjmp` leads back into a target.
    NoJumps,
    /// Every stack is a thread's or listed: memory need not be searched.
    StacksListed,
    /// No stack lies in a frame on another stack: words there that are no return addresses are left-overs.
    FramesHoldNoStacks,
    /// No stack lies in this memory.
    NoStackIn(Range<u64>),
}

/// What was found and decided.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The targets with all of their code.
    pub targets: Vec<Target>,
    /// What was recorded of each thread and each listed stack.
    pub traces: Vec<ThreadTrace>,
    /// What the search for other stacks found; none where the caller vouches that there are none.
    pub searched: Option<Searched>,
    /// What may be done.
    pub decision: Decision,
}

/// Whether what `request` names can be replaced, in a target that holds still.
///
/// # Errors
/// When a name is no function's or several functions', or a range holds no code.
pub fn examine(snapshot: &Snapshot, known: &Known, request: &Request<'_>) -> Result<Examined, Error> {
    examine_until(snapshot, known, request, Vec::new)
}

/// The same, with what `changed` says to have happened meanwhile.
pub(super) fn examine_until(
    snapshot: &Snapshot,
    known: &Known,
    request: &Request<'_>,
    changed: impl FnOnce() -> Vec<Obstacle>,
) -> Result<Examined, Error> {
    Ok(examine_sought(snapshot, known, request, find(snapshot, request)?, changed))
}

/// The same over targets that were sought already, in the same modules.
pub(super) fn examine_sought(
    snapshot: &Snapshot,
    known: &Known,
    request: &Request<'_>,
    sought: Expanded,
    changed: impl FnOnce() -> Vec<Obstacle>,
) -> Examined {
    let vouched = |vouch: Vouch| request.vouches.contains(&vouch);
    let Expanded { targets, mut obstacles } = sought;
    if !vouched(Vouch::NoJumps) {
        obstacles.extend(setjmp(snapshot, &targets));
    }
    obstacles.extend(snapshot.absent.iter().filter_map(sharing));
    obstacles.extend(snapshot.gaps.iter().filter_map(unchecked));
    let traces = record(snapshot, known, request);
    let searched = (!vouched(Vouch::StacksListed))
        .then(|| search(snapshot, &targets, &traces, &spared(request, snapshot.arch.sp)));
    let unlisted = match &searched {
        Some(searched) => {
            obstacles.extend(searched.obstacles.iter().cloned());
            Unlisted::Searched
        }
        None => Unlisted::Vouched,
    };
    obstacles.extend(changed());
    let decision = decide(&targets, &traces, &World { unlisted, obstacles });
    Examined { targets, traces, searched, decision }
}

/// The targets with all of their code, and what is not known of them.
pub(super) fn find(snapshot: &Snapshot, request: &Request<'_>) -> Result<Expanded, Error> {
    let store = Store::default();
    let symbols = Symbols::new(snapshot, &store);
    let complete = request.vouches.contains(&Vouch::RangesComplete);
    let as_vouched =
        |named: &Named| Named { ranges: if complete { Ranges::Complete } else { named.ranges }, ..named.clone() };
    let names: Vec<Named> = request.names.iter().map(as_vouched).collect();
    let mut expanded = expand(snapshot, &symbols, &names)?;
    expanded.targets.extend(request.targets.iter().cloned());
    Ok(expanded)
}

fn record(snapshot: &Snapshot, known: &Known, request: &Request<'_>) -> Vec<ThreadTrace> {
    // What is known may have been learned before the target last ran.
    known.ran_on();
    let tracer = Tracer::new(snapshot, known).registry(request.registry).budget(BUDGET);
    let threads = snapshot.threads.iter().map(|thread| ThreadTrace::record(&tracer, thread));
    let absent = snapshot.absent.iter().filter_map(|absent| {
        let state = match absent.why {
            Absence::Exited => State::Gone,
            Absence::SharesMemory => return None,
            // As far as anybody knows the others run.
            Absence::Running | Absence::Silent | Absence::NotAsked | Absence::Refused | Absence::Lost => State::Running,
        };
        Some(ThreadTrace { of: Of::Thread(absent.id), name: absent.name.clone(), state })
    });
    let stacks = request.stacks.iter().enumerate().map(|(number, stack)| {
        let state = State::Held(Trace::record(&tracer, &stack.regs, Stop::default()));
        ThreadTrace { of: Of::Stack(number), name: None, state }
    });
    threads.chain(absent).chain(stacks).collect()
}

fn sharing(absent: &Absent) -> Option<Obstacle> {
    (absent.why == Absence::SharesMemory).then_some(Obstacle::SharesMemory { id: absent.id })
}

/// What was not found out about threads. Memory that is missing shows in the search.
fn unchecked(gap: &Gap) -> Option<Obstacle> {
    match gap {
        Gap::Unchecked { what } | Gap::Damaged { what } | Gap::StepFailed { what } | Gap::NotRecorded { what } => {
            Some(Obstacle::Unchecked { what: what.clone() })
        }
        Gap::Truncated { .. } | Gap::Filtered { .. } | Gap::Unwritten { .. } => None,
    }
}

fn spared(request: &Request<'_>, sp: Register) -> Spared {
    let vouched = request.vouches.iter().filter_map(|vouch| match vouch {
        Vouch::NoStackIn(range) => Some(range.clone()),
        _ => None,
    });
    // What is judged by a trace is the memory that the trace is in.
    let judged = request.stacks.iter().filter(|stack| is_on(stack, sp)).map(|stack| stack.range.clone());
    let ranges = judged.chain(vouched).collect();
    let holds_none = request.vouches.contains(&Vouch::FramesHoldNoStacks);
    Spared { ranges, frames: if holds_none { Frames::HoldNone } else { Frames::MayHoldStacks } }
}

fn is_on(stack: &ListedStack, sp: Register) -> bool {
    stack.regs.get(sp).is_some_and(|sp| stack.range.start <= sp && sp <= stack.range.end)
}
