//! The decision: a pure function of recorded traces.

use super::target::Target;
use super::trace::{Of, State, ThreadTrace, Trace};
use super::world::{Obstacle, Unlisted, World};
use surestack_reliable::{Doubted, Missing, Verdict};
use surestack_walk::CodeAddress;

/// The answer over all threads.
#[derive(Clone, Debug)]
pub struct Decision {
    /// How each thread stands, in the order of the traces.
    pub threads: Vec<Answer>,
    /// What may be done.
    pub overall: Overall,
}

/// How one thread stands.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which thread.
    pub of: Of,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// How it stands.
    pub standing: Standing,
}

/// How a thread stands to the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It will not return into any of them.
    Clear,
    /// It runs in some of them, or will return into them.
    Blocked {
        /// Every frame that does.
        hits: Vec<Hit>,
        /// What to wait for; none where no believed frame lies above.
        wait: Option<Wait>,
        /// What else speaks against the trace: there may be more frames in targets than were found.
        doubts: Vec<Doubted>,
    },
    /// No frame was found in a target, and the trace may have left one out.
    Untrusted {
        /// Why.
        doubts: Vec<Doubted>,
        /// Evidence that nobody could give.
        missing: Missing,
        /// How many frames can be believed.
        believed: usize,
    },
    /// It could not be stopped.
    Running,
    /// It has exited and returns to nothing.
    Gone,
}

/// A frame in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Number of the frame, 0 for the innermost.
    pub frame: usize,
    /// Where it goes on.
    pub pc: CodeAddress,
    /// Number of the target.
    pub target: usize,
    /// Number of the part among the target's live ones; none where only the bytes to be overwritten are hit.
    pub part: Option<usize>,
}

/// The return after which no frame that was found is in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Number of the frame that is returned to.
    pub frame: usize,
    /// Where it goes on.
    pub pc: u64,
}

/// What may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overall {
    /// The targets can be replaced while everything is held as it is.
    Apply,
    /// Not now; the reasons may pass.
    RetryLater(Vec<Reason>),
    /// Not like this; at least one of the reasons, the first ones, will not pass by waiting.
    Refuse(Vec<Reason>),
}

/// What keeps targets from being replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The thread with this number is not clear.
    Thread(usize),
    /// There are no targets.
    NoTargets,
    /// No code of the target with this number runs now: nothing says where it is.
    NoCode(usize),
    /// There is no thread, or none that has not exited.
    NoThreads,
    /// Nobody has looked for stacks that no trace is of.
    NotSearched,
    /// Something about the process.
    Process(Obstacle),
}

impl Reason {
    fn passes(&self) -> bool {
        match self {
            Self::Thread(_) => true,
            Self::NoTargets | Self::NoCode(_) | Self::NoThreads | Self::NotSearched => false,
            Self::Process(obstacle) => obstacle.passes(),
        }
    }
}

/// Whether the targets can be replaced, given these traces of all threads and of all other stacks that are known.
pub fn decide(targets: &[Target], traces: &[ThreadTrace], world: &World) -> Decision {
    let ranges = Ranges::of(targets);
    let answer = |trace: &ThreadTrace| Answer {
        of: trace.of,
        name: trace.name.clone(),
        standing: match &trace.state {
            State::Held(trace) => standing(&ranges, trace),
            State::InCall { behind, anew } => worse(standing(&ranges, behind), standing(&ranges, anew)),
            State::Running => Standing::Running,
            State::Gone => Standing::Gone,
        },
    };
    let threads: Vec<Answer> = traces.iter().map(answer).collect();
    let overall = overall(targets, &threads, world);
    Decision { threads, overall }
}

fn overall(targets: &[Target], threads: &[Answer], world: &World) -> Overall {
    let not_clear = |answer: &Answer| !matches!(answer.standing, Standing::Clear | Standing::Gone);
    let lives = |answer: &Answer| matches!(answer.of, Of::Thread(_)) && answer.standing != Standing::Gone;
    let obstacles = world.obstacles.iter().cloned().map(Reason::Process);
    let blocked = threads.iter().enumerate().filter(|(_, answer)| not_clear(answer));
    let no_code = |target: &Target| target.live().is_empty() || target.live().iter().any(|part| part.range.is_empty());
    let no_code = targets.iter().enumerate().filter(|(_, target)| no_code(target)).map(|(number, _)| number);
    let reasons = (targets.is_empty().then_some(Reason::NoTargets).into_iter())
        .chain(no_code.map(Reason::NoCode))
        .chain((!threads.iter().any(lives)).then_some(Reason::NoThreads))
        .chain((world.unlisted == Unlisted::Unknown).then_some(Reason::NotSearched))
        .chain(obstacles)
        .chain(blocked.map(|(number, _)| Reason::Thread(number)));
    let (passing, mut lasting): (Vec<Reason>, Vec<Reason>) = reasons.partition(Reason::passes);
    match (lasting.is_empty(), passing.is_empty()) {
        (true, true) => Overall::Apply,
        (true, false) => Overall::RetryLater(passing),
        (false, _) => {
            lasting.extend(passing);
            Overall::Refuse(lasting)
        }
    }
}

fn standing(ranges: &Ranges, trace: &Trace) -> Standing {
    let hits: Vec<Hit> =
        trace.frames.iter().enumerate().flat_map(|(number, frame)| ranges.hits(number, frame.pc)).collect();
    let doubts = trace.doubts.clone();
    if let Some(outermost) = hits.iter().map(|hit| hit.frame).max() {
        return Standing::Blocked { hits, wait: wait(trace, outermost), doubts };
    }
    match trace.verdict {
        Verdict::Reliable if doubts.is_empty() && !trace.frames.is_empty() => Standing::Clear,
        Verdict::Pending(missing) => Standing::Untrusted { doubts, missing, believed: trace.believed },
        _ => Standing::Untrusted { doubts, missing: Missing::NONE, believed: trace.believed },
    }
}

/// How a thread stands that goes on in one of two ways: nobody knows yet in which.
fn worse(behind: Standing, anew: Standing) -> Standing {
    match (&behind, &anew) {
        (Standing::Clear, _) | (Standing::Untrusted { .. }, Standing::Blocked { .. }) => anew,
        _ => behind,
    }
}

/// The frame above the outermost one in a target, if it can be believed.
fn wait(trace: &Trace, outermost: usize) -> Option<Wait> {
    let frame = outermost.checked_add(1).filter(|frame| *frame < trace.believed)?;
    Some(Wait { frame, pc: trace.frames.get(frame)?.pc.value() })
}

/// The live code of all targets, by address.
struct Ranges {
    list: Vec<Live>,
    /// The length of the longest.
    longest: u64,
}

struct Live {
    start: u64,
    end: u64,
    target: usize,
    /// None for the bytes that will be overwritten.
    part: Option<usize>,
}

impl Ranges {
    fn of(targets: &[Target]) -> Self {
        let parts = targets.iter().enumerate().flat_map(|(target, found)| {
            let parts = found.live().iter().enumerate().map(|(part, found)| (Some(part), &found.range));
            let overwritten = found.overwritten.iter().map(|range| (None, range));
            parts.chain(overwritten).map(move |(part, range)| Live { start: range.start, end: range.end, target, part })
        });
        let mut list: Vec<Live> = parts.filter(|live| live.start < live.end).collect();
        list.sort_unstable_by_key(|live| (live.start, live.target, live.part));
        let longest = list.iter().map(|live| live.end.saturating_sub(live.start)).max().unwrap_or_default();
        Self { list, longest }
    }

    fn hits(&self, frame: usize, pc: CodeAddress) -> impl Iterator<Item = Hit> {
        let (value, lookup) = (pc.value(), pc.lookup());
        let low = lookup.saturating_sub(self.longest);
        let first = self.list.partition_point(|live| live.start < low);
        let near = self.list.get(first..).unwrap_or_default().iter().take_while(move |live| live.start <= lookup);
        let hit = move |live: &&Live| match live.part {
            // The call may be the last instruction, so that its return address is behind the function.
            Some(_) => lookup < live.end,
            // Whoever goes on at the first byte finds the new instruction.
            None => live.start < value && value < live.end,
        };
        near.filter(hit).map(move |live| Hit { frame, pc, target: live.target, part: live.part })
    }
}
