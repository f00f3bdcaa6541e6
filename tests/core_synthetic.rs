//! The core reader on cores assembled byte by byte.

use std::path::PathBuf;
use surestack::image::Find;
use surestack::snapshot::{Gap, Snapshot, core_file};
use surestack_walk::{Mapping, Modules, Register};

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const R: u32 = 4;
const RW: u32 = 6;

/// A core under construction.
struct Core {
    machine: u16,
    notes: Vec<u8>,
    /// Address, flags, size in memory, bytes held.
    loads: Vec<(u64, u32, u64, Vec<u8>)>,
}

impl Core {
    fn new(machine: u16) -> Self {
        Self { machine, notes: vec![], loads: vec![] }
    }

    fn note(mut self, kind: u32, owner: &str, contents: &[u8]) -> Self {
        for word in [owner.len() as u32 + 1, contents.len() as u32, kind] {
            self.notes.extend(word.to_le_bytes());
        }
        for part in [&[owner.as_bytes(), b"\0"].concat(), contents] {
            self.notes.extend(part);
            self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        }
        self
    }

    /// NT_PRSTATUS of a thread whose register block is filled with `register`.
    fn thread(self, id: u32, signal: u16, register: u64) -> Self {
        let registers = if self.machine == 62 { 27 } else { 34 };
        let mut status = vec![0; 112];
        status[12..14].copy_from_slice(&signal.to_le_bytes());
        status[32..36].copy_from_slice(&id.to_le_bytes());
        status.extend(register.to_le_bytes().repeat(registers));
        self.note(1, "CORE", &status)
    }

    fn load(mut self, address: u64, flags: u32, size: u64, bytes: &[u8]) -> Self {
        self.loads.push((address, flags, size, bytes.to_vec()));
        self
    }

    fn words(self, address: u64, words: &[u64]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.load(address, RW, 0x1000, &[bytes, vec![0; 0x1000]].concat()[..0x1000])
    }

    fn bytes(&self) -> Vec<u8> {
        let count = self.loads.len() + 1;
        let mut file = elf_header(self.machine, 4, count);
        let mut offset = 64 + 56 * count + 64;
        let mut bodies: Vec<u8> = vec![];
        for (kind, flags, address, size, body) in [(PT_NOTE, 0, 0, 0, &self.notes)]
            .into_iter()
            .chain(self.loads.iter().map(|(address, flags, size, body)| (PT_LOAD, *flags, *address, *size, body)))
        {
            file.extend(segment(kind, flags, offset as u64, address, body.len() as u64, size));
            offset += body.len();
            bodies.extend(body);
        }
        // Section 0: the true number of program headers.
        let mut section = [0; 64];
        section[44..48].copy_from_slice(&(count as u32).to_le_bytes());
        if count >= 0xffff {
            let at = file.len() as u64;
            file[40..48].copy_from_slice(&at.to_le_bytes());
            file[60..62].copy_from_slice(&1u16.to_le_bytes());
        }
        file.extend(section);
        file.extend(bodies);
        file
    }

    fn open(&self, name: &str) -> Snapshot {
        let path = std::env::temp_dir().join(format!("surestack-synthetic-{name}-{}", std::process::id()));
        std::fs::write(&path, self.bytes()).unwrap();
        let snapshot = core_file::open(&path, &Find::default());
        std::fs::remove_file(&path).unwrap();
        snapshot.unwrap()
    }
}

fn elf_header(machine: u16, kind: u16, segments: usize) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(64, 0);
    header[16..18].copy_from_slice(&kind.to_le_bytes());
    header[18..20].copy_from_slice(&machine.to_le_bytes());
    header[32] = 64;
    header[54] = 56;
    header[56..58].copy_from_slice(&(segments.min(0xffff) as u16).to_le_bytes());
    header[58] = 64;
    header
}

fn segment(kind: u32, flags: u32, offset: u64, address: u64, file_size: u64, size: u64) -> Vec<u8> {
    let mut header = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    for word in [offset, address, 0, file_size, size, 0x1000] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// The first page of a program: header, a PT_LOAD at 0, PT_DYNAMIC at 0x2000.
fn first_page() -> Vec<u8> {
    let mut page = elf_header(183, 3, 2);
    page.extend(segment(PT_LOAD, 5, 0, 0, 0x1000, 0x3000));
    page.extend(segment(2, RW, 0x2000, 0x2000, 0x40, 0x40));
    page.resize(0x1000, 0);
    page
}

#[test]
fn the_thread_with_the_signal_comes_first_and_aarch64_masks_are_kept() {
    let mask = [0xffff_u64 << 48, 0x7f << 48].map(u64::to_le_bytes).concat();
    let core = Core::new(183).thread(7, 0, 0x70).thread(8, 11, 0x80).thread(9, 0, 0x90).note(0x406, "LINUX", &mask);
    let snapshot = core.open("order");
    let threads: Vec<_> = snapshot.threads.iter().map(|thread| (thread.id, thread.stop.signal)).collect();
    assert_eq!(threads, [(8, 11), (7, 0), (9, 0)]);
    assert_eq!(snapshot.threads[0].regs.get(Register::PC), Some(0x80));
    assert_eq!(snapshot.threads[0].regs.place(Register::PC), None, "live registers lie in no memory");
    assert_eq!((snapshot.arch.name, snapshot.signed_bits), ("aarch64", 0x7f << 48));
}

#[test]
fn only_one_thread_took_the_signal_that_linux_writes_into_all() {
    let snapshot = Core::new(62).thread(1, 11, 0).thread(2, 11, 0).thread(3, 11, 0).open("signal");
    let signals: Vec<_> = snapshot.threads.iter().map(|thread| thread.stop.signal).collect();
    assert_eq!(signals, [11, 0, 0]);
}

#[test]
fn a_read_may_span_mappings_and_never_a_hole() {
    let core = Core::new(62)
        .thread(1, 6, 0)
        .load(0x2000, R, 0x1000, &[2; 0x1000])
        .load(0x1000, R, 0x1000, &[1; 0x1000])
        .load(0x3000, R, 0x1000, &[3; 0x800]);
    let snapshot = core.open("span");
    assert_eq!(snapshot.memory.word(0x1ffc), Ok(0x0202_0202_0101_0101));
    assert_eq!(snapshot.memory.value(0x37ff, 1), Ok(3));
    assert!(snapshot.memory.value(0x37ff, 2).is_err());
    assert!(snapshot.memory.word(0xffc).is_err());
    assert_eq!(snapshot.gaps, [Gap::Filtered { start: 0x3800, end: 0x4000 }]);
    assert_eq!((snapshot.space.mapping(0x3900), snapshot.space.mapping(0x4000)), (Mapping::Data, Mapping::Nothing));
}

#[test]
fn a_programs_own_memory_that_was_not_written_though_other_was_is_counted_and_keeps_no_report_from_being_whole() {
    let core = || Core::new(62).thread(1, 6, 0).load(0x5000, RW, 0x3000, &[]).load(0x9000, RW, 0x1000, &[]);
    let with_a_stack = core().load(0x1000, RW, 0x1000, &[1; 0x1000]).open("unwritten");
    assert_eq!(with_a_stack.gaps, [Gap::Unwritten { mappings: 2, bytes: 0x4000 }]);
    assert!(with_a_stack.memory.word(0x5000).is_err(), "it may have been left out");
    let filtered = [Gap::Filtered { start: 0x5000, end: 0x8000 }, Gap::Filtered { start: 0x9000, end: 0xa000 }];
    assert_eq!(core().open("filtered").gaps, filtered);
}

#[test]
fn where_segments_overlap_the_lower_one_has_the_bytes() {
    let core = Core::new(62)
        .thread(1, 6, 0)
        .load(0x1000, R, 0x2000, &[1; 0x2000])
        .load(0x2000, R, 0x2000, &[2; 0x2000])
        .load(u64::MAX - 0xfff, R, 0x1000, &[3; 0x1000]);
    let snapshot = core.open("overlap");
    assert_eq!(snapshot.memory.word(0x2ffc), Ok(0x0202_0202_0101_0101));
    assert!(snapshot.memory.word(u64::MAX - 3).is_err());
}

#[test]
fn without_nt_file_modules_come_from_the_loaders_list_even_when_it_is_a_circle() {
    // AT_PHDR, AT_PHNUM, AT_EXECFN
    let auxv = [3, 0x1_0040, 5, 2, 31, 0x5000, 0, 0].map(u64::to_le_bytes).concat();
    let mut names = [0; 0x1000];
    names[..8].copy_from_slice(b"/nix/pro");
    names[0x10..0x1b].copy_from_slice(b"/nix/lib.so");
    let core = Core::new(183)
        .thread(1, 11, 0)
        .note(6, "CORE", &auxv)
        .load(0x1_0000, 5, 0x1000, &first_page())
        .words(0x1_2000, &[21, 0x4000, 0, 0]) // DT_DEBUG
        .words(0x4000, &[1, 0x6000, 0, 0])
        .load(0x5000, R, 0x1000, &names)
        .words(0x6000, &[0x1_0000, 0x5008, 0x1_2000, 0x7000]) // the program, its name empty
        .words(0x7000, &[0x2_0000, 0x5010, 0x2_2000, 0x6000]) // the library, and back to the program
        .load(0x2_0000, 5, 0x1000, &first_page());
    let snapshot = core.open("list");
    let modules: Vec<_> =
        snapshot.space.modules.iter().map(|module| (module.bias, module.end, module.path.clone())).collect();
    let expected =
        [(0x1_0000, 0x1_3000, PathBuf::from("/nix/pro")), (0x2_0000, 0x2_3000, PathBuf::from("/nix/lib.so"))];
    assert_eq!(modules, expected);
}

#[test]
fn seventy_thousand_mappings_are_all_there() {
    let mut core = Core::new(62).thread(1, 6, 0);
    for index in 0..70_000 {
        core = core.load(0x1000 + index * 0x2000, R, 0x1000, &[]);
    }
    let snapshot = core.open("many");
    assert_eq!(snapshot.space.mappings.len(), 70_000);
    assert!(snapshot.space.complete);
    assert_eq!(snapshot.space.mapping(0x1000 + 69_999 * 0x2000), Mapping::Data);
}

#[test]
fn notes_that_lie_about_their_size_are_damage() {
    let forged = [u64::MAX, 4096, 0, 1, 2].map(u64::to_le_bytes).concat();
    let core = Core::new(62).thread(1, 6, 0).note(0x4649_4c45, "CORE", &forged).note(1, "CORE", &[0; 40]);
    let snapshot = core.open("notes");
    assert_eq!(snapshot.threads.len(), 1);
    assert!(
        matches!(&snapshot.gaps[..], [Gap::Damaged { what }] if what.starts_with("2 of its notes")),
        "{:?}",
        snapshot.gaps
    );
}
