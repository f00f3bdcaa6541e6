//! Compares a report with the truth, address by address.

use crate::truth::{Known, Truth};
use crate::victim::{Layout, Victim};

/// What a trace is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// From the interrupted pc to the outermost frame, nothing left out and nothing added.
    Complete,
    /// The first `right` of `of` frames, and then nothing more.
    Partial {
        /// Frames that are right, from the interrupted pc on.
        right: usize,
        /// Frames that there are.
        of: usize,
    },
    /// After so many right frames comes one that is not the next: frames are invented, or left out.
    Wrong {
        /// Frames that are right before it.
        right: usize,
        /// The address that should not be there.
        address: u64,
    },
    /// There are no frames at all.
    Nothing,
}

/// Frames of libraries that are accepted in a row where the truth says only "libraries".
const LIBRARY_LIMIT: usize = 16;

/// The best that can be said of any of the traces under any of the truths, wherever the interrupted pc comes: handlers
/// print frames of their own first.
pub fn best(traces: &[Vec<u64>], truths: &[Truth], victim: &Victim, layout: &Layout) -> Trace {
    if traces.iter().all(Vec::is_empty) {
        return Trace::Nothing;
    }
    let expected: Vec<Vec<Known>> = truths.iter().filter(|t| !t.chain.is_empty()).map(expected).collect();
    let of = expected.iter().map(|e| counted(e)).max().unwrap_or(0);
    let pairs = traces.iter().flat_map(|frames| expected.iter().map(move |e| (frames, e)));
    let found = pairs.flat_map(|(frames, expected)| {
        let begins = move |&i: &usize| frames.get(i).is_some_and(|&f| matches(expected.first(), f, victim, layout));
        let from = (0..frames.len()).filter(begins);
        from.map(|i| compare(frames.get(i..).unwrap_or(&[]), expected, victim, layout))
    });
    found.max_by_key(rank).unwrap_or(Trace::Partial { right: 0, of })
}

fn rank(trace: &Trace) -> usize {
    match trace {
        Trace::Complete => usize::MAX,
        Trace::Partial { right, .. } | Trace::Wrong { right, .. } => *right,
        Trace::Nothing => 0,
    }
}

/// The chain from the first frame that is certain to be there.
fn expected(truth: &Truth) -> Vec<Known> {
    let pc = truth.pc.map(Known::Exact);
    let all = pc.into_iter().chain(truth.chain.iter().map(|e| e.known));
    all.skip_while(|k| matches!(k, Known::Library | Known::Many(_))).collect()
}

fn counted(expected: &[Known]) -> usize {
    expected.iter().filter(|k| matches!(k, Known::Exact(_) | Known::Within(_))).count()
}

fn matches(known: Option<&Known>, frame: u64, victim: &Victim, layout: &Layout) -> bool {
    match known {
        Some(&Known::Exact(address)) => address == frame,
        Some(&Known::Within(start) | &Known::Many(start)) => victim.is_within(layout, start, frame),
        Some(Known::Library) => layout.is_library(frame),
        None => false,
    }
}

fn compare(frames: &[u64], expected: &[Known], victim: &Victim, layout: &Layout) -> Trace {
    let of = counted(expected);
    let (mut frames, mut right) = (frames.iter().copied().peekable(), 0);
    let mut rest = expected.iter().peekable();
    while let Some(known) = rest.next() {
        match known {
            Known::Library | Known::Many(_) => {
                let limit = if *known == Known::Library { LIBRARY_LIMIT } else { usize::MAX };
                let mut taken = 0;
                while taken < limit
                    && let Some(&frame) = frames.peek()
                    && !matches(rest.peek().copied(), frame, victim, layout)
                    && matches(Some(known), frame, victim, layout)
                {
                    frames.next();
                    taken += 1;
                }
            }
            Known::Exact(_) | Known::Within(_) => match frames.peek() {
                None => return Trace::Partial { right, of },
                Some(&frame) if matches(Some(known), frame, victim, layout) => {
                    frames.next();
                    right += 1;
                }
                Some(&address) => return Trace::Wrong { right, address },
            },
        }
    }
    match frames.next() {
        Some(address) => Trace::Wrong { right, address },
        None => Trace::Complete,
    }
}
