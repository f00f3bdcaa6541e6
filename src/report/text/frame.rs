//! One frame as text.

use super::{Length, Paint, printable};
use crate::report::{FrameReport, ThreadReport, found, words};
use crate::symbol::{Function, Location, Origin};
use std::fmt::Write as _;
use std::io::{self, Write};
use surestack_reliable::{Doubt, Doubted};
use surestack_walk::{Arch, Link, Register, Regs};

/// Registers in a line.
const COLUMNS: usize = 4;

/// Prints frames.
#[derive(Clone, Copy)]
pub(super) struct FramePrinter {
    pub arch: &'static Arch,
    pub paint: Paint,
    pub length: Length,
}

impl FramePrinter {
    pub fn print(self, out: &mut impl Write, thread: &ThreadReport, frame: &FrameReport) -> io::Result<()> {
        self.boundary(out, frame)?;
        let at_top = frame.number == 0 && thread.crashed && self.length != Length::Brief;
        let all = frame.regs.as_deref().or_else(|| at_top.then_some(&thread.regs));
        let interrupted = frame.link != Link::Call || frame.number == 0;
        if let Some(regs) = all.filter(|_| interrupted && self.length != Length::Brief) {
            self.registers(out, regs)?;
        }
        self.functions(out, frame)?;
        if let Some(regs) = all.filter(|_| !interrupted) {
            self.saved(out, regs)?;
        }
        if self.length == Length::Explained {
            self.explain(out, thread, frame)?;
        }
        Ok(())
    }

    /// The line between interrupted code and what interrupted it.
    fn boundary(self, out: &mut impl Write, frame: &FrameReport) -> io::Result<()> {
        let pc = self.arch.register_name(Register::PC).unwrap_or("pc");
        let what = match (frame.link, frame.signal) {
            (Link::Call, _) => return Ok(()),
            (Link::Signal, Some(signal)) => words::delivered(signal, None),
            (Link::Signal, None) => "signal".to_owned(),
            (Link::Marker, _) => "entry".to_owned(),
            (Link::Probe, _) => "probe of the kernel's".to_owned(),
            (Link::Switch, _) => return writeln!(out, "  {}", self.paint.bad("--- switch of stacks ---")),
        };
        let line = format!("--- {what}: interrupted at {pc} {:#018x} ---", frame.pc.value());
        writeln!(out, "  {}", self.paint.bad(&line))
    }

    /// All known registers in a block.
    fn registers(self, out: &mut impl Write, regs: &Regs) -> io::Result<()> {
        let known = self.arch.registers.iter().filter_map(|&(register, name)| Some((name, regs.get(register)?)));
        let cells: Vec<_> = known.map(|(name, value)| format!("{name:>3} {value:#018x}")).collect();
        cells.chunks(COLUMNS).try_for_each(|line| writeln!(out, "      {}", self.paint.faint(&line.join("  "))))
    }

    /// The known registers, one a line, with where they were saved.
    fn saved(self, out: &mut impl Write, regs: &Regs) -> io::Result<()> {
        for &(register, name) in self.arch.registers {
            let Some(value) = regs.get(register) else { continue };
            let place = regs.place(register).map(|place| format!(" saved at {place:#018x}")).unwrap_or_default();
            writeln!(out, "      {}", self.paint.faint(&format!("{name:>3} {value:#018x}{place}")))?;
        }
        Ok(())
    }

    /// The calls inlined at the pc, innermost first, and the function itself.
    fn functions(self, out: &mut impl Write, frame: &FrameReport) -> io::Result<()> {
        let (function, inlined) = match frame.symbol.functions.split_last() {
            Some((function, inlined)) => (Some(function), inlined),
            None => (None, &[][..]),
        };
        let mut pc = format!("{:#018x}", frame.pc.value());
        for call in inlined {
            writeln!(out, "  #{:<3} {pc} {} [inlined]", frame.number, self.name(call))?;
            self.location(out, call.location.as_ref())?;
            pc = " ".repeat(18);
        }
        let module = match &frame.module {
            Some(module) => {
                let name = module.path.file_name().unwrap_or(module.path.as_os_str());
                format!(" ({} + {:#x})", printable(&name.to_string_lossy()), module.offset)
            }
            None => String::new(),
        };
        let found = self.paint.faint(&format!("[{}]", found::short(frame.found_by)));
        let name = function.map_or_else(|| "???".to_owned(), |function| self.name(function));
        let mut offset = String::new();
        if let Some(distance) = frame.symbol.offset.filter(|_| function.is_some()) {
            let near = if distance != 0 && frame.symbol.origin == Origin::Nearest { "?" } else { "" };
            let _ = write!(offset, "+{distance:#x}{near}");
        }
        writeln!(out, "  #{:<3} {pc} {name}{offset}{module} {found}", frame.number)?;
        self.location(out, function.and_then(|function| function.location.as_ref()))
    }

    fn name(self, function: &Function) -> String {
        if function.name.is_empty() { "???".to_owned() } else { self.paint.name(&printable(&function.name)) }
    }

    fn location(self, out: &mut impl Write, location: Option<&Location>) -> io::Result<()> {
        let Some(Location { file, line, column }) = location else { return Ok(()) };
        let number = |number: &Option<u32>| number.map(|number| format!(":{number}")).unwrap_or_default();
        let file = printable(&file.to_string_lossy());
        writeln!(out, "         at {file}{}{}", number(line), number(column))
    }

    /// How the frame is known, and what speaks against it.
    fn explain(self, out: &mut impl Write, thread: &ThreadReport, frame: &FrameReport) -> io::Result<()> {
        writeln!(out, "         found by {}", found::full(frame.found_by))?;
        if let Some(cfa) = frame.callee_cfa {
            writeln!(out, "         its callee's frame ends at {cfa:#018x}")?;
        }
        if let Some(sp) = frame.sp {
            writeln!(out, "         stack pointer {sp:#018x}")?;
        }
        let is_here = |doubted: &&Doubted| doubted.frame == frame.number && !matches!(doubted.doubt, Doubt::Stopped(_));
        let doubts = thread.doubts.iter().filter(is_here);
        for doubted in doubts {
            writeln!(out, "         {} {}", self.paint.bad("doubt:"), doubted.doubt)?;
        }
        Ok(())
    }
}
