//! surestack itself, asked through the library as any user would.

use super::{Answer, Contender, MAX_FRAMES, Stop};
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack::trace::{Known, Tracer};
use surestack::walk::{CodeAddress, End};
use surestack::Verdict;

/// The library, with what it learned about the process's code since the mappings last changed.
#[derive(Default)]
pub struct Surestack {
    process: Option<Process>,
}

struct Process {
    pid: i32,
    generation: u64,
    stopped: StoppedProcess,
    known: Known,
}

impl Contender for Surestack {
    fn name(&self) -> &str {
        "surestack"
    }

    fn ask(&mut self, stop: &Stop<'_>) -> Answer {
        self.try_ask(stop).unwrap_or_else(|error| Answer { why: error.to_string(), ..Answer::default() })
    }
}

impl Surestack {
    fn try_ask(&mut self, stop: &Stop<'_>) -> Result<Answer, surestack::Error> {
        let process = self.current(stop)?;
        let block: &[u8] = registers(stop);
        let tid = u32::try_from(stop.tid).unwrap_or(0);
        let snapshot = process.stopped.stopped_at(tid, block, surestack::walk::Stop::default())?;
        let Some(thread) = snapshot.threads.first() else {
            return Ok(Answer { why: "no thread".to_owned(), ..Answer::default() });
        };
        let tracer = Tracer::with(snapshot, std::mem::take(&mut process.known)).budget(MAX_FRAMES);
        let mut pcs = Vec::new();
        let judged = tracer.walk(&thread.regs, thread.stop, |frame| pcs.push(CodeAddress::value(frame.pc)));
        process.known = tracer.into_known();
        let why = match (judged.end, judged.doubts.first()) {
            (_, Some(doubted)) => format!("frame {}: {}", doubted.frame, doubted.doubt),
            (End::Stopped(error), None) => error.to_string(),
            (End::Root(root), None) => format!("{:?}, {root:?}", judged.verdict),
        };
        Ok(Answer { pcs, trusted: judged.verdict == Verdict::Reliable, why })
    }
}
