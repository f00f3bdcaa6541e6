//! A set of targets, run side by side.

use crate::contender;
use crate::error::Result;
use crate::measure::{Outcome, Plan, measure};
use crate::targets::Target;
use crate::tracee;
use std::sync::Mutex;
use std::thread;

/// A target, and what came of running it.
pub type Ran<T> = (&'static Target, Result<T>);

/// Runs each target by its plan, `jobs` at a time; `report` hears of each as it ends. The results are in the order of
/// the targets.
pub fn run<T: Send>(
    targets: &[(&'static Target, Plan)],
    jobs: usize,
    work: impl Fn(&Target, &Plan) -> Result<T> + Sync,
    report: impl Fn(&Ran<T>) + Sync,
) -> Vec<Ran<T>> {
    let queue = Mutex::new(targets.iter().enumerate().rev().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for job in 0..jobs {
            let (queue, done, work, report) = (&queue, &done, &work, &report);
            scope.spawn(move || {
                tracee::stay_on(job);
                while let Some((i, (target, plan))) = queue.lock().ok().and_then(|mut q| q.pop()) {
                    let ran = (*target, work(target, plan));
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

/// The work of measuring: every contender is asked, each run with contenders of its own.
pub fn measured(target: &Target, plan: &Plan) -> Result<Outcome> {
    measure(target.name, &mut target.command()?, plan, &mut contender::all())
}
