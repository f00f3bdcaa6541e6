//! The flight recorder as text: annotations at the head of a report, events at its end.

use super::{BRIEF_EVENTS, Length, Text, count, grouped, printable};
use crate::recorder::text::Line;
use crate::recorder::{Annotation, Event, ThreadEvents};
use crate::report::FromRecorder;
use crate::snapshot::recorder::RecorderPlace;
use std::io::{self, Write};

/// Annotations that are shown.
const ANNOTATIONS: usize = 32;

impl<W: Write> Text<W> {
    pub(super) fn annotations(&mut self, recorder: &FromRecorder) -> io::Result<()> {
        let annotations = &recorder.recording.annotations;
        for Annotation { key, value } in annotations.iter().take(ANNOTATIONS) {
            let value = value.as_ref().map_or_else(|| "(never finished)".to_owned(), ToString::to_string);
            writeln!(self.out, "  noted    {} = {value}", printable(key))?;
        }
        match annotations.len().saturating_sub(ANNOTATIONS) {
            0 => Ok(()),
            more => writeln!(self.out, "  noted    … {} more", count(more, "annotation")),
        }
    }

    /// The last events of the crashed thread, and of all together; what is not there.
    pub(super) fn events(&mut self, recorder: &FromRecorder) -> io::Result<()> {
        let most = if self.length == Length::Brief { BRIEF_EVENTS } else { self.events };
        let recording = &recorder.recording;
        let crashed = recorder.last_of_crashed(most);
        if let Some(thread) = recorder.of_crashed() {
            let all = thread.events.len();
            self.titled(&format!("of thread {}, which crashed", thread.tid), recorder, &crashed, all)?;
        }
        let wrote = recording.threads.iter().filter(|thread| !thread.events.is_empty()).count();
        let is_all = crashed.is_empty() || wrote > 1;
        if is_all && (self.length != Length::Brief || crashed.is_empty()) {
            let last = recording.last(None, most);
            let all = recording.threads.iter().map(|thread| thread.events.len()).fold(0, usize::saturating_add);
            let threads = count(recording.threads.len(), "thread");
            self.titled(&format!("of all {threads} that wrote"), recorder, &last, all)?;
        }
        for sentence in missing(recorder) {
            writeln!(self.out, "  {}", self.paint.faint(&printable(&sentence)))?;
        }
        let damaged = |sentence: &String| format!("  {} {}", self.paint.name("damaged:"), printable(sentence));
        let damage: Vec<_> = recording.damage.iter().map(damaged).collect();
        damage.iter().try_for_each(|sentence| writeln!(self.out, "{sentence}"))
    }

    fn titled(
        &mut self,
        whose: &str,
        recorder: &FromRecorder,
        shown: &[(&ThreadEvents, &Event)],
        all: usize,
    ) -> io::Result<()> {
        let found = match &recorder.place {
            RecorderPlace::Record => "in the record".to_owned(),
            RecorderPlace::Process => "in the process".to_owned(),
            RecorderPlace::Memory(address) => format!("in memory at {address:#x}"),
            RecorderPlace::File(path, address) => {
                format!("in {}, since the memory at {address:#x} was left out", path.display())
            }
        };
        let number = match (shown.len(), all) {
            (0, _) => "no events".to_owned(),
            (shown, all) if shown == all => format!("all {}", count(all, "event")),
            (shown, all) => format!("the last {} of {}", grouped(shown), count(all, "event")),
        };
        let to = if recorder.moment.is_some() { "the crash" } else { "the last event" };
        writeln!(self.out, "\nflight recorder: {number} {whose}, seconds before {to}, {}", printable(&found))?;
        let (header, relative_to) = (&recorder.recording.header, recorder.now());
        shown
            .iter()
            .try_for_each(|(thread, event)| writeln!(self.out, "  {}", Line { header, thread, event, relative_to }))
    }
}

/// What is not there, in words.
fn missing(recorder: &FromRecorder) -> Vec<String> {
    let recording = &recorder.recording;
    let sum = |bytes: fn(&ThreadEvents) -> u64| recording.threads.iter().map(bytes).fold(0, u64::saturating_add);
    let place = match recorder.place {
        RecorderPlace::Record => "of older events are not in the record",
        RecorderPlace::Process | RecorderPlace::Memory(_) | RecorderPlace::File(..) => "of events are not here",
    };
    let open = recorder.of_crashed().map_or(0, |thread| thread.open);
    let all = [
        (open, "of an event that the crashed thread was in the middle of"),
        (sum(|thread| thread.open).saturating_sub(open), "of events that other threads were in the middle of"),
        (sum(|thread| thread.overwritten), "of older events were overwritten"),
        (sum(|thread| thread.missing), place),
        (sum(|thread| thread.holes), "are no event"),
    ];
    let bytes = all.into_iter().filter(|(bytes, _)| *bytes > 0);
    let bytes =
        bytes.map(|(bytes, what)| format!("{} {what}", count(usize::try_from(bytes).unwrap_or(usize::MAX), "byte")));
    bytes.chain(recording.losses.words()).collect()
}
