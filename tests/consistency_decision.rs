//! The decision as a pure function: traces are written down, not walked.

use surestack::consistency::{
    Answer, Hit, Obstacle, Of, Overall, Part, Reason, Standing, State, Target, ThreadTrace, Trace, TraceFrame,
    Unlisted, Version, Wait, World, decide,
};
use surestack::walk::{CodeAddress, Error, FoundBy, Link, RowSource};
use surestack::{Doubt, Doubted, Verdict};
use surestack_reliable::Missing;

const LO: u64 = 0x1000;
const HI: u64 = 0x1040;

fn frame(pc: CodeAddress) -> TraceFrame {
    let found_by = if pc.is_exact() { FoundBy::Context } else { FoundBy::Cfi(RowSource::EhFrame) };
    TraceFrame { pc, sp: None, link: Link::Call, found_by, callee_cfa: None, return_slot: None }
}

fn trace(frames: &[CodeAddress]) -> Trace {
    let frames: Vec<TraceFrame> = frames.iter().copied().map(frame).collect();
    let believed = frames.len();
    Trace { frames, verdict: Verdict::Reliable, doubts: vec![], believed, root: None, saved: vec![] }
}

/// Interrupted at `pc`, called from elsewhere.
fn at(pc: u64) -> Trace {
    trace(&[CodeAddress::Exact(pc), CodeAddress::Return(0x9000)])
}

/// Something else, that will return to `pc`.
fn returning_to(pc: u64) -> Trace {
    trace(&[CodeAddress::Exact(0x8000), CodeAddress::Return(pc), CodeAddress::Return(0x9000)])
}

fn searched() -> World {
    World { unlisted: Unlisted::Searched, obstacles: vec![] }
}

fn standing(target: &Target, trace: Trace) -> Standing {
    let mut decision = decide(std::slice::from_ref(target), &[ThreadTrace::held(1, trace)], &searched());
    let clear = decision.threads[0].standing == Standing::Clear;
    assert_eq!(decision.overall == Overall::Apply, clear, "one thread decides alone");
    decision.threads.remove(0).standing
}

fn is_blocked(target: &Target, trace: Trace) -> bool {
    match standing(target, trace) {
        Standing::Blocked { .. } => true,
        Standing::Clear => false,
        other => panic!("{other:?}"),
    }
}

/// The live versions of the kernel's livepatch, each with its code at LO..HI and another version at 0x5000..0x5040.
fn versions() -> [(&'static str, Target); 4] {
    let here = || vec![Part::version(LO..HI)];
    let elsewhere = Target::range("f", 0x5000..0x5040);
    [
        ("original", Target::range("f", LO..HI)),
        ("patched before", Target { live: Version::Patched(here()), ..elsewhere.clone() }),
        ("reverting", Target { live: Version::Reverting(here()), ..elsewhere.clone() }),
        // The new patch has no version of it: it goes back to the original, and the older patch's code is what counts.
        ("nop", Target { live: Version::Patched(here()), ..elsewhere }),
    ]
}

#[test]
fn the_version_that_is_live_blocks_at_every_place_in_it_and_no_other_version_does() {
    for (name, target) in versions() {
        let blocked = |trace| is_blocked(&target, trace);
        assert!(blocked(at(LO)), "{name}: about to run the first instruction");
        assert!(blocked(at(LO + 8)), "{name}: in the middle");
        assert!(blocked(at(HI - 1)), "{name}: at the last byte");
        assert!(blocked(returning_to(LO + 8)), "{name}: a call in the middle");
        assert!(blocked(returning_to(HI)), "{name}: the call is the last instruction");
        assert!(!blocked(at(HI)), "{name}: the first instruction of the next function");
        assert!(!blocked(returning_to(LO)), "{name}: the call is the last instruction of the function before");
        assert!(!blocked(at(LO - 1)) && !blocked(returning_to(HI + 1)), "{name}: just outside");
        let other = if matches!(target.live, Version::Original) { 0x5008 } else { target.parts[0].range.start + 8 };
        assert!(!blocked(at(other)) && !blocked(returning_to(other)), "{name}: the version that is not live");
    }
}

#[test]
fn nobody_may_go_on_inside_bytes_that_become_one_instruction() {
    let parts = vec![Part::version(0x5000..0x5040)];
    let target = Target { live: Version::Patched(parts), overwritten: Some(LO..LO + 5), ..Target::range("f", LO..HI) };
    assert!(is_blocked(&target, at(LO + 1)) && is_blocked(&target, at(LO + 4)));
    assert!(is_blocked(&target, returning_to(LO + 2)), "a call of two bytes stands there");
    assert!(!is_blocked(&target, at(LO)), "the new instruction is what it will run");
    assert!(!is_blocked(&target, at(LO + 5)) && !is_blocked(&target, returning_to(LO + 5)), "behind them");
}

#[test]
fn a_blocked_thread_says_where_and_what_to_wait_for() {
    let target = Target::range("f", LO..HI);
    let pcs = [0x8000, LO + 4, 0x8800, LO + 8, 0x9000, 0x9900];
    let mut frames: Vec<CodeAddress> = pcs.into_iter().map(CodeAddress::Return).collect();
    frames[0] = CodeAddress::Exact(0x8000);
    let hit = |frame, pc| Hit { frame, pc: CodeAddress::Return(pc), target: 0, part: Some(0) };
    let hits = vec![hit(1, LO + 4), hit(3, LO + 8)];
    let wait = Some(Wait { frame: 4, pc: 0x9000 });
    let blocked = Standing::Blocked { hits: hits.clone(), wait, doubts: vec![] };
    assert_eq!(standing(&target, trace(&frames)), blocked);
    // The outermost function itself never returns.
    let doubts = vec![];
    assert_eq!(standing(&target, trace(&frames[..4])), Standing::Blocked { hits, wait: None, doubts });
}

#[test]
fn blocked_outranks_untrusted_and_keeps_its_doubts() {
    let target = Target::range("f", LO..HI);
    let doubts = vec![Doubted { frame: 2, doubt: Doubt::NotAfterCall { return_address: 0x9000 } }];
    let doubtful = |trace: Trace| Trace { verdict: Verdict::Unreliable, doubts: doubts.clone(), believed: 2, ..trace };
    let Standing::Blocked { wait, doubts: kept, .. } = standing(&target, doubtful(returning_to(LO + 8))) else {
        panic!("not blocked");
    };
    assert_eq!((wait, &kept), (None, &doubts), "the frame above is not believed");
    let untrusted = Standing::Untrusted { doubts: doubts.clone(), missing: Missing::NONE, believed: 2 };
    assert_eq!(standing(&target, doubtful(returning_to(0x7000))), untrusted);
}

#[test]
fn only_a_reliable_trace_with_frames_is_clear() {
    let target = Target::range("f", LO..HI);
    let stopped = vec![Doubted { frame: 0, doubt: Doubt::Stopped(Error::Budget { frames: 1 }) }];
    let good = || returning_to(0x7000);
    let not_clear = [
        Trace { frames: vec![], ..good() },
        Trace { verdict: Verdict::Pending(Missing::ROOT), ..good() },
        Trace { verdict: Verdict::Unreliable, ..good() },
        // A verdict that its doubts contradict.
        Trace { doubts: stopped, ..good() },
    ];
    for trace in not_clear {
        assert!(matches!(standing(&target, trace), Standing::Untrusted { .. }));
    }
    assert_eq!(standing(&target, good()), Standing::Clear);
}

fn overall(targets: &[Target], traces: &[ThreadTrace], world: &World) -> Overall {
    decide(targets, traces, world).overall
}

fn one(state: State) -> ThreadTrace {
    ThreadTrace { of: Of::Thread(7), name: None, state }
}

#[test]
fn a_running_thread_is_waited_for_and_an_exited_one_is_not() {
    let targets = [Target::range("f", LO..HI)];
    let clear = || ThreadTrace::held(1, returning_to(0x7000));
    let running = [clear(), one(State::Running)];
    assert_eq!(overall(&targets, &running, &searched()), Overall::RetryLater(vec![Reason::Thread(1)]));
    assert_eq!(overall(&targets, &[clear(), one(State::Gone)], &searched()), Overall::Apply);
}

#[test]
fn without_threads_targets_or_a_search_nothing_is_allowed() {
    let targets = [Target::range("f", LO..HI)];
    let clear = [ThreadTrace::held(1, returning_to(0x7000))];
    let refused = |reason| Overall::Refuse(vec![reason]);
    assert_eq!(overall(&targets, &[], &searched()), refused(Reason::NoThreads));
    assert_eq!(overall(&targets, &[one(State::Gone)], &searched()), refused(Reason::NoThreads));
    let stack = ThreadTrace { of: Of::Stack(0), ..clear[0].clone() };
    assert_eq!(overall(&targets, &[stack], &searched()), refused(Reason::NoThreads));
    assert_eq!(overall(&[], &clear, &searched()), refused(Reason::NoTargets));
    assert_eq!(overall(&targets, &clear, &World::default()), refused(Reason::NotSearched));
    let empty = Target { live: Version::Patched(vec![]), ..targets[0].clone() };
    assert_eq!(overall(&[empty], &clear, &searched()), refused(Reason::NoCode(0)));
    let backwards = Target::range("f", std::ops::Range { start: HI, end: LO });
    assert_eq!(overall(&[backwards], &clear, &searched()), refused(Reason::NoCode(0)));
}

#[test]
fn an_obstacle_that_waiting_does_not_remove_refuses_whatever_else_there_is() {
    let targets = [Target::range("f", LO..HI)];
    let blocked = [ThreadTrace::held(1, at(LO))];
    let shares = Obstacle::SharesMemory { id: 9 };
    let world = |obstacle: &Obstacle| World { obstacles: vec![obstacle.clone()], ..searched() };
    let process = |obstacle: &Obstacle| Reason::Process(obstacle.clone());
    let refused = Overall::Refuse(vec![process(&shares), Reason::Thread(0)]);
    assert_eq!(overall(&targets, &blocked, &world(&shares)), refused);
    let clear = [ThreadTrace::held(1, at(HI))];
    for passing in [Obstacle::ThreadsChanged, Obstacle::ModulesChanged] {
        let later = Overall::RetryLater(vec![process(&passing)]);
        assert_eq!(overall(&targets, &clear, &world(&passing)), later);
    }
}

#[test]
fn of_many_targets_that_overlap_each_one_hit_is_named() {
    let mut targets: Vec<Target> = (0..100).map(|n| Target::range("small", 0x2000 + n * 16..0x2010 + n * 16)).collect();
    targets.push(Target::range("host", 0x1000..0x3000));
    let decision = decide(&targets, &[ThreadTrace::held(1, at(0x2000 + 16 * 50))], &searched());
    let [Answer { standing: Standing::Blocked { hits, .. }, .. }] = &decision.threads[..] else {
        panic!("not blocked");
    };
    assert_eq!(hits.iter().map(|hit| hit.target).collect::<Vec<_>>(), [100, 50]);
}
