//! Broken call frame information: mutated sections of real files, and entries written with random instructions. Our own
//! reader of entries and gimli say the same of each.

use crate::{Fuzzed, random::Random};
use object::{Object, ObjectSection};
use std::cell::Cell;
use surestack_cfi::{Cfi, DwarfRows, Header, Lookup, ReferenceRows, Row, Rows};
use surestack_drawing::cfi;
use surestack_walk::{
    AARCH64, Arch, CodeAddress, Error, Mapping, Memory, Module, Modules, NoEvidence, Register, Registry, Regs, Section,
    Step, Stop, Target, UnwindSections, Unwinder, X86_64,
};

/// Reads that one step may need: a register each, and an expression budget each.
const READS: u64 = 34 * 520;

/// The sections of one file, mutated in place and restored.
struct File {
    eh_frame: (u64, Vec<u8>),
    hdr: Option<(u64, Vec<u8>)>,
    entries: Vec<(u64, u64)>,
}

/// `.eh_frame` and `.eh_frame_hdr` of this program and of the C library it runs with.
pub struct Sections(Vec<File>);

impl Sections {
    /// Reads the files.
    pub fn of_this_system() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("the maps of this process");
        let mut paths: Vec<&str> = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
        paths.retain(|path| path.starts_with('/'));
        paths.dedup();
        let files: Vec<File> = paths.into_iter().filter_map(File::read).collect();
        assert!(!files.is_empty(), "this process is made of files with unwind information");
        Self(files)
    }
}

impl File {
    fn read(path: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let file = object::File::parse(&*bytes).ok()?;
        let section = |name| {
            let section = file.section_by_name(name)?;
            Some((section.address(), section.data().ok()?.to_vec()))
        };
        let (eh_frame, hdr) = (section(".eh_frame")?, section(".eh_frame_hdr")?);
        let header = Header::parse(Section { address: hdr.0, bytes: &hdr.1 })?;
        let entries = header.pairs().collect();
        Some(Self { eh_frame, hdr: Some(hdr), entries })
    }
}

impl Fuzzed for Sections {
    fn name(&self) -> &'static str {
        "eh_frame"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let file = random.index(self.0.len());
        let Some(file) = self.0.get_mut(file) else { return "no file" };
        let entry = random.index(file.entries.len());
        let Some(&(start, fde)) = file.entries.get(entry) else { return "no entry" };
        // Near the entry, or, as often, in the common entry it names; the search table sometimes.
        let at = usize::try_from(fde.wrapping_sub(file.eh_frame.0)).unwrap_or(0);
        let back = file.eh_frame.1.get(at + 4..at + 8).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let common = (at + 4).saturating_sub(back as usize);
        let region = if random.once_in(3) { common } else { at };
        let end = file.eh_frame.1.len().min(region + 48);
        let kept = file.eh_frame.1.clone();
        random.mutate(&mut file.eh_frame.1[region..end]);
        let mut hdr = file.hdr.clone();
        if random.once_in(8)
            && let Some((_, bytes)) = &mut hdr
        {
            let end = bytes.len().min(64);
            random.mutate(&mut bytes[..end]);
        }
        // Reading one entry after the other takes long; the outcome differs in where it stops only.
        let indexed = !random.once_in(32);
        let unwind = UnwindSections {
            eh_frame: Some(Section { address: file.eh_frame.0, bytes: &file.eh_frame.1 }),
            eh_frame_hdr: hdr.as_ref().filter(|_| indexed).map(|(address, bytes)| Section { address: *address, bytes }),
            ..UnwindSections::default()
        };
        let outcome = step(unwind, &X86_64, start + random.below(64), random);
        file.eh_frame.1 = kept;
        outcome
    }
}

/// One entry with random instructions, in either section, for either architecture.
pub struct Written;

impl Fuzzed for Written {
    fn name(&self) -> &'static str {
        "entries"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let arch = if random.once_in(3) { &AARCH64 } else { &X86_64 };
        let return_register = if arch.link.is_some() { 30 } else { 16 };
        let mut instructions = vec![0x0c, random.byte() & 31, random.byte() & 0x7f, 0x80 | return_register, 1];
        for _ in 0..random.below(6) {
            let expression: Vec<u8> = (0..random.below(24)).map(|_| operation(random)).collect();
            let register = random.byte() & 31;
            instructions.extend(match random.below(24) {
                0 => cfi::def_cfa_expression(&expression),
                1 => cfi::expression(register, &expression),
                2 => cfi::val_expression(register, &expression),
                3 => vec![random.byte()],
                4 | 5 => vec![0x0a + random.byte() % 2],
                6..9 => cfi::register(register, random.byte() & 31).to_vec(),
                9..12 => cfi::advance(random.byte() & 7).to_vec(),
                _ => cfi::offset(register, random.byte() & 0x7f).to_vec(),
            });
        }
        let entry =
            cfi::Fde::new(&[&instructions]).returning_by(return_register).augmented(["", "S", "B"][random.index(3)]);
        let (mut eh_frame, mut debug_frame) =
            (cfi::eh_frame(std::slice::from_ref(&entry)), cfi::debug_frame(std::slice::from_ref(&entry)));
        if random.once_in(3) {
            random.mutate(&mut eh_frame);
            random.mutate(&mut debug_frame);
        }
        // Our own reader is asked where there is a search table.
        let hdr = cfi::eh_frame_hdr(0x47_0000, 0x48_0000, std::slice::from_ref(&entry));
        let hdr = Section { address: 0x47_0000, bytes: &hdr };
        let unwind = UnwindSections {
            eh_frame: random.once_in(2).then_some(Section { address: 0x48_0000, bytes: &eh_frame }),
            eh_frame_hdr: entry.instructions.len().is_multiple_of(2).then_some(hdr),
            debug_frame: Some(Section { address: 0, bytes: &debug_frame }),
            ..UnwindSections::default()
        };
        step(unwind, arch, 0x40_1000 + random.below(0x100), random)
    }
}

/// A byte of an expression: mostly an operation that call frame information may use.
fn operation(random: &mut Random) -> u8 {
    match random.below(6) {
        0 => random.byte(),
        1 => 0x70 + random.byte() % 32,
        2 => 0x30 + random.byte() % 32,
        3 => 0x06,
        4 => [0x28, 0x2f][random.index(2)],
        _ => 0x12 + random.byte() % 26,
    }
}

/// Memory in which every second page can be read and holds numbers made of their addresses.
struct Noise(Cell<u64>);

impl Memory for Noise {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.0.set(self.0.get() + 1);
        if address & 0x1000 != 0 {
            return Err(Error::Unreadable { address });
        }
        for (byte, number) in into.iter_mut().zip(address..) {
            *byte = number.wrapping_mul(0x9e37_79b9).to_le_bytes()[2];
        }
        Ok(())
    }
}

struct OneModule<'a>(UnwindSections<'a>);

impl Modules for OneModule<'_> {
    fn find(&self, _address: u64) -> Option<Module<'_>> {
        Some(Module { index: 0, start: 0, end: u64::MAX, bias: 0, unwind: self.0 })
    }

    fn mapping(&self, _address: u64) -> Mapping {
        Mapping::Unknown
    }
}

/// The row at `pc`, those beside it, and the last one of its function are the same by our own reader and by gimli.
fn hold_against_gimli(target: &Target<'_>, pc: u64) {
    let mut places = vec![pc];
    if let Ok(Some(row)) = look_up(&ReferenceRows, target, pc) {
        places.extend([row.start.wrapping_sub(1), row.start, row.end, row.function.1.wrapping_sub(1)]);
    }
    for place in places {
        assert_eq!(look_up(&DwarfRows, target, place), look_up(&ReferenceRows, target, place), "{place:#x}");
    }
}

/// The row that `rows` have for an address, without its section.
fn look_up(rows: &impl Rows, target: &Target<'_>, pc: u64) -> Result<Option<Row<'static>>, Error> {
    match rows.row(target, CodeAddress::Exact(pc), |row| Row { expressions: &[], ..*row })? {
        Lookup::Row(row) => Ok(Some(row)),
        Lookup::Missing(_) => Ok(None),
    }
}

fn step(unwind: UnwindSections<'_>, arch: &'static Arch, pc: u64, random: &mut Random) -> &'static str {
    let memory = Noise(Cell::new(0));
    let modules = OneModule(unwind);
    let stacks: [surestack_walk::Stack; 0] = [];
    let target = Target {
        arch,
        memory: &memory,
        modules: &modules,
        stacks: &stacks,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let mut regs = Regs::new();
    for &(register, _) in arch.registers {
        if !random.once_in(8) {
            regs.set(register, random.number() >> random.below(64));
        }
    }
    regs.set_pc(if random.once_in(2) { CodeAddress::Exact(pc) } else { CodeAddress::Return(pc) });
    let mut caller = Regs::new();
    let outcome = Cfi(DwarfRows).step(&target, &regs, &mut caller);
    assert!(memory.0.get() < READS, "{} reads", memory.0.get());
    if unwind.eh_frame_hdr.is_some() {
        hold_against_gimli(&target, pc);
    }
    match outcome {
        Ok(Step::Caller { .. }) => {
            assert!(caller.get(Register::PC).is_some(), "a caller without a pc");
            "caller"
        }
        Ok(Step::End(_)) => "root",
        Ok(Step::NotMine(_)) => "not mine",
        Err(Error::BadCfi { .. }) => "bad cfi",
        Err(_) => "refused",
    }
}
