//! Counts right and wrong answers, and why the wrong ones are wrong.

use crate::contender::Answer;
use std::collections::HashMap;

/// Counts over one kind of sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often it was asked.
    pub asked: u64,
    /// The chain was the true one, every pc.
    pub right: u64,
    /// Right, and vouched for.
    pub right_trusted: u64,
    /// Wrong, and vouched for.
    pub false_trust: u64,
    /// How often it was asked when the program had written over a return address of the true chain, which nobody can
    /// read any more (libgcc's last steps to a landing pad); these count above like all others.
    pub erased: u64,
    /// Right even so.
    pub erased_right: u64,
}

impl Tally {
    fn note(&mut self, right: bool, erased: bool, trusted: bool) {
        self.asked += 1;
        self.erased += u64::from(erased);
        self.erased_right += u64::from(erased && right);
        self.right += u64::from(right);
        self.right_trusted += u64::from(right && trusted);
        self.false_trust += u64::from(!right && trusted);
    }

    /// Adds another tally's counts.
    pub fn add(&mut self, other: &Tally) {
        self.asked += other.asked;
        self.right += other.right;
        self.right_trusted += other.right_trusted;
        self.false_trust += other.false_trust;
        self.erased += other.erased;
        self.erased_right += other.erased_right;
    }
}

/// Why a stop was sampled; it can be both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Every Nth instruction.
    pub uniform: bool,
    /// The first visit of its pc.
    pub cover: bool,
}

/// How an answer departs from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Departure {
    /// It stops although there are callers.
    EndsEarly,
    /// It goes on past the outermost frame.
    GoesOn,
    /// It names another pc.
    Differs,
}

impl Departure {
    /// In a word or two.
    pub fn words(self) -> &'static str {
        match self {
            Departure::EndsEarly => "ends early",
            Departure::GoesOn => "goes on",
            Departure::Differs => "differs",
        }
    }
}

/// The first difference between an answer and the truth: its position, and its kind. `None` if they are equal.
pub fn departure(answer: &[u64], truth: &[u64]) -> Option<(usize, Departure)> {
    let at = answer.iter().zip(truth).take_while(|(a, b)| a == b).count();
    match (answer.get(at), truth.get(at)) {
        (None, None) => None,
        (None, Some(_)) => Some((at, Departure::EndsEarly)),
        (Some(_), None) => Some((at, Departure::GoesOn)),
        (Some(_), Some(_)) => Some((at, Departure::Differs)),
    }
}

/// One cause of wrong answers: the function whose caller was not found, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cause {
    /// Module and function of the last frame that was right.
    pub function: String,
    /// That frame is not the innermost one.
    pub caller: bool,
    /// What the answer did there.
    pub departure: Departure,
    /// Whether the contender vouched for it.
    pub trusted: bool,
}

/// How often a cause was seen, and the first time.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Stops of the uniform sample.
    pub uniform: u64,
    /// Stops of the cover sample.
    pub cover: u64,
    /// The first such stop, so that it can be found again.
    pub example: String,
}

/// One contender's results on one target.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Every Nth instruction.
    pub uniform: Tally,
    /// First visits.
    pub cover: Tally,
    /// Why the wrong answers are wrong.
    pub causes: HashMap<Cause, Seen>,
    /// Wrong answers that were vouched for, in full; kept for our own library only.
    pub false_trusts: Vec<String>,
    /// Why right answers were not vouched for, numbers left out, with an example; kept for our own library only.
    pub distrusts: HashMap<String, Seen>,
}

impl Score {
    /// Counts one answer; says where it departs from the truth.
    pub fn note(
        &mut self,
        answer: &Answer,
        truth: &[u64],
        erased: bool,
        sampled: Sampled,
    ) -> Option<(usize, Departure)> {
        let departure = departure(&answer.pcs, truth);
        if sampled.uniform {
            self.uniform.note(departure.is_none(), erased, answer.trusted);
        }
        if sampled.cover {
            self.cover.note(departure.is_none(), erased, answer.trusted);
        }
        departure
    }

    /// Adds another run's results.
    pub fn add(&mut self, other: &Score) {
        self.uniform.add(&other.uniform);
        self.cover.add(&other.cover);
        for (cause, seen) in &other.causes {
            let sum = self.causes.entry(cause.clone()).or_default();
            sum.uniform += seen.uniform;
            sum.cover += seen.cover;
            if sum.example.is_empty() {
                sum.example.clone_from(&seen.example);
            }
        }
        self.false_trusts.extend(other.false_trusts.iter().cloned());
        for (why, seen) in &other.distrusts {
            let sum = self.distrusts.entry(why.clone()).or_default();
            sum.uniform += seen.uniform;
            sum.cover += seen.cover;
            if sum.example.is_empty() {
                sum.example.clone_from(&seen.example);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pcs: &[u64], trusted: bool) -> Answer {
        Answer { pcs: pcs.to_vec(), trusted, why: String::new() }
    }

    #[test]
    fn a_chain_is_right_only_if_every_position_agrees() {
        assert_eq!(departure(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(departure(&[1, 2], &[1, 2, 3]), Some((2, Departure::EndsEarly)));
        assert_eq!(departure(&[1, 2, 3, 4], &[1, 2, 3]), Some((3, Departure::GoesOn)));
        assert_eq!(departure(&[1, 9, 3], &[1, 2, 3]), Some((1, Departure::Differs)));
        assert_eq!(departure(&[], &[1]), Some((0, Departure::EndsEarly)));
    }

    #[test]
    fn trust_in_a_wrong_chain_is_counted_apart_from_honest_failure() {
        let mut score = Score::default();
        let both = Sampled { uniform: true, cover: true };
        let once = Sampled { uniform: true, cover: false };
        score.note(&answer(&[1, 2], true), &[1, 2], false, both);
        score.note(&answer(&[1], true), &[1, 2], false, both);
        score.note(&answer(&[1], false), &[1, 2], true, once);
        score.note(&answer(&[1, 2], false), &[1, 2], false, once);
        let none = Tally::default();
        assert_eq!(score.uniform, Tally { asked: 4, right: 2, right_trusted: 1, false_trust: 1, erased: 1, ..none });
        assert_eq!(score.cover, Tally { asked: 2, right: 1, right_trusted: 1, false_trust: 1, ..none });
    }
}
