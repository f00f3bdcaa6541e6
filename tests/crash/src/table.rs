//! Every scene under every contender, as a table of words.

use crate::contender::{CONTENDERS, Contender};
use crate::judge::Trace;
use crate::run::{self, Death};
use crate::scenes::{Leaves, SCENES, Scene};
use crate::victim::Victim;
use crate::victims::{Linked, Victims};
use std::fmt;
use surestack_oracle::error::Result;

/// What became of one scene under one contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It ended, leaving this trace.
    Ended {
        /// What the trace is worth.
        trace: Trace,
        /// Whether the victim died as it would have without a handler.
        status: Status,
    },
    /// It did not end.
    Hang {
        /// What the trace that came before is worth.
        trace: Trace,
    },
    /// This machine does not allow the scene.
    Unable,
}

/// Whether a victim died as it would have without a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did.
    Kept,
    /// It lived on, or died of something else.
    Lost,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = match self {
            Cell::Unable => return f.write_str("not here"),
            Cell::Ended { trace, .. } => trace,
            Cell::Hang { trace } => {
                f.write_str("HANG")?;
                if *trace == Trace::Nothing {
                    return Ok(());
                }
                f.write_str(" after: ")?;
                trace
            }
        };
        match trace {
            Trace::Complete => f.write_str("complete")?,
            Trace::Partial { right, of } => write!(f, "partial ({right} of {of})")?,
            Trace::Wrong { right, .. } => write!(f, "wrong after {right}")?,
            Trace::Nothing => f.write_str("none")?,
        }
        match self {
            Cell::Ended { status: Status::Lost, .. } => f.write_str(", status lost"),
            _ => Ok(()),
        }
    }
}

impl Cell {
    fn badness(&self) -> usize {
        match self {
            Cell::Hang { .. } => 1000,
            Cell::Unable => 0,
            Cell::Ended { trace, status } => {
                let lost = if *status == Status::Lost { 100 } else { 0 };
                let trace = match trace {
                    Trace::Complete => 0,
                    Trace::Partial { .. } => 1,
                    Trace::Nothing => 2,
                    Trace::Wrong { .. } => 3,
                };
                lost + trace
            }
        }
    }
}

/// Runs a scene as often as it asks for; the worst counts.
pub fn cell(victim: &Victim, scene: &Scene, contender: Contender, without: Option<i32>) -> Result<Cell> {
    let mut worst: Option<Cell> = None;
    for _ in 0..scene.times {
        let death = run::run(victim, scene, contender)?;
        let cell = judge(&death, victim, scene, contender, without);
        death.tidy();
        if worst.is_none_or(|w| w.badness() < cell.badness()) {
            worst = Some(cell);
        }
    }
    Ok(worst.unwrap_or(Cell::Unable))
}

/// Judges one death; `without` is the fate of a victim without handler.
pub fn judge(death: &Death, victim: &Victim, scene: &Scene, contender: Contender, without: Option<i32>) -> Cell {
    if death.is_unable() {
        return Cell::Unable;
    }
    let trace = death.trace(contender, victim);
    let Some(fate) = death.fate() else {
        return Cell::Hang { trace };
    };
    let as_it_would = Some(fate) == without || Some(fate) == scene.also;
    Cell::Ended { trace, status: if as_it_would { Status::Kept } else { Status::Lost } }
}

/// The fate of a victim without handler.
pub fn without(victim: &Victim, scene: &Scene) -> Result<Option<i32>> {
    let death = run::run(victim, scene, Contender::None)?;
    death.tidy();
    Ok(death.fate())
}

/// The whole table, as Markdown. `tell` is called with each row as it is done.
pub fn table(victims: &Victims, tell: &mut dyn FnMut(&str)) -> Result<String> {
    let names: Vec<&str> = CONTENDERS.iter().map(|c| c.name()).collect();
    let mut text = format!("| scene | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let mut rows: Vec<(Scene, Vec<Cell>)> = Vec::new();
    for scene in SCENES {
        let without = without(victims.of(Contender::None)?, scene)?;
        let cell = |c: &Contender| cell(victims.of(*c)?, scene, *c, without);
        let cells: Vec<Cell> = CONTENDERS.iter().map(cell).collect::<Result<_>>()?;
        let words: Vec<String> = cells.iter().map(Cell::to_string).collect();
        let row = format!("| {} | {} |\n", scene.says, words.join(" | "));
        tell(&row);
        text.push_str(&row);
        rows.push((*scene, cells));
    }
    text.push_str(&totals(&rows));
    Ok(text)
}

/// Every scene under our handler, a column for each way to link.
pub fn builds(victims: &[(Linked, Victims)], tell: &mut dyn FnMut(&str)) -> Result<String> {
    let names: Vec<&str> = victims.iter().map(|(linked, _)| linked.words()).collect();
    let mut text = format!("| scene | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for scene in SCENES {
        let words = victims.iter().map(|(_, victims)| {
            let victim = victims.of(Contender::Ours)?;
            Ok(cell(victim, scene, Contender::Ours, without(victim, scene)?)?.to_string())
        });
        let words: Vec<String> = words.collect::<Result<_>>()?;
        let row = format!("| {} | {} |\n", scene.says, words.join(" | "));
        tell(&row);
        text.push_str(&row);
    }
    Ok(text)
}

fn totals(rows: &[(Scene, Vec<Cell>)]) -> String {
    let trace = |cell: &Cell| match cell {
        Cell::Ended { trace, .. } | Cell::Hang { trace } => *trace,
        Cell::Unable => Trace::Nothing,
    };
    type Question<'a> = (&'a str, Box<dyn Fn(&Scene, &Cell) -> bool + 'a>);
    let questions: [Question<'_>; 5] = [
        ("any frames", Box::new(|_, c| trace(c) != Trace::Nothing)),
        ("complete", Box::new(|_, c| trace(c) == Trace::Complete)),
        ("frames invented or left out", Box::new(|_, c| matches!(trace(c), Trace::Wrong { .. }))),
        ("hangs", Box::new(|_, c| matches!(c, Cell::Hang { .. }))),
        ("status lost", Box::new(|_, c| matches!(c, Cell::Ended { status: Status::Lost, .. }))),
    ];
    let mut text = String::new();
    for (name, holds) in questions {
        text.push_str(&format!("| **{name}** |"));
        for column in 0..CONTENDERS.len() {
            let count = rows.iter().filter(|(s, cells)| cells.get(column).is_some_and(|c| holds(s, c))).count();
            text.push_str(&format!(" {count} of {} |", rows.len()));
        }
        text.push('\n');
    }
    let possible = rows.iter().filter(|(s, _)| s.leaves == Leaves::All).count();
    text.push_str(&format!("\n{possible} of the {} scenes leave the whole chain in memory.\n", rows.len()));
    text
}
