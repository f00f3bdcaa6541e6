//! Unwinding for other tools: a line of JSON asks, a line answers. `docs/serve.md` describes both.
//!
//! The asker keeps the thread stopped. Nothing is stopped, written or waited for here: `/proc/PID/mem`, `/proc/PID/maps`
//! and the mapped files are read, and what was learned about the code is kept as long as the asker says that nothing was
//! mapped anew.

mod request;

use crate::evidence::FileProofs;
use crate::image::Find;
use crate::snapshot::process::StoppedProcess;
use crate::trace::{Judged, Known, Tracer};
use request::Request;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use surestack_reliable::Verdict;

/// Longest line that is read: a request has a few hundred bytes.
const LINE: usize = 1 << 16;
/// Most frames of an answer. A stack of 8 MiB holds half as many of the smallest that can be.
const FRAMES: usize = 1 << 20;
/// Most processes that are remembered.
const PROCESSES: usize = 64;

/// Answers every line of `input` with a line on `output`, until there are no more.
///
/// # Errors
/// What `input` or `output` gave. A line that cannot be answered is no error: its answer says why.
pub fn serve(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut server = Server::default();
    let mut line = Vec::new();
    while let Some(length) = read_line(&mut input, &mut line)? {
        let answer = match length {
            Length::Whole if line.iter().all(u8::is_ascii_whitespace) => continue,
            Length::Whole => server.answer(&line),
            Length::Cut => json!({"error": format!("a line is longer than {LINE} bytes")}),
        };
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

/// Whether all of a line is there.
enum Length {
    Whole,
    Cut,
}

/// Reads a line, and drops what is beyond [`LINE`] bytes of it; `None` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<Length>> {
    line.clear();
    let (mut length, mut any) = (Length::Whole, false);
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(any.then_some(length));
        }
        any = true;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = LINE.saturating_sub(line.len());
        if part.len() > room {
            length = Length::Cut;
        }
        line.extend(part.iter().take(room));
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}

/// The processes that were asked about.
#[derive(Default)]
struct Server {
    processes: HashMap<u32, Process>,
    find: Find,
    /// What was proven of the files that they map.
    files: FileProofs,
}

/// What is known of a process while its mappings stay the same.
struct Process {
    generation: u64,
    stopped: StoppedProcess,
    known: Known,
}

impl Server {
    fn answer(&mut self, line: &[u8]) -> Value {
        let asked: Value = match serde_json::from_slice(line) {
            Ok(asked) => asked,
            Err(error) => return json!({"error": error.to_string()}),
        };
        let answer = Request::parse(&asked).and_then(|request| self.unwind(&request));
        let mut answer = answer.unwrap_or_else(|error| Map::from_iter([("error".to_owned(), error.into())]));
        if let Some(id) = asked.get("id") {
            answer.insert("id".to_owned(), id.clone());
        }
        Value::Object(answer)
    }

    fn unwind(&mut self, request: &Request) -> Result<Map<String, Value>, String> {
        let process = self.process(request).map_err(|error| error.to_string())?;
        let regs = request.regs(process.stopped.snapshot().arch)?;
        let stopped = process.stopped.stopped_with(request.tid, regs, request.stop);
        let snapshot = stopped.map_err(|error| error.to_string())?;
        let mut frames = Vec::new();
        let tracer = Tracer::new(snapshot, &process.known).budget(FRAMES);
        let judged = tracer.walk(&regs, request.stop, |frame| frames.push(format!("{:#x}", frame.pc.value())));
        Ok(answer(&frames, &judged))
    }

    /// The process, read anew where its mappings changed or another one has its number now.
    fn process(&mut self, request: &Request) -> Result<&mut Process, crate::Error> {
        let Request { pid, generation, .. } = *request;
        let current = self.processes.remove(&pid).filter(|process| process.is_alive());
        let process = match current {
            Some(process) if process.generation == generation => process,
            Some(Process { mut stopped, .. }) => {
                stopped.refresh()?;
                Process { generation, stopped, known: Known::sharing(&self.files) }
            }
            None => {
                let stopped = StoppedProcess::open(pid, self.find.clone())?;
                Process { generation, stopped, known: Known::sharing(&self.files) }
            }
        };
        if self.processes.len() >= PROCESSES {
            self.processes.clear();
        }
        Ok(self.processes.entry(pid).insert_entry(process).into_mut())
    }
}

impl Process {
    /// Whether it has the address space that was opened: that of a process that has ended or runs another program now
    /// cannot be read any more.
    fn is_alive(&self) -> bool {
        let snapshot = self.stopped.snapshot();
        let mut byte = [0];
        snapshot.space.modules.first().is_some_and(|first| snapshot.memory.read(first.start, &mut byte).is_ok())
    }
}

fn answer(frames: &[String], judged: &Judged) -> Map<String, Value> {
    let (verdict, reason) = match (judged.verdict, judged.doubts.first()) {
        (Verdict::Reliable, _) => {
            ("reliable", "every step is confirmed, up to an outermost frame at its place".to_owned())
        }
        (Verdict::Pending(missing), _) => ("unreliable", format!("nobody could show {missing}")),
        (Verdict::Unreliable, Some(first)) => ("unreliable", format!("frame {}: {}", first.frame, first.doubt)),
        (Verdict::Unreliable, None) => ("unreliable", "doubted".to_owned()),
    };
    let doubts: Vec<Value> =
        judged.doubts.iter().map(|found| json!({"doubt": found.doubt.name(), "frame": found.frame})).collect();
    Map::from_iter([
        ("frames".to_owned(), json!(frames)),
        ("verdict".to_owned(), verdict.into()),
        ("reason".to_owned(), reason.into()),
        ("doubts".to_owned(), doubts.into()),
        ("believed".to_owned(), judged.believed.into()),
    ])
}
