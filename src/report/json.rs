//! A report as one JSON object, written as it comes. `docs/report.schema.json` describes it.
//!
//! Names and shapes are those of rust-minidump's JSON where it has them; addresses are strings of hexadecimal digits,
//! since a JSON number is a double. Nothing is ever written as zero for "not known": the field is not there, or null.

mod parts;

use super::{Entry, Head, Printer, Tail, ThreadReport, words};
use parts::{Crash, Frame, Module, Process, Repeat, System};
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};
use surestack_reliable::Verdict;
use surestack_walk::{Arch, End};

/// Version of the schema: the first number changes when something is taken away or means something else.
pub const SCHEMA_VERSION: &str = "1.4.0";

/// Prints a report as JSON.
pub struct Json<W> {
    out: W,
    arch: Option<&'static Arch>,
    threads: usize,
    crashing: Option<(usize, u32)>,
}

impl<W: Write> Json<W> {
    /// Prints to `out`, which should be buffered; it is flushed after the head and at the end.
    pub fn new(out: W) -> Self {
        Self { out, arch: None, threads: 0, crashing: None }
    }

    fn field(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        write!(self.out, ",\n\"{name}\":")?;
        serde_json::to_writer(&mut self.out, value)?;
        Ok(())
    }
}

impl<W: Write> Printer for Json<W> {
    fn head(&mut self, head: &Head) -> io::Result<()> {
        self.arch = Some(head.arch);
        write!(self.out, "{{\"schema_version\":\"{SCHEMA_VERSION}\"")?;
        self.field("source", &head.source.to_string_lossy())?;
        self.field("description", &head.what)?;
        self.field("system_info", &System::of(head.arch))?;
        if let Some(pid) = head.process.pid {
            self.field("pid", &pid)?;
        }
        self.field("process", &Process::of(&head.process))?;
        let bare = || head.signal_number.map(Crash::without_code);
        self.field("crash_info", &head.signal.map(Crash::of).or_else(bare))?;
        if let Some(recorded) = &head.recorded {
            self.field("recorded", &parts::recorded(recorded))?;
        }
        if let Some(recorder) = &head.recorder {
            self.field("recorder", &parts::recorder(recorder))?;
        }
        if let Some(held) = head.held {
            self.field("stopped_ms", &(held.as_secs_f64() * 1e3))?;
        }
        self.field("thread_count", &head.threads)?;
        write!(self.out, ",\n\"threads\":[")?;
        self.out.flush()
    }

    fn thread(&mut self, thread: &ThreadReport) -> io::Result<()> {
        let Some(arch) = self.arch else { return Ok(()) };
        if self.threads > 0 {
            write!(self.out, ",")?;
        }
        let first = thread.threads.first();
        if let (true, Some(first)) = (thread.crashed, first) {
            self.crashing = Some((self.threads, first.id));
        }
        self.threads += 1;
        write!(self.out, "\n{{\"crashed\":{}", thread.crashed)?;
        if let Some(first) = first {
            self.field("thread_id", &first.id)?;
            self.field("thread_name", &first.name)?;
            if let Some(doing) = &first.doing {
                self.field("doing", doing)?;
            }
        }
        let others = thread.threads.iter().skip(1);
        let others: Vec<_> = others.map(|other| json!({"thread_id": other.id, "thread_name": other.name})).collect();
        self.field("same_stack", &others)?;
        self.field("frame_count", &thread.depth)?;
        write!(self.out, ",\n\"frames\":[")?;
        for (index, entry) in thread.frames.iter().enumerate() {
            write!(self.out, "{}", if index == 0 { "\n" } else { ",\n" })?;
            match entry {
                Entry::Frame(frame) => {
                    let frame = Frame::of(frame, thread, arch);
                    serde_json::to_writer(&mut self.out, &frame)?;
                }
                &Entry::Repeat { length, times } => {
                    serde_json::to_writer(&mut self.out, &Repeat { kind: "repeat", length, times })?;
                }
            }
        }
        write!(self.out, "]")?;
        self.field("end", &end(thread))?;
        self.field("verdict", &verdict(thread))?;
        write!(self.out, "}}")
    }

    fn tail(&mut self, tail: &Tail) -> io::Result<()> {
        write!(self.out, "]")?;
        if let Some((index, id)) = self.crashing {
            self.field("crashing_thread", &json!({"threads_index": index, "thread_id": id}))?;
        }
        let modules: Vec<_> = tail.modules.iter().map(Module::of).collect();
        self.field("modules", &modules)?;
        let gaps: Vec<_> = tail.gaps.iter().map(parts::gap).collect();
        self.field("gaps", &gaps)?;
        let absent: Vec<_> = tail.absent.iter().map(parts::absent).collect();
        self.field("absent", &absent)?;
        self.field("partial", &tail.is_partial())?;
        writeln!(self.out, "}}")?;
        self.out.flush()
    }
}

fn end(thread: &ThreadReport) -> serde_json::Value {
    let refusals: Vec<_> =
        thread.refusals.iter().map(|(unwinder, why)| json!({"unwinder": unwinder, "why": why.to_string()})).collect();
    match thread.end {
        End::Root(root) => json!({"kind": "root", "root": parts::root(root), "refusals": refusals}),
        End::Stopped(error) => json!({"kind": "stopped", "error": error.to_string(), "refusals": refusals}),
    }
}

fn verdict(thread: &ThreadReport) -> serde_json::Value {
    let doubts: Vec<_> = thread
        .doubts
        .iter()
        .map(
            |doubted| json!({"frame": doubted.frame, "name": doubted.doubt.name(), "doubt": doubted.doubt.to_string()}),
        )
        .collect();
    let (word, missing) = match thread.verdict {
        Verdict::Reliable => ("reliable", None),
        Verdict::Unreliable => ("unreliable", None),
        Verdict::Pending(missing) => ("pending", Some(missing.to_string())),
    };
    json!({"verdict": word, "doubts": doubts, "missing": missing, "believed": thread.believed})
}

#[cfg(test)]
mod tests;
