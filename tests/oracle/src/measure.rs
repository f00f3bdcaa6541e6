//! One program, stepped from beginning to end, with every contender asked at the sampled stops.

use crate::contender::{Answer, Contender};
use crate::error::Result;
use crate::score::{Cause, Sampled, Score};
use crate::session::{Begin, Counts, Event, Session, Truth};
use crate::shadow::{Certainty, Landing};
use crate::symbols::Symbols;
use crate::tracee::Wait;
use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::time::{Duration, Instant};

/// What to sample, and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where stepping begins.
    pub begin: Begin,
    /// Every Nth instruction is a uniform sample.
    pub every: u64,
    /// At every Nth of these samples everybody is asked; at the others only our own library, which is much the fastest.
    pub peers_every: u64,
    /// The program is ended after so many instructions.
    pub max_steps: u64,
    /// A signal to inject, and every how many instructions.
    pub inject: Option<(i32, u64)>,
}

/// What came of it.
pub struct Outcome {
    /// The target's name.
    pub name: String,
    /// One score for each contender, in their order.
    pub scores: Vec<Score>,
    /// What was stepped over.
    pub counts: Counts,
    /// In which function the outermost pc of the truth lay, and how often: a check on the shadow itself.
    pub roots: BTreeMap<String, u64>,
    /// Sampled stops without a known truth: a signal had interrupted a transfer.
    pub unjudged: u64,
    /// How the program ended; `None` if it was cut off at the limit.
    pub end: Option<Wait>,
    /// How long it took.
    pub took: Duration,
}

struct Asked {
    step: u64,
    sampled: Sampled,
    pcs: Vec<u64>,
    erased: bool,
    /// One for each contender, none of those that were not asked.
    answers: Vec<Option<Answer>>,
}

/// The name under which our own library is listed: its false trusts are kept in full.
pub const OURS: &str = "surestack";

/// Steps `command` by `plan`, asking everybody.
pub fn measure(
    name: &str,
    command: &mut Command,
    plan: &Plan,
    contenders: &mut [Box<dyn Contender>],
) -> Result<Outcome> {
    let began = Instant::now();
    let mut session = Session::start(command, plan.begin)?;
    let mut judge = Judge {
        name: name.to_owned(),
        names: contenders.iter().map(|c| c.name().to_owned()).collect(),
        scores: vec![Score::default(); contenders.len()],
        symbols: Symbols::default(),
        roots: BTreeMap::new(),
        unjudged: 0,
        peers_every: plan.every * plan.peers_every,
    };
    let mut waiting: HashMap<i32, Vec<Asked>> = HashMap::new();
    let end = loop {
        let (first_visit, landing) = match session.step()? {
            Event::Ended(wait) => break Some(wait),
            Event::Stopped { first_visit, landing } => (first_visit, landing),
        };
        if let Some(landing) = landing {
            for asked in waiting.remove(&session.tid()).unwrap_or_default() {
                judge.land(&mut session, asked, landing)?;
            }
        }
        let step = session.counts().steps;
        if let Some((signal, every)) = plan.inject
            && step % every == 0
        {
            session.inject(signal)?;
        }
        let sampled = Sampled { uniform: step % plan.every == 0, cover: first_visit };
        if sampled.uniform || sampled.cover {
            let Truth { pcs, certainty, erased, .. } = session.truth()?;
            if certainty == Certainty::Unknown {
                judge.unjudged += 1;
            } else {
                let stop = session.stop()?;
                let everybody = sampled.cover || step % (plan.every * plan.peers_every) == 0;
                let mut ask = |c: &mut Box<dyn Contender>| (everybody || c.name() == OURS).then(|| c.ask(&stop));
                let answers = contenders.iter_mut().map(&mut ask).collect();
                let asked = Asked { step, sampled, pcs, erased, answers };
                match certainty {
                    Certainty::Landing => waiting.entry(session.tid()).or_default().push(asked),
                    _ => judge.judge(&mut session, &asked)?,
                }
            }
        }
        if step >= plan.max_steps {
            break None;
        }
    };
    judge.unjudged += waiting.values().map(|w| w.len() as u64).sum::<u64>();
    let counts = session.counts();
    drop(session);
    let Judge { name, scores, roots, unjudged, .. } = judge;
    Ok(Outcome { name, scores, counts, roots, unjudged, end, took: began.elapsed() })
}

struct Judge {
    name: String,
    names: Vec<String>,
    scores: Vec<Score>,
    symbols: Symbols,
    roots: BTreeMap<String, u64>,
    unjudged: u64,
    /// Every so many instructions is a uniform sample of the others.
    peers_every: u64,
}

impl Judge {
    /// Judges a stop that had to wait for the end of its transfer.
    fn land(&mut self, session: &mut Session, mut asked: Asked, landing: Landing) -> Result<()> {
        let arrived = match landing {
            Landing::Arrived => session.truth()?.pcs,
            Landing::Called => session.truth()?.pcs.into_iter().skip(2).collect(),
            Landing::Stayed => asked.pcs.split_off(1),
        };
        asked.pcs.truncate(1);
        asked.pcs.extend(arrived);
        self.judge(session, &asked)
    }

    fn judge(&mut self, session: &mut Session, asked: &Asked) -> Result<()> {
        let Asked { step, sampled, pcs: truth, erased, answers } = asked;
        let stop = session.stop()?;
        let last = truth.last().copied().unwrap_or_default();
        let root = self.symbols.place(stop.modules, last);
        *self.roots.entry(root.in_function()).or_default() += 1;
        for ((score, name), answer) in self.scores.iter_mut().zip(&self.names).zip(answers) {
            let Some(answer) = answer else { continue };
            let uniform = sampled.uniform && (name == OURS || step % (self.peers_every) == 0);
            let sampled = &Sampled { uniform, ..*sampled };
            let Some((at, departure)) = score.note(answer, truth, *erased, *sampled) else {
                if name == OURS && !answer.trusted {
                    let mut name = |address| self.symbols.place(stop.modules, address).in_function();
                    let why = with_addresses(&answer.why, &mut name);
                    let seen = score.distrusts.entry(why).or_default();
                    seen.uniform += u64::from(sampled.uniform);
                    seen.cover += u64::from(sampled.cover);
                    if seen.example.is_empty() {
                        let pc = self.symbols.place(stop.modules, truth.first().copied().unwrap_or_default());
                        seen.example = format!("{} step {step} pc {pc}: [{}]; {}", self.name, hex(truth), answer.why);
                    }
                }
                continue;
            };
            let last_right = truth.get(at.saturating_sub(1)).copied().unwrap_or_default();
            let place = self.symbols.place(stop.modules, last_right);
            let cause = Cause { function: place.in_function(), caller: at > 1, departure, trusted: answer.trusted };
            let vouched_for_ours = answer.trusted && name == OURS;
            let seen = score.causes.entry(cause).or_default();
            seen.uniform += u64::from(sampled.uniform);
            seen.cover += u64::from(sampled.cover);
            if seen.example.is_empty() || vouched_for_ours {
                let pc = self.symbols.place(stop.modules, truth.first().copied().unwrap_or_default());
                let text = format!(
                    "{} step {step} pc {pc}: frame {} at {place}; said [{}], true [{}]; {}",
                    self.name,
                    at.saturating_sub(1),
                    hex(&answer.pcs),
                    hex(truth),
                    answer.why
                );
                if vouched_for_ours {
                    score.false_trusts.push(text.clone());
                }
                if seen.example.is_empty() {
                    seen.example = text;
                }
            }
        }
        Ok(())
    }
}

/// A reason with every number in it replaced, so that equal reasons count together.
pub(crate) fn without_numbers(why: &str) -> String {
    with_addresses(why, &mut |_| "…".to_owned())
}

/// A reason without its frame, its addresses by what they are called.
fn with_addresses(why: &str, name: &mut dyn FnMut(u64) -> String) -> String {
    let mut plain = |word: &str| {
        let digits = word.strip_prefix("0x").map(|rest| rest.trim_end_matches(|c: char| !c.is_ascii_hexdigit()));
        let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        address.map_or_else(|| word.to_owned(), &mut *name)
    };
    let words = why.trim_start_matches("frame ").trim_start_matches(|c: char| c.is_ascii_digit()).split(' ');
    words.map(&mut plain).collect::<Vec<_>>().join(" ")
}

fn hex(pcs: &[u64]) -> String {
    let words: Vec<String> = pcs.iter().map(|pc| format!("{pc:x}")).collect();
    words.join(" ")
}
