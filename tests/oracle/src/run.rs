//! A set of targets, run side by side.

use crate::contender;
use crate::error::Result;
use crate::measure::{Outcome, Plan, measure};
use crate::targets::Target;
use crate::tracee;
use std::sync::Mutex;
use std::thread;

/// A target, and what came of running it.
pub type Ran = (&'static Target, Result<Outcome>);

/// Runs each target by its plan, `jobs` at a time, each with contenders of its own; `report` hears of each as it ends.
/// The results are in the order of the targets.
pub fn run(targets: &[(&'static Target, Plan)], jobs: usize, report: impl Fn(&Ran) + Sync) -> Vec<Ran> {
    let queue = Mutex::new(targets.iter().enumerate().rev().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for job in 0..jobs {
            let (queue, done, report) = (&queue, &done, &report);
            scope.spawn(move || {
                tracee::stay_on(job);
                while let Some((i, (target, plan))) = queue.lock().ok().and_then(|mut q| q.pop()) {
                    let mut command = target.command();
                    let outcome = command.as_mut().map_err(|e| e.clone());
                    let outcome = outcome.and_then(|c| measure(target.name, c, plan, &mut contender::all()));
                    let ran = (*target, outcome);
                    report(&ran);
                    if let Ok(mut done) = done.lock() {
                        done.push((i, ran));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, ran)| ran).collect()
}
