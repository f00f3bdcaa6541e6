//! surestack itself, asked through the library as any user would.

use super::{Answer, Contender, MAX_FRAMES, Stop};
use surestack::Verdict;
use surestack::image::Find;
use surestack::snapshot::Thread;
use surestack::snapshot::process::StoppedProcess;
use surestack::trace::{Known, Tracer};
use surestack::walk::{self, End};

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
        self.look(stop, |tracer, thread| {
            let mut pcs = Vec::new();
            let judged = tracer.walk(&thread.regs, thread.stop, |frame| pcs.push(frame.pc.value()));
            let why = match (judged.end, judged.doubts.first()) {
                (_, Some(doubted)) => format!("frame {}: {}", doubted.frame, doubted.doubt),
                (End::Stopped(error), None) => error.to_string(),
                (End::Root(_), None) => match judged.verdict {
                    Verdict::Pending(missing) => format!("nobody could show {missing}"),
                    other => format!("{other:?}"),
                },
            };
            Answer { pcs, trusted: judged.verdict == Verdict::Reliable, why }
        })
    }

    /// Lends a tracer of the process, and the stopped thread, to `look`.
    ///
    /// # Errors
    /// When the library cannot read the process.
    pub fn look<T>(
        &mut self,
        stop: &Stop<'_>,
        look: impl FnOnce(&Tracer<'_>, &Thread) -> T,
    ) -> Result<T, surestack::Error> {
        let process = self.current(stop)?;
        let tid = u32::try_from(stop.tid).unwrap_or(0);
        process.known.ran_on();
        let snapshot = process.stopped.stopped_at(tid, &bytes(&stop.registers), walk::Stop::default())?;
        let Some(thread) = snapshot.threads.first() else {
            let source = std::io::Error::other("there is no thread");
            return Err(surestack::Error::Process { pid: tid, what: "taking its registers", source });
        };
        Ok(look(&Tracer::new(snapshot, &process.known).budget(MAX_FRAMES), thread))
    }

    /// The process of this stop, looked at anew where its mappings changed.
    fn current(&mut self, stop: &Stop<'_>) -> Result<&mut Process, surestack::Error> {
        let generation = stop.maps_generation;
        let process = match self.process.take() {
            Some(process) if process.pid == stop.pid && process.generation == generation => process,
            Some(process) if process.pid == stop.pid => {
                let mut stopped = process.stopped;
                stopped.refresh()?;
                Process { pid: stop.pid, generation, stopped, known: Known::default() }
            }
            _ => {
                let stopped = StoppedProcess::open(u32::try_from(stop.pid).unwrap_or(0), Find::default())?;
                Process { pid: stop.pid, generation, stopped, known: Known::default() }
            }
        };
        Ok(self.process.insert(process))
    }
}

/// The registers as the kernel hands them out.
fn bytes(registers: &libc::user_regs_struct) -> Vec<u8> {
    let r = registers;
    let words = [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi, r.rdi,
        r.orig_rax, r.rip, r.cs, r.eflags, r.rsp, r.ss, r.fs_base, r.gs_base, r.ds, r.es, r.fs, r.gs,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
