//! The other threads of a report: asked to stand, and walked from where they stand.

use crate::context::ARCH;
use crate::file::File;
use crate::plan::{Threads, Words};
use crate::record::{Failure, Gap, Item, ThreadState, Writer};
use crate::report::{Report, Seen, markers};
use crate::syscall::{self, Clock};
use crate::text::Text;
use crate::threads::{self, Parked, Purpose, Refused, Standing, Times};
use crate::trace::{See, Stopped, trace};
use core::ops::ControlFlow;
use surestack_module_map::ModuleMap;
use surestack_reliable::{Doubted, Noted};
use surestack_walk::{Register, Registry, Regs, Stop};

/// Records all threads but the one that reports.
pub(crate) fn record(report: &mut Report<'_>, step: u16) {
    if report.plan.threads == Threads::Crashed {
        return;
    }
    let left = report.deadline().saturating_sub(syscall::now(Clock::Monotonic));
    // Who goes on afterwards is not to find a signal that was queued to it.
    let purpose = if report.requested.is_some() { Purpose::Check } else { Purpose::Crash };
    let parked = match threads::park(purpose, Times { answer: left / 4, stand: left }) {
        Ok(parked) => parked,
        Err(refused) => {
            let errno = match refused {
                Refused::System(errno) => errno.0,
                _ => 0,
            };
            return report.put(&Item::StepFailed { step, failure: Failure::Refused { errno } });
        }
    };
    let counts = each(report, &parked);
    drop(parked);
    if report.plan.words != Words::None && counts.all > 0 {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        report.text.number(number(counts.all)).text(" other threads, ").number(number(counts.silent));
        report.text.text(" of which did not answer").end();
        report.text.flush();
    }
}

#[derive(Default)]
struct Counts {
    all: usize,
    silent: usize,
}

fn each(report: &mut Report<'_>, parked: &Parked) -> Counts {
    let mut counts = Counts::default();
    let mut unfinished = 0_u64;
    let listed = parked.each(|thread, standing| {
        counts.all = counts.all.saturating_add(1);
        let state = match standing {
            Standing::At { .. } => ThreadState::Answered,
            Standing::Silent | Standing::Left => ThreadState::Silent,
            Standing::Unasked => ThreadState::Refused,
            Standing::NoRoom => ThreadState::NotAsked,
        };
        if state != ThreadState::Answered {
            counts.silent = counts.silent.saturating_add(1);
        }
        // Who stands has said its name. To read another's a file is opened, and a sandbox may end us for that.
        let name = match standing {
            Standing::At { name, .. } => name,
            _ => threads::name(thread).unwrap_or_default(),
        };
        let name = name.bytes();
        // SAFETY: it stands, and is let go when this is over.
        let regs = unsafe { standing.registers() }.ok();
        let value = |register| regs.as_ref().and_then(|regs| regs.get(register));
        report.put(&Item::Thread { tid: thread, state, pc: value(Register::PC), sp: value(ARCH.sp), name });
        if report.plan.words == Words::Full {
            report.text.text("thread ").number(u64::from(thread)).text(" (").bytes(name).text(")");
            report.text.text(if regs.is_none() { " did not answer\n" } else { "\n" });
        }
        if let Some(regs) = regs
            && !walk(report, thread, &regs)
        {
            unfinished = unfinished.saturating_add(1);
        }
    });
    if let Err(error) = listed {
        report.put(&Item::Gap { what: Gap::ThreadList, number: u64::from(error.0.unsigned_abs()) });
    }
    if unfinished > 0 {
        report.put(&Item::Gap { what: Gap::Budget, number: report.plan.budget });
    }
    counts
}

/// Walks one thread that stands. Says whether there was time for it.
fn walk(report: &mut Report<'_>, tid: u32, regs: &Regs) -> bool {
    let deadline = report.deadline();
    if syscall::now(Clock::Monotonic) > deadline {
        return false;
    }
    report.put(&Item::Registers { tid, regs: *regs });
    let text = if report.plan.words == Words::Full { Some(&mut report.text) } else { None };
    let mut other = Other {
        record: &mut report.record,
        text,
        modules: report.plan.modules,
        seen: &mut report.seen,
        tid,
        frames: 0,
        doubts: 0,
        deadline,
    };
    let markers = markers();
    let registry = Registry { markers: &markers, ..Registry::default() };
    let thread = Stopped { arch: ARCH, regs, stop: Stop::default() };
    // SAFETY: the thread stands.
    let traced = unsafe { trace(&report.around, &registry, thread, &mut other) };
    let counts = (traced.frames, other.doubts);
    let _ = report.record.end(tid, Some(traced.end), traced.verdict, counts);
    true
}

struct Other<'r> {
    record: &'r mut Writer<File>,
    text: Option<&'r mut Text>,
    modules: &'r ModuleMap,
    seen: &'r mut Seen,
    tid: u32,
    frames: usize,
    doubts: usize,
    deadline: u64,
}

impl See for Other<'_> {
    fn frame(&mut self, frame: &Noted) -> ControlFlow<()> {
        const OFTEN: usize = 64;
        const SHOWN: usize = 64;
        let index = self.frames;
        self.frames = index.saturating_add(1);
        let _ = self.record.frame(self.tid, index, frame);
        if let Ok((Some(found), _)) = self.modules.look_up(frame.pc.lookup()) {
            self.seen.insert(found.index, frame.pc.lookup());
        }
        if let Some(text) = self.text.as_mut().filter(|_| index < SHOWN) {
            text.text("  #")
                .number(u64::try_from(index).unwrap_or_default())
                .text("  ")
                .hex(frame.pc.value(), 16)
                .end();
        }
        let over = index % OFTEN == OFTEN - 1 && syscall::now(Clock::Monotonic) > self.deadline;
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn doubt(&mut self, doubted: &Doubted) {
        self.doubts = self.doubts.saturating_add(1);
        let _ = self.record.doubt(self.tid, *doubted);
    }
}
