//! Is "clear" ever said of a thread that will return into a target, and how often is what is clear called so?
//!
//! At sampled stops of a stepped program a set of functions is drawn, half of them with one that the true chain runs in,
//! and the library decides from its own trace of the thread whether they may be replaced. The truth is the shadow's: the
//! thread is clear if and only if no pc of its true chain lies in any of them.

mod draw;
pub mod table;

use crate::contender::ours::Surestack;
use crate::error::{Error, Result};
use crate::functions::Functions;
use crate::measure::{Plan, without_numbers};
use crate::random::Random;
use crate::session::{Event, Session};
use crate::shadow::Certainty;
use crate::symbols::Symbols;
use crate::targets::Target;
use draw::Draw;
use std::collections::BTreeMap;
use std::ops::Range;
use surestack::consistency::{self, Standing, ThreadTrace, Unlisted, World, decide};

/// Stops of one program, by the truth and by what was said.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Instructions executed.
    pub steps: u64,
    /// Stops in the middle of a transfer (longjmp, swapcontext), where the truth is known later only: not asked.
    pub unjudged: u64,
    /// The thread will return into a target.
    pub blocked: Said,
    /// It will not.
    pub clear: Said,
    /// Of the blocked ones called so: every frame in a target was named, and no other.
    pub exact: u64,
    /// Each "clear" that is wrong, in full.
    pub false_clear: Vec<String>,
    /// Why what is clear was not called so.
    pub reasons: BTreeMap<String, u64>,
    /// The first time, for each reason.
    pub examples: BTreeMap<String, String>,
}

/// What was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// It will not return into any of the targets.
    pub clear: u64,
    /// It will.
    pub blocked: u64,
    /// The trace is not to be trusted.
    pub untrusted: u64,
}

impl Said {
    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.clear + self.blocked + self.untrusted
    }
}

/// Steps one target and decides at every sampled stop.
pub fn measure(target: &Target, plan: &Plan) -> Result<Counts> {
    let mut session = Session::start(&mut target.command()?, plan.begin)?;
    let mut run = Run {
        name: target.name,
        ours: Surestack::default(),
        functions: Functions::default(),
        symbols: Symbols::default(),
        draw: Draw::new(Random::of(target.name)),
        counts: Counts::default(),
    };
    while let Event::Stopped { .. } = session.step()? {
        let step = session.counts().steps;
        if let Some((signal, every)) = plan.inject
            && step % every == 0
        {
            session.inject(signal)?;
        }
        if step % plan.every == 0 {
            run.ask(&mut session)?;
        }
        if step >= plan.max_steps {
            break;
        }
    }
    run.counts.steps = session.counts().steps;
    Ok(run.counts)
}

struct Run {
    name: &'static str,
    ours: Surestack,
    functions: Functions,
    symbols: Symbols,
    draw: Draw,
    counts: Counts,
}

impl Run {
    fn ask(&mut self, session: &mut Session) -> Result<()> {
        let truth = session.truth()?;
        if truth.certainty != Certainty::Known {
            self.counts.unjudged += 1;
            return Ok(());
        }
        let inside: Vec<u64> = truth.inside().collect();
        let stop = session.stop()?;
        let targets = self.draw.targets(&mut self.functions, stop.modules, &inside);
        let hit = |range: &Range<u64>| inside.iter().any(|pc| range.contains(pc));
        let blocked = targets.iter().any(hit);
        let named = |range: &Range<u64>| consistency::Target::range("drawn", range.clone());
        let set: Vec<_> = targets.iter().map(named).collect();
        let trace = self.ours.look(&stop, ThreadTrace::record).map_err(|e| Error::new(e.to_string()))?;
        let vouched = World { unlisted: Unlisted::Vouched, obstacles: vec![] };
        let decision = decide(&set, &[trace], &vouched);
        let Some(answer) = decision.threads.first() else {
            return Err(Error::new("no answer for the one thread"));
        };
        let said = if blocked { &mut self.counts.blocked } else { &mut self.counts.clear };
        let why = match &answer.standing {
            Standing::Clear => {
                said.clear += 1;
                None
            }
            Standing::Blocked { hits, .. } => {
                said.blocked += 1;
                let frames = |i: usize| targets.iter().any(|range| inside.get(i).is_some_and(|pc| range.contains(pc)));
                let expected: Vec<usize> = (0..inside.len()).filter(|&i| frames(i)).collect();
                let mut found: Vec<usize> = hits.iter().map(|hit| hit.frame).collect();
                found.dedup();
                self.counts.exact += u64::from(blocked && found == expected);
                Some("a frame is said to be in a target".to_owned())
            }
            Standing::Untrusted { doubts, missing, .. } => {
                said.untrusted += 1;
                let doubt = doubts.first().map(|doubted| without_numbers(&doubted.doubt.to_string()));
                Some(doubt.unwrap_or_else(|| format!("evidence is missing: {missing}")))
            }
            Standing::Running | Standing::Gone => return Err(Error::new("a stopped thread is said to run")),
        };
        let step = session.counts().steps;
        let stop = session.stop()?;
        let mut describe = || {
            let pc = self.symbols.place(stop.modules, stop.registers.rip);
            format!("{} step {step} pc {pc}, targets {targets:x?}, true chain {:x?}", self.name, truth.pcs)
        };
        match (blocked, why) {
            (true, None) => self.counts.false_clear.push(describe()),
            (false, Some(why)) => {
                self.counts.examples.entry(why.clone()).or_insert_with(describe);
                *self.counts.reasons.entry(why).or_default() += 1;
            }
            _ => {}
        }
        Ok(())
    }
}
