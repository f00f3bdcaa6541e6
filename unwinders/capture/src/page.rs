//! The report as text, at signal time.

use crate::context::ARCH;
use crate::kept::Shown;
use crate::names::Names;
use crate::plan::Words;
use crate::record::Occasion;
use crate::recorder;
use crate::report::{Report, checked};
use crate::request::Requested;
use crate::text::Text;
use crate::words::{describe, signal_name};
use surestack_reliable::Verdict;
use surestack_walk::{End, FoundBy, Link, Register};

/// Frames of a short text.
const SHORT: usize = 24;
/// How many of the outermost frames follow those.
const OUTERMOST: usize = 4;

/// Writes it; to the second place where standard error does not take it.
pub(crate) fn write(report: &mut Report<'_>) {
    let mut names = Names::new();
    for frame in shown(report) {
        names.want(frame.pc.lookup());
    }
    names.find(report.plan.modules, &checked());
    all(report, &names);
    report.text.flush();
    if report.text.refused().is_some()
        && let Some(second) = report.plan.second
    {
        report.text = Text::new(Some(second.file), report.deadline());
        all(report, &names);
        report.text.flush();
    }
}

fn all(report: &mut Report<'_>, names: &Names) {
    head(report);
    frames(report, names);
    foot(report);
    if let Some(arena) = surestack_recorder::started() {
        recorder::write(report, arena);
    }
    if report.plan.words == Words::Full {
        registers(report);
        modules(report);
    }
}

/// The frames that are shown.
fn shown<'r>(report: &'r Report<'_>) -> impl Iterator<Item = &'r Shown> {
    let count = report.kept.count();
    let most = if report.plan.words == Words::Short { SHORT } else { usize::MAX };
    let begin_of_end = count.saturating_sub(OUTERMOST);
    report.kept.frames().filter(move |frame| frame.index < most || frame.index >= begin_of_end)
}

fn head(report: &mut Report<'_>) {
    let (requested, overflow) = (report.requested, report.overflow);
    let Report { text, signal, name, thread, process, program, information, regs, message, message_length, .. } =
        report;
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let what = match requested {
        Some(Requested { occasion: Occasion::Panic, .. }) => "panic",
        Some(_) => "report",
        None => signal_name(*signal),
    };
    text.text("\n*** ").text(what).text(" in thread ").number(u64::from(*thread));
    text.text(" (").bytes(name.get(..length).unwrap_or_default()).text(") of process ").number(u64::from(*process));
    text.text(" (").bytes(program.path()).text("): ");
    match message.get(..*message_length).filter(|message| !message.is_empty()) {
        Some(message) => {
            text.bytes(message.strip_suffix(b"\n").unwrap_or(message));
        }
        None if requested.is_some() => {
            text.text("asked for by the program");
        }
        None => describe(text, information, regs.get(Register::PC).unwrap_or_default(), overflow),
    }
    text.end();
}

fn frames(report: &mut Report<'_>, names: &Names) {
    if report.overflow
        && let Some(period) = report.kept.recursion()
    {
        recursion(report, names, period);
    }
    let memory = checked();
    let Report { kept, text, plan, program, .. } = report;
    let (count, mut next) = (kept.count(), 0);
    let most = if plan.words == Words::Short { SHORT } else { usize::MAX };
    let begin_of_end = count.saturating_sub(OUTERMOST);
    for frame in kept.frames().filter(|frame| frame.index < most || frame.index >= begin_of_end) {
        if frame.index != next {
            let left_out = frame.index.saturating_sub(next);
            text.text("     ... ").number(u64::try_from(left_out).unwrap_or(u64::MAX)).text(" frames ...\n");
        }
        next = frame.index.saturating_add(1);
        if frame.link == Link::Signal || frame.link == Link::Marker {
            text.text("     <signal handler called>\n");
        }
        let pc = frame.pc.value();
        text.text(if frame.index < 10 { "  #" } else { " #" }).number(u64::try_from(frame.index).unwrap_or(u64::MAX));
        text.text("  ").hex(pc, 16).text(" ");
        let named = names.show(frame.pc.lookup(), pc, &memory, text);
        if let Ok((Some(found), _)) = plan.modules.look_up(frame.pc.lookup()) {
            text.text(if named { " in " } else { "in " });
            text.bytes(if found.record.path.is_empty() { program.path() } else { found.record.path });
            text.text("+").hex(pc.wrapping_sub(found.record.bias), 1);
        } else if !named {
            text.text("in no module");
        }
        text.text(how(frame.found_by)).end();
    }
}

/// How a frame was found, where that is not the usual way.
fn how(found_by: FoundBy) -> &'static str {
    match found_by {
        FoundBy::FramePointer => " [found by frame pointer alone]",
        FoundBy::CallAtSp => " [found by the return address at the stack pointer]",
        FoundBy::Probe => " [found by a kernel probe]",
        _ => "",
    }
}

/// Says which functions fill the stack.
fn recursion(report: &mut Report<'_>, names: &Names, period: usize) {
    let memory = checked();
    let Report { kept, text, .. } = report;
    text.text("    the stack is full of calls of ");
    for round in 0..period {
        let Some(frame) = kept.get(48_usize.saturating_add(round)) else { break };
        if round > 0 {
            text.text(" by ");
        }
        if !names.show(frame.pc.lookup(), frame.pc.value(), &memory, text) {
            text.hex(frame.pc.value(), 1);
        }
    }
    text.end();
}

fn foot(report: &mut Report<'_>) {
    let Report { text, traced, doubts, .. } = report;
    let Some(traced) = traced else {
        text.text("the trace was cut short by a fault\n");
        return;
    };
    match traced.verdict {
        Verdict::Reliable => text.text("this trace is reliable\n"),
        Verdict::Unreliable => {
            text.text("this trace is NOT reliable: ").number(u64::try_from(*doubts).unwrap_or(u64::MAX));
            text.text(" doubts, the first ").number(u64::try_from(traced.believed).unwrap_or(u64::MAX));
            text.text(" frames are believed\n")
        }
        Verdict::Pending(_) => {
            text.text("nothing speaks against this trace; `surestack report` says whether it is reliable\n")
        }
    };
    if matches!(traced.end, End::Stopped(_)) {
        text.text("the walk stopped short of the thread's first function\n");
    }
}

fn registers(report: &mut Report<'_>) {
    let Report { text, regs, .. } = report;
    for (index, (register, name)) in ARCH.registers.iter().enumerate() {
        let Some(value) = regs.get(*register) else { continue };
        text.text("  ").text(name).text(if name.len() < 3 { "  " } else { " " }).hex(value, 16);
        if index % 3 == 2 {
            text.end();
        }
    }
    text.end();
}

fn modules(report: &mut Report<'_>) {
    let Report { text, plan, program, .. } = report;
    let mut index = 0_usize;
    while let Ok(Some(module)) = plan.modules.at(index) {
        text.text("  ").hex(module.start, 16).text("-").hex(module.end, 16).text(" ");
        for byte in module.build_id {
            let digit = |value: u8| if value < 10 { b'0'.wrapping_add(value) } else { b'a'.wrapping_add(value - 10) };
            text.bytes(&[digit(byte >> 4), digit(byte & 15)]);
        }
        text.text(" ").bytes(if module.path.is_empty() { program.path() } else { module.path }).end();
        index = index.saturating_add(1);
    }
}
