//! A report as plain text for people.

mod frame;
mod recorder;

use super::when;
use super::words;
use super::{Entry, FromRecord, FromRecorder, Head, ModuleReport, Printer, Tail, ThreadName, ThreadReport};
use crate::recorder::text::moves_others;
use crate::snapshot::{Absence, Absent, Gap, Identity};
use anstyle::{AnsiColor, Style};
use frame::FramePrinter;
use std::io::{self, Write};
use std::sync::Arc;
use surestack_reliable::{Doubt, Verdict};
use surestack_walk::{Arch, End, Link, Root};

/// Frames of the crashed thread in a brief report.
const BRIEF_FRAMES: usize = 10;
/// Events of the flight recorder in a brief report.
const BRIEF_EVENTS: usize = 8;
/// The same in others, if nobody says how many.
const EVENTS: usize = 32;
/// Thread ids that are listed before the rest is counted.
const LISTED: usize = 8;

/// How much is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// What happened, and the first frames of the crashed thread.
    Brief,
    /// All frames.
    #[default]
    Full,
    /// All frames, and how each is known.
    Explained,
}

/// Whether output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// No.
    #[default]
    Never,
    /// Yes, with ANSI escapes.
    Ansi,
}

/// Prints a report as text.
pub struct Text<W> {
    out: W,
    length: Length,
    paint: Paint,
    arch: Option<&'static Arch>,
    threads: usize,
    printed: usize,
    events: usize,
    recorder: Option<Arc<FromRecorder>>,
}

/// Puts colours around words, or does not.
#[derive(Clone, Copy)]
struct Paint(Colour);

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        match self.0 {
            Colour::Never => text.to_owned(),
            Colour::Ansi => format!("{style}{text}{style:#}"),
        }
    }

    fn bad(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    fn name(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    fn faint(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }
}

impl<W: Write> Text<W> {
    /// Prints to `out`, which should be buffered; it is flushed after the head and at the end.
    pub fn new(out: W, length: Length, colour: Colour) -> Self {
        let (arch, threads, printed) = (None, 0, 0);
        Self { out, length, paint: Paint(colour), arch, threads, printed, events: EVENTS, recorder: None }
    }

    /// With so many of the flight recorder's last events at most, instead of 32.
    #[must_use]
    pub fn last(self, events: usize) -> Self {
        Self { events, ..self }
    }

    fn title(&mut self, thread: &ThreadReport) -> io::Result<()> {
        let mark = if thread.crashed { self.paint.bad(" (crashed)") } else { String::new() };
        let frames = count(thread.depth, "frame");
        let verdict = self.verdict(thread);
        match thread.threads.as_slice() {
            [only] => {
                let doing = only.doing.as_ref().map(|doing| format!(", {doing}")).unwrap_or_default();
                writeln!(self.out, "\nthread {}{mark}{doing}: {frames}, {verdict}", name_of(only))
            }
            several => {
                let shown: Vec<_> = several.iter().take(LISTED).map(name_of).collect();
                let rest = several.len().saturating_sub(shown.len());
                let more = if rest == 0 { String::new() } else { format!(" and {} more", grouped(rest)) };
                writeln!(self.out, "\nthreads {}{more}: the same stack, {frames}, {verdict}", shown.join(", "))
            }
        }
    }

    fn verdict(&self, thread: &ThreadReport) -> String {
        match thread.verdict {
            Verdict::Reliable => self.paint.good("reliable"),
            Verdict::Unreliable => self.paint.bad("unreliable"),
            Verdict::Pending(_) => self.paint.name("pending"),
        }
    }

    /// What a handler recorded beside traces.
    fn recorded(&mut self, recorded: &FromRecord) -> io::Result<()> {
        for (by, text) in &recorded.messages {
            let mut lines = text.trim_end().lines();
            writeln!(self.out, "  {by:<8} {}", printable(lines.next().unwrap_or_default()))?;
            lines.try_for_each(|line| writeln!(self.out, "           {}", printable(line)))?;
        }
        if let Some(time) = recorded.time {
            writeln!(self.out, "  when     {}", when::utc(time))?;
        }
        let signature = recorded.signatures;
        if let Some(places) = signature.places {
            let functions = signature.functions.map(|functions| format!(", by functions {functions:016x}"));
            writeln!(self.out, "  kind     {places:016x}{}", functions.unwrap_or_default())?;
        }
        Ok(())
    }

    /// What came before the fatal signal: a handler was running when it struck.
    fn before(&mut self, thread: &ThreadReport) -> io::Result<()> {
        let mut frames = thread.frames.iter().filter_map(|entry| match entry {
            Entry::Frame(frame) => Some(frame),
            Entry::Repeat { .. } => None,
        });
        let Some(frame) = frames.rfind(|frame| frame.link == Link::Signal) else { return Ok(()) };
        match &frame.what {
            Some(what) => writeln!(self.out, "  in a signal handler; first came {what} (frame {})", frame.number),
            None => writeln!(self.out, "  in a signal handler, which interrupted frame {}", frame.number),
        }
    }

    /// How the walk ended and what is to be thought of it.
    fn end(&mut self, thread: &ThreadReport) -> io::Result<()> {
        let verdict = self.verdict(thread);
        match thread.end {
            End::Root(root) if thread.verdict == Verdict::Reliable => {
                writeln!(self.out, "  the stack ends here: {}; {verdict}", root_words(root))?;
            }
            End::Root(root) => writeln!(self.out, "  the stack ends here: {}", root_words(root))?,
            End::Stopped(error) => writeln!(self.out, "  {} {error}", self.paint.bad("stopped:"))?,
        }
        if matches!(thread.end, End::Stopped(_)) {
            for (unwinder, why) in &thread.refusals {
                writeln!(self.out, "    {unwinder}: {why}")?;
            }
        }
        // That the walk stopped stands above already.
        let doubts = thread.doubts.iter().filter(|doubted| !matches!(doubted.doubt, Doubt::Stopped(_)));
        match (thread.verdict, doubts.collect::<Vec<_>>().as_slice()) {
            (Verdict::Reliable, _) => Ok(()),
            (Verdict::Pending(missing), _) => writeln!(self.out, "  {verdict}: nobody could show {missing}"),
            (_, []) => writeln!(self.out, "  {verdict}"),
            (_, [only]) => writeln!(self.out, "  {verdict}: frame {}: {}", only.frame, only.doubt),
            (_, doubts) => {
                writeln!(self.out, "  {verdict}:")?;
                doubts.iter().try_for_each(|doubt| writeln!(self.out, "    frame {}: {}", doubt.frame, doubt.doubt))
            }
        }
    }
}

impl<W: Write> Printer for Text<W> {
    fn head(&mut self, head: &Head) -> io::Result<()> {
        self.arch = Some(head.arch);
        self.threads = head.threads;
        writeln!(self.out, "{}", self.paint.bad(&head.what))?;
        if let Some(signal) = head.signal {
            writeln!(self.out, "  signal   {}", words::delivered(signal, None))?;
        }
        let process = &head.process;
        let name = process.name.as_deref().unwrap_or("unknown");
        let pid = process.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let user = process.user.map(|user| format!(", user {user}")).unwrap_or_default();
        let threads = count(head.threads, "thread");
        writeln!(self.out, "  process  {}{pid}{user}, {threads}, {}", printable(name), head.arch.name)?;
        if let Some(arguments) = process.arguments.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            writeln!(self.out, "  command  {}", printable(arguments))?;
        }
        writeln!(self.out, "  from     {}", head.source.display())?;
        if let Some(recorded) = &head.recorded {
            self.recorded(recorded)?;
        }
        if let Some(recorder) = &head.recorder {
            self.annotations(recorder)?;
            self.recorder = Some(Arc::clone(recorder));
        }
        if let Some(held) = head.held {
            writeln!(self.out, "  held     for {:.1} ms, and let go as it was", held.as_secs_f64() * 1e3)?;
        }
        self.out.flush()
    }

    fn thread(&mut self, thread: &ThreadReport) -> io::Result<()> {
        let Some(arch) = self.arch else { return Ok(()) };
        if self.length == Length::Brief && self.printed > 0 {
            return Ok(());
        }
        self.printed += 1;
        self.title(thread)?;
        self.before(thread)?;
        let printer = FramePrinter { arch, paint: self.paint, length: self.length };
        let limit = if self.length == Length::Brief { BRIEF_FRAMES } else { usize::MAX };
        for entry in thread.frames.iter().take(limit) {
            match entry {
                Entry::Frame(frame) => printer.print(&mut self.out, thread, frame)?,
                Entry::Repeat { length, times } => {
                    let what = if *length == 1 {
                        "the frame above repeats".to_owned()
                    } else {
                        format!("the {length} frames above repeat")
                    };
                    writeln!(self.out, "  … {what} {} more", times_words(*times))?;
                }
            }
        }
        let hidden = thread.frames.len().saturating_sub(limit);
        if hidden > 0 {
            writeln!(self.out, "  … {} more", count(hidden, "line"))?;
        }
        self.end(thread)
    }

    fn tail(&mut self, tail: &Tail) -> io::Result<()> {
        if let Some(recorder) = self.recorder.take() {
            self.events(&recorder)?;
        }
        // What a core that is cut off lacks it lacks for that reason.
        let is_cut = tail.gaps.iter().any(|gap| matches!(gap, Gap::Truncated { .. }));
        let gaps = tail.gaps.iter().filter(|gap| !(is_cut && matches!(gap, Gap::Filtered { .. })));
        let notes: Vec<_> = gaps.map(gap_words).collect();
        let notes = notes.into_iter().chain(tail.absent.iter().map(absent_words)).chain(module_words(&tail.modules));
        let notes: Vec<_> = notes.collect();
        if !notes.is_empty() {
            writeln!(self.out)?;
            notes.iter().try_for_each(|note| writeln!(self.out, "{} {note}", self.paint.name("note:")))?;
        }
        if self.length == Length::Brief {
            writeln!(self.out, "\n(without --brief: all frames of {}, and registers)", count(self.threads, "thread"))?;
        }
        self.out.flush()
    }
}

fn name_of(thread: &ThreadName) -> String {
    match &thread.name {
        Some(name) => format!("{} ({})", thread.id, printable(name)),
        None => thread.id.to_string(),
    }
}

fn root_words(root: Root) -> String {
    match root {
        Root::UndefinedReturn => "its unwind information says that nothing is above it".to_owned(),
        Root::EntryPoint => "the program's entry point, which nobody calls".to_owned(),
        Root::ContextEntry => "the foot of a context made by makecontext".to_owned(),
        Root::Registered => "an outermost frame that was registered".to_owned(),
        Root::Named => "the foot of a goroutine, by its name".to_owned(),
        Root::Marker(id) => format!("the outermost record of marker {id}"),
    }
}

fn gap_words(gap: &Gap) -> String {
    match gap {
        Gap::Truncated { expected, found } => format!(
            "the core is cut off: {} of {} bytes are there; what was beyond is missing (disk full, or a size limit?)",
            grouped(usize::try_from(*found).unwrap_or(usize::MAX)),
            grouped(usize::try_from(*expected).unwrap_or(usize::MAX)),
        ),
        Gap::Filtered { start, end } => format!(
            "memory {start:#018x} to {end:#018x} was left out of the core and no file could stand in for it \
             (/proc/PID/coredump_filter decides what is written)"
        ),
        Gap::Unwritten { mappings, bytes } => format!(
            "{}, {} KiB, not in the core: never written to, or left out by the program (MADV_DONTDUMP)",
            count(*mappings, "mapping"),
            grouped(usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX)),
        ),
        Gap::Unchecked { what } => format!("not known: {what}"),
        Gap::StepFailed { what } => format!("a step of the handler failed: {what}"),
        Gap::NotRecorded { what } => format!("not recorded: {what}"),
        Gap::Damaged { what } => format!("damaged: {what}"),
    }
}

fn absent_words(task: &Absent) -> String {
    let name = task.name.as_ref().map(|name| format!(" ({})", printable(name))).unwrap_or_default();
    let why = match task.why {
        Absence::Running => "did not stop in time (it waits in the kernel); its stack is not here",
        Absence::Exited => "has exited and has no stack",
        Absence::SharesMemory => "is no thread of it but runs in its memory, and could not be stopped",
        Absence::Silent => "did not answer in time when it was asked for its stack, which is not here",
        Absence::NotAsked => "was not asked for its stack, which is not here",
        Absence::Refused => "could not be asked for its stack, which is not here",
        Absence::Lost => "is named in the record, and nothing else of it is there",
    };
    format!("task {}{name} {why}", task.id)
}

/// A sentence for each module whose file could not be used; those without any file in one.
fn module_words(modules: &[ModuleReport]) -> Vec<String> {
    let mut sentences: Vec<_> = modules.iter().filter_map(problem).collect();
    let is_missing = |module: &&ModuleReport| module.identity == Identity::Missing;
    let missing: Vec<_> = modules.iter().filter(is_missing).map(|module| module.path.display().to_string()).collect();
    if !missing.is_empty() {
        sentences.push(format!(
            "no file was found for {}; say where files are with --exe, --sysroot or --debug-dir",
            missing.join(", ")
        ));
    }
    sentences
}

fn problem(module: &ModuleReport) -> Option<String> {
    let path = module.path.display();
    let id = |id: &Option<crate::image::BuildId>| id.as_ref().map_or("none".to_owned(), ToString::to_string);
    match &module.identity {
        Identity::Replaced { wanted, found } => Some(format!(
            "{path} is not the file that ran: its build ID is {}, wanted is {}; it was not used. \
             Put the right one in a --sysroot or --debug-dir",
            id(found),
            id(wanted)
        )),
        Identity::Unchecked => {
            Some(format!("{path} was not used: nothing in the core tells whether it is the file that ran"))
        }
        Identity::Mapped | Identity::BuildId | Identity::Bytes { .. } | Identity::Memory | Identity::Missing => None,
    }
}

/// "1 frame", "174,760 frames".
fn count(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn times_words(times: usize) -> String {
    if times == 1 { "once".to_owned() } else { format!("{} times", grouped(times)) }
}

/// A number with a comma at every third digit.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text from a target, without what would move the cursor or change colours.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if moves_others(letter) { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests;
