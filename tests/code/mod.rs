//! Code to ask about: pieces assembled on the spot, and the system's C library.
#![allow(dead_code, reason = "each test uses its part")]

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};
use std::process::Command;
use surestack_walk::{Bytes, Error, Mapping, Memory, Module, Modules, Section, UnwindSections};

/// Where code is assembled to.
pub const BASE: u64 = 0x40_0000;

/// Code assembled at [`BASE`], and where its labels lie.
pub struct Assembled {
    bytes: Vec<u8>,
    labels: Vec<(String, u64)>,
}

impl Assembled {
    /// Assembles AT&T source; every label becomes known.
    pub fn new(source: &str) -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let folder = std::env::temp_dir().join(format!(
            "surestack-analysis-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let (input, object, flat) = (folder.join("code.s"), folder.join("code.o"), folder.join("code.bin"));
        std::fs::write(&input, format!("{source}\n")).unwrap();
        run(Command::new("as").arg(&input).arg("-o").arg(&object));
        run(Command::new("objcopy").args(["-O", "binary", "-j", ".text"]).arg(&object).arg(&flat));
        let symbols = run(Command::new("nm").arg(&object));
        let label = |line: &str| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((words.nth(1)?.to_owned(), BASE + address))
        };
        let assembled =
            Self { bytes: std::fs::read(&flat).unwrap(), labels: symbols.lines().filter_map(label).collect() };
        std::fs::remove_dir_all(&folder).unwrap();
        assembled
    }

    /// Where a label lies.
    pub fn at(&self, label: &str) -> u64 {
        self.labels.iter().find(|(name, _)| name == label).unwrap_or_else(|| panic!("no label {label}")).1
    }

    /// The bytes, where they lie.
    pub fn memory(&self) -> Bytes<'_> {
        Bytes { address: BASE, bytes: &self.bytes }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An ELF file as if mapped at its linked addresses.
pub struct Library {
    bytes: Vec<u8>,
    segments: Vec<(u64, Vec<u8>)>,
    eh_frame: (u64, std::ops::Range<usize>),
    eh_frame_hdr: (u64, std::ops::Range<usize>),
    code: (u64, u64),
}

impl Library {
    /// The system's C library; none where it is not at its usual place.
    pub fn open() -> Option<Self> {
        Self::read("/lib/x86_64-linux-gnu/libc.so.6")
    }

    /// The ELF file at `path`.
    pub fn read(path: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let file = object::File::parse(&*bytes).unwrap();
        let section = |name| {
            let section = file.section_by_name(name)?;
            let (offset, size) = section.file_range()?;
            Some((section.address(), usize::try_from(offset).ok()?..usize::try_from(offset + size).ok()?))
        };
        let (eh_frame, eh_frame_hdr) = (section(".eh_frame")?, section(".eh_frame_hdr")?);
        let text = file.section_by_name(".text")?;
        let code = (text.address(), text.address() + text.size());
        let segments = file.segments().map(|segment| (segment.address(), segment.data().unwrap().to_vec())).collect();
        Some(Self { segments, eh_frame, eh_frame_hdr, code, bytes })
    }

    /// The range of a symbol.
    pub fn symbol(&self, name: &str) -> Option<(u64, u64)> {
        let file = object::File::parse(&*self.bytes).ok()?;
        let symbol = file.symbols().chain(file.dynamic_symbols()).find(|symbol| symbol.name() == Ok(name))?;
        Some((symbol.address(), symbol.address() + symbol.size()))
    }

    /// The address behind the first `syscall` in a range.
    pub fn behind_syscall(&self, start: u64, end: u64) -> Option<u64> {
        self.decoded(start, end)
            .into_iter()
            .find(|found| found.mnemonic() == Mnemonic::Syscall)
            .map(|found| found.next_ip())
    }

    /// The functions that `.eh_frame` describes.
    pub fn functions(&self) -> impl Iterator<Item = (u64, u64)> {
        use gimli::UnwindSection;
        let bases = gimli::BaseAddresses::default().set_eh_frame(self.eh_frame.0);
        let frames = gimli::EhFrame::new(&self.bytes[self.eh_frame.1.clone()], gimli::LittleEndian);
        let mut entries = frames.entries(&bases);
        let mut functions = Vec::new();
        while let Some(entry) = entries.next().unwrap() {
            if let gimli::CieOrFde::Fde(fde) = entry {
                let fde = fde.parse(gimli::EhFrame::cie_from_offset).unwrap();
                functions.push((fde.initial_address(), fde.end_address()));
            }
        }
        functions.into_iter()
    }

    /// The instructions of a range, one after the other.
    pub fn decoded(&self, start: u64, end: u64) -> Vec<Instruction> {
        let mut code = vec![0; usize::try_from(end - start).unwrap()];
        self.read_into(start, &mut code);
        Decoder::with_ip(64, &code, start, DecoderOptions::NONE).into_iter().collect()
    }

    fn read_into(&self, start: u64, code: &mut [u8]) {
        Memory::read(self, start, code).unwrap();
    }

    /// The direct calls in functions that `.eh_frame` describes, to functions that begin where it says.
    pub fn direct_calls(&self) -> impl Iterator<Item = Instruction> {
        let functions: Vec<_> = self.functions().collect();
        let starts: std::collections::HashSet<u64> = functions.iter().map(|(start, _)| *start).collect();
        let text = self.code;
        let within = functions.into_iter().filter(move |(start, end)| text.0 <= *start && *end <= text.1);
        within
            .flat_map(|(start, end)| self.decoded(start, end))
            .filter(move |found| found.mnemonic() == Mnemonic::Call && starts.contains(&found.near_branch_target()))
    }
}

impl Memory for Library {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let mapped = self.segments.iter().map(|(start, bytes)| Bytes { address: *start, bytes });
        mapped
            .into_iter()
            .find(|segment| segment.read(address, into).is_ok())
            .map(|_| ())
            .ok_or(Error::Unreadable { address })
    }
}

impl Modules for Library {
    fn find(&self, _address: u64) -> Option<Module<'_>> {
        let section = |(address, range): &(u64, std::ops::Range<usize>)| {
            Some(Section { address: *address, bytes: &self.bytes[range.clone()] })
        };
        let unwind = UnwindSections {
            eh_frame: section(&self.eh_frame),
            eh_frame_hdr: section(&self.eh_frame_hdr),
            ..UnwindSections::default()
        };
        Some(Module { index: 0, start: 0, end: u64::MAX, bias: 0, unwind })
    }

    fn mapping(&self, _address: u64) -> Mapping {
        Mapping::Unknown
    }
}
