//! A process that has crashed and waits in its handler, read by a helper that the handler started: all threads are walked
//! with the evidence of files, the crashed one from the registers in the record.

use super::record::{self, head};
use super::{Analysis, Groups, Known, Options, Outcome, Store, Walked, markers};
use crate::error::Error;
use crate::report::{Head, Printer};
use crate::snapshot::process::hold::{self, Hold};
use crate::snapshot::record::Recorded;
use crate::snapshot::{Gap, Snapshot, Thread};
use std::path::Path;
use std::time::Duration;

/// Reports on process `pid`, whose handler wrote the record at `path`. Its threads have until `within` to stop; they are let
/// go before anything is printed. Where it cannot be read the report is that of the record, and says so.
///
/// # Errors
/// When the file is not a record that can be read, when a marker is no function, or when the printer fails.
pub fn crashed(
    pid: u32,
    path: &Path,
    within: Duration,
    options: &Options,
    printer: &mut dyn Printer,
) -> Result<Outcome, Error> {
    let mut recorded = crate::snapshot::record::open(path, &options.find)?;
    let (known, store) = (Known::default(), Store::default());
    let stopped = Hold::stop(pid, &hold::Options { deadline: within, find: options.find.clone() });
    let (hold, threads) = match stopped.map_err(|error| error.to_string()).and_then(|hold| {
        let threads = threads(hold.snapshot(), &recorded)?;
        Ok((hold, threads))
    }) {
        Ok(both) => both,
        Err(why) => {
            let what = format!("what the helper process should have added: {why}");
            recorded.snapshot.gaps.push(Gap::Unchecked { what });
            return record::print(&recorded, path, options, printer);
        }
    };
    let first = threads.first().map(|thread| thread.id);
    let markers = markers(hold.snapshot(), options)?;
    let walking = Analysis::new(hold.snapshot(), &known, &store, &markers, options, first);
    let walked: Vec<Walked> = threads.iter().map(|thread| walking.walk(thread)).collect();
    let is_killed = !hold.snapshot().space.may_change && !hold.still_holds();
    let (mut snapshot, held) = hold.resume();
    snapshot.threads = threads;
    snapshot.gaps.extend(recorded.snapshot.gaps.iter().filter(|gap| matches!(gap, Gap::StepFailed { .. })).cloned());
    if is_killed {
        let what = "all of its stacks: it was killed while they were walked".to_owned();
        snapshot.gaps.push(Gap::Unchecked { what });
    }

    let analysis = Analysis::new(&snapshot, &known, &store, &markers, options, first);
    let mut stacks = snapshot.threads.iter().zip(walked);
    let crash = stacks.next().map(|(thread, walked)| analysis.report(thread, walked));
    printer.head(&Head { held: Some(held), ..head(&analysis, &recorded, path, crash.as_ref()) })?;
    crash.iter().try_for_each(|report| printer.thread(report))?;
    let mut groups = Groups::default();
    stacks.for_each(|(thread, walked)| groups.add(thread, walked));
    groups.print(&analysis, printer)?;
    let tail = analysis.tail();
    printer.tail(&tail)?;
    Ok(if tail.is_partial() { Outcome::Partial } else { Outcome::Whole })
}

/// The threads as they stand, the one that crashed first, and as it was when it did. Why not, in words, if it is not there.
fn threads(snapshot: &Snapshot, recorded: &Recorded) -> Result<Vec<Thread>, String> {
    let crashed = recorded.snapshot.threads.first().filter(|_| recorded.crashed);
    let crashed = crashed.ok_or("the record does not say which thread crashed")?;
    if !snapshot.threads.iter().any(|thread| thread.id == crashed.id) {
        return Err(format!("the thread that crashed, {}, is not there any more", crashed.id));
    }
    let others = snapshot.threads.iter().filter(|thread| thread.id != crashed.id);
    Ok([crashed].into_iter().chain(others).cloned().collect())
}
