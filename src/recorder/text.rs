//! A recorder as text.

use super::{Annotation, Event, Header, Losses, Recording, ThreadEvents};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use surestack_capture::record::Moment;
use surestack_recorder::layout::mode;

/// Prints whose a recorder is, and its annotations.
///
/// # Errors
/// Where `out` has one.
pub fn head(out: &mut dyn Write, header: &Header, annotations: &[Annotation]) -> io::Result<()> {
    let cut = if header.program_length > header.program().len() as u64 { "..." } else { "" };
    writeln!(out, "program    {cut}{}", printable(header.program()))?;
    writeln!(out, "process    {}", header.process)?;
    writeln!(out, "began      {}", Wall(header.realtime))?;
    let full = if header.mode == mode::OVERWRITE { "the oldest events go" } else { "new events are dropped" };
    writeln!(out, "rings      {} of {} KiB; in a full one {full}", header.thread_slots, header.ring_size / 1024)?;
    if !annotations.is_empty() {
        writeln!(out, "\nannotations")?;
    }
    let width = annotations.iter().map(|annotation| annotation.key.chars().count()).max().unwrap_or(0);
    for Annotation { key, value } in annotations {
        let value = value.as_ref().map_or_else(|| "(never finished)".to_owned(), ToString::to_string);
        writeln!(out, "  {:<width$}  {value}", printable(key))?;
    }
    Ok(())
}

/// Prints events, times relative to the last of them.
///
/// # Errors
/// Where `out` has one.
pub fn events(out: &mut dyn Write, recording: &Recording, shown: &[(&ThreadEvents, &Event)]) -> io::Result<()> {
    let all: usize = recording.threads.iter().map(|thread| thread.events.len()).sum();
    let threads = recording.threads.len();
    match shown.len() {
        0 => writeln!(out, "\nno events of {threads} threads")?,
        count if count == all => writeln!(out, "\nevents: all {all} that are there, of {threads} threads")?,
        count => writeln!(out, "\nevents: {count} of the {all} that are there, of {threads} threads")?,
    }
    let last = shown.last().map_or(0, |(_, event)| event.time);
    shown.iter().try_for_each(|(thread, event)| {
        let line = Line { header: &recording.header, thread, event, relative_to: Some(last) };
        writeln!(out, "  {line}")
    })
}

/// Prints what is not there, and what is damaged.
///
/// # Errors
/// Where `out` has one.
pub fn tail(out: &mut dyn Write, threads: &[ThreadEvents], losses: &Losses, damage: &[String]) -> io::Result<()> {
    let each = threads.iter().flat_map(|thread| {
        let all = [
            (thread.open, "bytes of events that it was in the middle of"),
            (thread.overwritten, "bytes of older events were overwritten"),
            (thread.holes, "bytes are no event"),
            (thread.missing, "bytes of events are not here"),
        ];
        let all = all.into_iter().filter(|(bytes, _)| *bytes > 0);
        all.map(move |(bytes, what)| format!("{}: {bytes} {what}", Who(thread)))
    });
    let lost: Vec<_> = losses.words().into_iter().chain(each).collect();
    for (title, sentences) in [("not here", &*lost), ("damaged", damage)] {
        if !sentences.is_empty() {
            writeln!(out, "\n{title}")?;
        }
        sentences.iter().try_for_each(|sentence| writeln!(out, "  {}", printable(sentence)))?;
    }
    Ok(())
}

/// One event in a line: wall time, seconds before or after a moment, thread, level, name, fields, and its place in the
/// source.
#[derive(Clone, Copy, Debug)]
pub struct Line<'r> {
    /// The recorder's.
    pub header: &'r Header,
    /// The event's.
    pub thread: &'r ThreadEvents,
    /// What happened.
    pub event: &'r Event,
    /// The moment, in nanoseconds of the monotonic clock.
    pub relative_to: Option<u64>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { time, uncommitted, name, file, line, level, fields, .. } = self.event;
        write!(f, "{}  ", Wall(wall(self.header, *time)))?;
        if let Some(moment) = self.relative_to {
            let away = time.abs_diff(moment) / 1000;
            let sign = if away == 0 {
                ""
            } else if *time > moment {
                "+"
            } else {
                "-"
            };
            let seconds = format!("{sign}{}.{:06}", away / 1_000_000, away % 1_000_000);
            write!(f, "{seconds:>13}  ")?;
        }
        write!(f, "{}", Who(self.thread))?;
        if self.thread.pid != self.header.process {
            write!(f, " of {}", self.thread.pid)?;
        }
        write!(f, "  {:<5}  {}", level.unwrap_or("-"), printable(name))?;
        if *uncommitted {
            write!(f, "  (not committed)")?;
        }
        for (name, value) in fields {
            write!(f, "  {}={value}", printable(name))?;
        }
        if !file.is_empty() {
            write!(f, "  {}:{line}", printable(file))?;
        }
        Ok(())
    }
}

/// A thread by its name and id.
struct Who<'t>(&'t ThreadEvents);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.name {
            Some(name) => write!(f, "{}/{}", printable(name), self.0.tid),
            None => write!(f, "{}", self.0.tid),
        }
    }
}

/// Nanoseconds since 1970 by RFC 3339, to the microsecond.
pub(super) struct Wall(pub u64);

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moment { year, month, day, hour, minute, second, .. } = Moment::of(self.0);
        let micro = self.0 / 1000 % 1_000_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
    }
}

/// When a moment of the monotonic clock was, in nanoseconds since 1970: as the clocks stood when the recorder began.
pub(super) fn wall(header: &Header, time: u64) -> u64 {
    let since = i128::from(time) - i128::from(header.monotonic);
    u64::try_from(i128::from(header.realtime) + since).unwrap_or(if since < 0 { 0 } else { u64::MAX })
}

/// Text from a target, what would move the cursor or change colours escaped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(moves_others) {
        return Cow::Borrowed(text);
    }
    let escaped = |letter: char| if moves_others(letter) { letter.escape_default().to_string() } else { letter.into() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// Whether a letter moves the cursor or what is around it: a control, the end of a line or of a paragraph, a change of
/// direction.
pub(crate) fn moves_others(letter: char) -> bool {
    let directs = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || directs || matches!(letter, '\u{2028}' | '\u{2029}')
}
