//! A live process: stopped, walked, let go, and only then named and printed.

use super::{Analysis, Groups, Known, Options, Outcome, Store, Walked, markers, name};
use crate::error::Error;
use crate::report::{FromRecorder, Head, Printer};
use crate::snapshot::Gap;
use crate::snapshot::process::hold::{self, Hold};
use crate::snapshot::recorder;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Reports on process `pid`, which is stopped while its stacks are walked, and no longer. Its threads have until
/// `deadline` to stop.
///
/// # Errors
/// When it cannot be stopped or read, when the thread or the function asked for is not in it, or when the printer fails.
pub fn process(pid: u32, deadline: Duration, options: &Options, printer: &mut dyn Printer) -> Result<Outcome, Error> {
    let (known, store) = (Known::default(), Store::default());
    let hold = Hold::stop(pid, &hold::Options { deadline, find: options.find.clone() })?;
    let doing: HashMap<u32, String> = hold
        .snapshot()
        .threads
        .iter()
        .filter_map(|thread| Some((thread.id, hold.doing(thread.id)?.to_owned())))
        .collect();
    let markers = markers(hold.snapshot(), options)?;
    let stacks = stacks(&Analysis::new(hold.snapshot(), &known, &store, &markers, options, None))?;
    // Where something runs on it does not hold anyway, and the report says so.
    let is_killed = !hold.snapshot().space.may_change && !hold.still_holds();
    let (mut snapshot, held) = hold.resume();
    if is_killed {
        let what = "all of its stacks: it was killed while they were walked".to_owned();
        snapshot.gaps.push(Gap::Unchecked { what });
    }

    let analysis = Analysis::new(&snapshot, &known, &store, &markers, options, None);
    let source = format!("/proc/{pid}");
    let what = match doing.get(&pid) {
        Some(doing) => format!("live process, {doing}"),
        None => "live process".to_owned(),
    };
    let head = analysis.head(Path::new(&source));
    let found = recorder::of_process(pid);
    let recorder = found.map(|found| Arc::new(FromRecorder::new(found, Some(pid), None, None)));
    printer.head(&Head { recorder, what, signal: None, signal_number: None, held: Some(held), ..head })?;
    for (ids, walked) in stacks {
        let named = |id: &u32| snapshot.threads.iter().find(|thread| thread.id == *id);
        let threads: Vec<_> = ids.iter().filter_map(named).collect();
        let Some(first) = threads.first() else { continue };
        let mut report = analysis.report(first, walked);
        report.threads = threads.iter().map(|thread| name(thread)).collect();
        report.threads.iter_mut().for_each(|thread| thread.doing = doing.get(&thread.id).cloned());
        printer.thread(&report)?;
    }
    let tail = analysis.tail();
    printer.tail(&tail)?;
    Ok(if tail.is_partial() { Outcome::Partial } else { Outcome::Whole })
}

/// The stacks of the threads that were asked for, with the ids of those that have each.
fn stacks(analysis: &Analysis<'_>) -> Result<Vec<(Vec<u32>, Walked)>, Error> {
    let mut groups = Groups::default();
    for thread in analysis.chosen()? {
        groups.add(thread, analysis.walk(thread));
    }
    let ids = |(threads, walked): (Vec<&super::Thread>, _)| (threads.iter().map(|thread| thread.id).collect(), walked);
    Ok(groups.list.into_iter().map(ids).collect())
}
