//! A record that a handler wrote: its frames are named, and its verdicts, which were given without files, are given anew.
//!
//! The frames are those that were recorded. What can change is what is thought of them: where nothing spoke against a trace
//! and evidence was missing, the files may have it. What was doubted at the time stays doubted.

mod recalled;
mod signature;

use super::{Analysis, Groups, Known, Options, Outcome, Store};
use crate::error::Error;
use crate::report::{FromRecord, FromRecorder, Head, Printer, Signatures, ThreadReport, words};
use crate::snapshot::Thread;
use crate::snapshot::record::{self, Recorded, Trace};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use surestack_capture::record::{MessageKind, Occasion};
use surestack_walk::Stop;

/// Reports on the record at `path`.
///
/// # Errors
/// When the file is not a record that can be read, when the thread asked for is not in it, or when the printer fails.
pub fn record(path: &Path, options: &Options, printer: &mut dyn Printer) -> Result<Outcome, Error> {
    print(&record::open(path, &options.find)?, path, options, printer)
}

/// Reports on what was read from the record at `path`.
pub(super) fn print(
    recorded: &Recorded,
    path: &Path,
    options: &Options,
    printer: &mut dyn Printer,
) -> Result<Outcome, Error> {
    let snapshot = &recorded.snapshot;
    let (known, store) = (Known::default(), Store::default());
    let crashed = snapshot.threads.first().filter(|_| recorded.crashed);
    let analysis = Analysis::new(snapshot, &known, &store, &[], options, crashed.map(|thread| thread.id));
    let chosen = analysis.chosen()?;
    let traces: HashMap<u32, &Trace> = snapshot.threads.iter().map(|thread| thread.id).zip(&recorded.traces).collect();
    let walked = |thread: &Thread| {
        let trace = traces.get(&thread.id).copied()?;
        Some(recalled::walked(&analysis, thread, trace, &recorded.unchanged))
    };

    let mut crash = crashed.and_then(|thread| Some(analysis.report(thread, walked(thread)?)));
    if let Some(report) = crash.as_mut().filter(|_| recorded.occasion == Some(Occasion::Panic)) {
        report.crashed = true;
    }
    printer.head(&head(&analysis, recorded, path, crash.as_ref()))?;
    let mut groups = Groups::default();
    for thread in chosen {
        match &crash {
            Some(report) if analysis.crashed(thread) => printer.thread(report)?,
            _ => walked(thread).into_iter().for_each(|walked| groups.add(thread, walked)),
        }
    }
    groups.print(&analysis, printer)?;
    let tail = analysis.tail();
    printer.tail(&tail)?;
    Ok(if tail.is_partial() { Outcome::Partial } else { Outcome::Whole })
}

pub(super) fn head(analysis: &Analysis<'_>, recorded: &Recorded, source: &Path, crash: Option<&ThreadReport>) -> Head {
    let crashed = analysis.snapshot.threads.first().filter(|_| recorded.crashed);
    let is_told = crashed.is_some_and(|thread| thread.signal.is_some() || thread.stop != Stop::default());
    let panic = || recorded.messages.iter().find(|(by, _)| *by == MessageKind::Panic);
    let what = match (recorded.occasion, crashed) {
        (Some(Occasion::Panic), _) => panic().map_or_else(|| "a panic".to_owned(), |(_, text)| panicked(text)),
        (Some(Occasion::Requested), _) => "no crash: somebody asked for the report".to_owned(),
        (_, Some(thread)) if is_told => words::what(analysis.snapshot, thread, &|pc| analysis.function(pc)),
        _ => "a crash: what happened is not in the record any more".to_owned(),
    };
    let kind = |kind: MessageKind| match kind {
        MessageKind::Abort => "abort",
        MessageKind::Assert => "assert",
        MessageKind::Panic => "panic",
    };
    let head = analysis.head(source);
    let threads = head.threads.saturating_add(analysis.snapshot.absent.len());
    let (signal, signal_number) = if is_told { (head.signal, head.signal_number) } else { (None, None) };
    let functions = crash.and_then(signature::of_functions);
    let from = FromRecord {
        time: recorded.time,
        messages: recorded.messages.iter().map(|(by, text)| (kind(*by), text.clone())).collect(),
        signatures: Signatures { places: recorded.signature, functions },
    };
    let is_crash = recorded.occasion != Some(Occasion::Requested);
    let recorder = recorded.recorder.clone().map(|found| {
        let (process, moment) = (analysis.snapshot.process.pid, recorded.monotonic.filter(|_| is_crash));
        Arc::new(FromRecorder::new(found, process, crashed.map(|thread| thread.id), moment))
    });
    Head { recorder, what, threads, signal, signal_number, recorded: Some(from), ..head }
}

/// A panic in one line. The standard hook's text begins with the place.
fn panicked(text: &str) -> String {
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    match text.strip_prefix("panicked at ").and_then(|rest| rest.split_once(":\n")) {
        Some((place, said)) if !place.contains('\n') => format!("panic: {}, at {place}", first(said)),
        _ => format!("panic: {}", first(text)),
    }
}
