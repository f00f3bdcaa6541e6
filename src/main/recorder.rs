//! `surestack recorder`.

use clap::Args;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use surestack::analyze::Outcome;
use surestack::error::Error;
use surestack::recorder::{self, Follow, Followed, Live, Recording, json, text};

pub const EXAMPLES: &str = "\
Examples:
  surestack recorder server.recorder            what a program kept of its last moments
  surestack recorder --last 20 server.recorder  the end of it
  surestack recorder --pid 1234 --follow        events of a running process, as they come
  surestack recorder --json FILE | jq '.events[] | select(.level == \"error\")'

In follow mode it ends when the processes that write are gone, and JSON is one object a line: an event, what was
missed because it was overwritten first, and at the end what was lost.

Exit codes: 0 all well; 2 wrong usage; 3 not a recorder, or unreadable; 4 something in it is damaged, and said";

/// How often a recorder that is followed is looked at.
const ROUND: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct Recorder {
    /// The recorder's file
    #[arg(required_unless_present = "pid", conflicts_with = "pid")]
    file: Option<PathBuf>,
    /// The recorder that this process has mapped, instead of a file
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON document, or a line for each event in follow mode
    #[arg(long)]
    json: bool,
    /// Only events of the thread with this id
    #[arg(long, value_name = "TID")]
    thread: Option<u32>,
    /// Only the last events, so many
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Go on with events as they come
    #[arg(long)]
    follow: bool,
}

impl Recorder {
    /// Prints it.
    pub fn run(&self) -> Result<Outcome, Error> {
        let (name, source) = match (self.pid, &self.file) {
            (Some(pid), _) => (PathBuf::from(format!("/proc/{pid}")), recorder::of_process(pid)?),
            (None, file) => {
                let path = file.clone().unwrap_or_default();
                let source = Live::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
                (path, source)
            }
        };
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let refused = |refused| recorder::not_one(&name, &source, refused);
        let damaged = if self.follow {
            let follow = Follow::new(&source).map_err(refused)?;
            self.follow(&mut out, &source, follow)?
        } else {
            let recording = Recording::read(&source).map_err(refused)?;
            self.print(&mut out, &name, &recording)?;
            !recording.damage.is_empty()
        };
        out.flush()?;
        Ok(if damaged { Outcome::Partial } else { Outcome::Whole })
    }
    fn print(&self, out: &mut dyn Write, name: &Path, recording: &Recording) -> Result<(), Error> {
        let shown = recording.last(self.thread, self.last.unwrap_or(usize::MAX));
        if self.json {
            serde_json::to_writer(&mut *out, &json::document(recording, &shown)).map_err(io::Error::from)?;
            return Ok(writeln!(out)?);
        }
        writeln!(out, "recorder   {}", name.display())?;
        text::head(out, &recording.header, &recording.annotations)?;
        text::events(out, recording, &shown)?;
        Ok(text::tail(out, &recording.threads, &recording.losses, &recording.damage)?)
    }

    /// Says whether something is damaged.
    fn follow(&self, out: &mut dyn Write, source: &Live, mut follow: Follow<'_>) -> Result<bool, Error> {
        if !self.json {
            text::head(out, follow.header(), &[])?;
            writeln!(out)?;
        }
        let mut before = follow.come();
        before.append(&mut follow.rest());
        before.retain(|followed| self.wants(followed));
        let first = before.len().saturating_sub(self.last.unwrap_or(usize::MAX));
        for followed in before.iter().skip(first) {
            self.line(out, &follow, followed)?;
        }
        loop {
            out.flush()?;
            // First whether anybody writes, then what they wrote: nothing comes after that.
            let is_written = follow.is_written();
            let mut came = follow.come();
            if !is_written {
                came.append(&mut follow.rest());
            }
            for followed in came.iter().filter(|followed| self.wants(followed)) {
                self.line(out, &follow, followed)?;
            }
            if !is_written {
                break;
            }
            thread::sleep(ROUND);
        }
        let recording = Recording::read(source).ok();
        let (losses, damage) = recording.map(|recording| (recording.losses, recording.damage)).unwrap_or_default();
        if self.json {
            writeln!(out, "{}", json::end(&losses, &damage))?;
        } else {
            text::tail(out, &[], &losses, &damage)?;
        }
        Ok(!damage.is_empty())
    }

    fn wants(&self, followed: &Followed) -> bool {
        let (Followed::Event(thread, _) | Followed::Missed(thread, ..)) = followed;
        self.thread.is_none_or(|tid| thread.tid == tid)
    }

    fn line(&self, out: &mut dyn Write, follow: &Follow<'_>, followed: &Followed) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", json::followed(follow.header(), followed));
        }
        match followed {
            Followed::Event(thread, event) => {
                writeln!(out, "{}", text::Line { header: follow.header(), thread, event, relative_to: None })
            }
            Followed::Missed(thread, bytes, about) => {
                let tid = thread.tid;
                writeln!(out, "-- {tid}: about {about} events ({bytes} bytes) were overwritten before they were read")
            }
        }
    }
}
