//! Stacks drawn word by word, so that a test of an unwinder reads like the picture above the code it tests.
//!
//! ```
//! use surestack_drawing::{Stack, tag};
//! use surestack_walk::X86_64;
//!
//! let stack = Stack::at(0x7000)      // pc 0x40_1000, sp and fp 0x7000
//!     .word(tag("entry"))            // 0x7000  saved fp: entry registers
//!     .word(0x40_10e0)               // 0x7008  returns into entry code
//!     .label("entry")
//!     .block(&X86_64.core_registers, &[(X86_64.sp, 0x7100)]);
//! assert_eq!(stack.word_at(0x7000), 0x7011);
//! ```
//!
//! Everything from 0x40_0000 to 0x50_0000 is code, the stack reaches from 0x6000 to 0x8000 unless another is drawn, and
//! what was not drawn cannot be read.
#![forbid(unsafe_code)]

pub mod cfi;
mod trace;

pub use trace::{Seen, Trace};

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use surestack_walk::{
    Arch, CodeAddress, Error, Evidence, Layout, Mapping, Marker, Memory, Module, Modules, ProbeKind, ProbePage, Proof,
    Register, RegisterSet, Registry, Regs, Root, RowEvidence, RowProof, Section, Stack as StackRange, StackKind,
    Stacks, Stop, Target, UnwindSections, Unwinder, Walk, Witness, X86_64,
};

/// The code of every drawing.
const CODE: Range<u64> = 0x40_0000..0x50_0000;

/// A thread's registers, its stack and its code, drawn from low addresses to high.
#[derive(Clone, Debug)]
pub struct Stack {
    arch: &'static Arch,
    bytes: BTreeMap<u64, u8>,
    cursor: u64,
    labels: HashMap<&'static str, u64>,
    wanted: Vec<(u64, Word)>,
    regs: Regs,
    stacks: Vec<StackRange>,
    markers: Vec<Marker<'static>>,
    roots: Vec<Range<u64>>,
    generated: Vec<Range<u64>>,
    code: Vec<Range<u64>>,
    probe: Option<ProbePage>,
    sections: Option<Sections>,
    /// What the evidence says of every call.
    pub witness: Witness,
    /// What the evidence says of every root.
    pub root: Proof,
    /// What the evidence says of the frame of every interrupted function.
    pub frame: Proof,
    /// What the evidence says of every row but those in `rows`.
    pub row: RowEvidence,
    /// What it says of the rows of single pcs.
    pub rows: HashMap<u64, RowEvidence>,
    /// How often what is mapped has changed.
    pub generation: Option<u64>,
    /// What the evidence says of all code but that in `unknown_text`.
    pub text: Proof,
    /// Code about whose bytes there is no evidence.
    pub unknown_text: Option<Range<u64>>,
    budget: usize,
}

/// Unwind sections of the drawn code.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// Load bias of the module.
    pub bias: u64,
    /// `.eh_frame`, with its linked address.
    pub eh_frame: Option<(u64, Vec<u8>)>,
    /// `.eh_frame_hdr`.
    pub eh_frame_hdr: Option<(u64, Vec<u8>)>,
    /// `.debug_frame`.
    pub debug_frame: Option<Vec<u8>>,
}

/// What a word of the stack holds.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// A number.
    Value(u64),
    /// The address of a label.
    Label(&'static str),
    /// The address of a label with bit 0 set.
    Tagged(&'static str),
}

/// The address of `label` with bit 0 set: the frame pointer of an entry frame.
pub const fn tag(label: &'static str) -> Word {
    Word::Tagged(label)
}

impl From<u64> for Word {
    fn from(value: u64) -> Self {
        Self::Value(value)
    }
}

impl From<&'static str> for Word {
    fn from(label: &'static str) -> Self {
        Self::Label(label)
    }
}

impl Stack {
    /// An x86_64 thread at 0x40_1000 whose stack pointer and frame pointer are `address`, where the drawing begins.
    pub fn at(address: u64) -> Self {
        Self::of(&X86_64, address)
    }

    /// The same for another architecture.
    pub fn of(arch: &'static Arch, address: u64) -> Self {
        let mut regs = Regs::new();
        regs.set_pc(CodeAddress::Exact(0x40_1000));
        regs.set(arch.sp, address);
        regs.set(arch.fp, address);
        Self {
            arch,
            bytes: BTreeMap::new(),
            cursor: address,
            labels: HashMap::new(),
            wanted: Vec::new(),
            regs,
            stacks: vec![StackRange { low: 0x6000, high: 0x8000, kind: StackKind::Other }],
            markers: Vec::new(),
            roots: Vec::new(),
            generated: Vec::new(),
            code: Vec::new(),
            probe: None,
            sections: None,
            witness: Witness::Unknown,
            root: Proof::Unknown,
            frame: Proof::Unknown,
            row: RowEvidence::UNKNOWN,
            rows: HashMap::new(),
            generation: Some(0),
            text: Proof::Unknown,
            unknown_text: None,
            budget: 100,
        }
    }

    /// Draws a word and moves up.
    #[must_use]
    pub fn word(mut self, word: impl Into<Word>) -> Self {
        let at = self.cursor;
        self.cursor += 8;
        self.put(at, word.into());
        self
    }

    /// Draws words.
    #[must_use]
    pub fn words(self, words: &[u64]) -> Self {
        words.iter().fold(self, |stack, &word| stack.word(word))
    }

    /// Names the place reached.
    #[must_use]
    pub fn label(mut self, name: &'static str) -> Self {
        self.labels.insert(name, self.cursor);
        for (at, word) in std::mem::take(&mut self.wanted) {
            self.put(at, word);
        }
        self
    }

    /// Goes on drawing at `address`.
    #[must_use]
    pub fn jump(mut self, address: u64) -> Self {
        self.cursor = address;
        self
    }

    /// Draws a block of saved registers, zero but for those given.
    #[must_use]
    pub fn block(mut self, layout: &Layout, values: &[(Register, u64)]) -> Self {
        let start = self.cursor;
        self.cursor += layout.size;
        self.draw(start, &vec![0; usize::try_from(layout.size).expect("a block is small")]);
        for &(register, value) in values {
            let field = layout.fields.iter().find(|(field, ..)| *field == register);
            let &(_, offset, width) = field.unwrap_or_else(|| panic!("the block has no {register}"));
            self.draw(start + u64::from(offset), &value.to_le_bytes()[..usize::from(width)]);
        }
        self
    }

    /// Draws bytes elsewhere: code, mostly.
    #[must_use]
    pub fn bytes(mut self, address: u64, bytes: &[u8]) -> Self {
        self.draw(address, bytes);
        self
    }

    /// Sets a register of the thread.
    #[must_use]
    pub fn set(mut self, register: Register, value: u64) -> Self {
        self.regs.set(register, value);
        self
    }

    /// Sets the interrupted pc.
    #[must_use]
    pub fn pc(mut self, pc: u64) -> Self {
        self.regs.set_pc(CodeAddress::Exact(pc));
        self
    }

    /// Makes the first frame one that has made a call.
    #[must_use]
    pub fn returning_to(mut self, pc: u64) -> Self {
        self.regs.set_pc(CodeAddress::Return(pc));
        self
    }

    /// Sets the frame pointer.
    #[must_use]
    pub fn fp(self, value: u64) -> Self {
        let fp = self.arch.fp;
        self.set(fp, value)
    }

    /// Sets the stack pointer.
    #[must_use]
    pub fn sp(self, value: u64) -> Self {
        let sp = self.arch.sp;
        self.set(sp, value)
    }

    /// One more stack the thread may be on.
    #[must_use]
    pub fn stack(mut self, range: Range<u64>) -> Self {
        self.stacks.push(StackRange { low: range.start, high: range.end, kind: StackKind::Other });
        self
    }

    /// Makes the first stack end at `address`.
    #[must_use]
    pub fn ending_at(mut self, address: u64) -> Self {
        if let Some(first) = self.stacks.first_mut() {
            first.high = address;
        }
        self
    }

    /// Registers a range of code whose frames are outermost.
    #[must_use]
    pub fn root_in(mut self, range: Range<u64>) -> Self {
        self.roots.push(range);
        self
    }

    /// A page of the kernel's probes, which is code and belongs to no module.
    #[must_use]
    pub fn probes(mut self, start: u64, kind: ProbeKind) -> Self {
        self.probe = Some(ProbePage { start, kind });
        self.code(start..start + 0x1000)
    }

    /// More code, which belongs to no module.
    #[must_use]
    pub fn code(mut self, range: Range<u64>) -> Self {
        self.code.push(range);
        self
    }

    /// Registers generated code.
    #[must_use]
    pub fn generated_in(mut self, range: Range<u64>) -> Self {
        self.generated.push(range);
        self
    }

    /// Registers a marker.
    #[must_use]
    pub fn marker(mut self, marker: Marker<'static>) -> Self {
        self.markers.push(marker);
        self
    }

    /// Gives the code unwind sections.
    #[must_use]
    pub fn sections(mut self, sections: Sections) -> Self {
        self.sections = Some(sections);
        self
    }

    /// Gives the code an `.eh_frame` linked at 0x48_0000 and no bias.
    #[must_use]
    pub fn eh_frame(self, bytes: Vec<u8>) -> Self {
        self.sections(Sections { eh_frame: Some((0x48_0000, bytes)), ..Sections::default() })
    }

    /// What the evidence says of every call and every root.
    #[must_use]
    pub fn evidence(mut self, witness: Witness, root: Proof) -> Self {
        self.witness = witness;
        self.root = root;
        self
    }

    /// All evidence in favour: every call leads to its callee, every root is at its place, every row and all text are as
    /// they should be.
    #[must_use]
    pub fn proven(mut self) -> Self {
        let saved = self.arch.callee_saved.iter().fold(RegisterSet::EMPTY, |set, register| set.with(*register));
        self.row = RowEvidence { frame: RowProof::Proven, saved, ..RowEvidence::UNKNOWN };
        self.text = Proof::Proven;
        self.evidence(Witness::Confirmed, Proof::Proven)
    }

    /// Most frames of a walk.
    #[must_use]
    pub fn budget(mut self, frames: usize) -> Self {
        self.budget = frames;
        self
    }

    /// The registers the thread stopped with.
    pub fn regs(&self) -> Regs {
        self.regs
    }

    /// The word drawn at `address`.
    pub fn word_at(&self, address: u64) -> u64 {
        Memory::word(self, address).expect("something was drawn there")
    }

    /// Calls `with` with the target that was drawn.
    pub fn with<T>(&self, with: impl FnOnce(&Target<'_>) -> T) -> T {
        assert!(self.wanted.is_empty(), "labels never drawn: {:?}", self.wanted);
        let registry =
            Registry { markers: &self.markers, roots: &self.roots, generated: &self.generated, signed_bits: 0 };
        with(&Target {
            arch: self.arch,
            memory: self,
            modules: self,
            stacks: self,
            registry: &registry,
            evidence: self,
            stop: Stop::default(),
        })
    }

    /// Walks the drawing.
    pub fn walk(&self, unwinders: &[&dyn Unwinder]) -> Trace {
        self.with(|target| {
            let mut walk = Walk::new(target, unwinders, self.regs, self.budget);
            let mut frames = Vec::new();
            while let Some(frame) = walk.next() {
                frames.push(Seen {
                    pc: frame.pc,
                    regs: *frame.regs,
                    found_by: frame.found_by,
                    link: frame.link,
                    callee_cfa: frame.callee_cfa,
                    return_slot: frame.return_slot,
                });
            }
            let end = walk.end().expect("a walk that yields no more frames has ended");
            Trace { frames, end, refusals: walk.refusals().collect() }
        })
    }

    fn put(&mut self, at: u64, word: Word) {
        let (label, bits) = match word {
            Word::Value(value) => return self.draw(at, &value.to_le_bytes()),
            Word::Label(label) => (label, 0),
            Word::Tagged(label) => (label, 1),
        };
        match self.labels.get(label) {
            Some(address) => self.draw(at, &(address | bits).to_le_bytes()),
            None => self.wanted.push((at, word)),
        }
    }

    fn draw(&mut self, address: u64, bytes: &[u8]) {
        self.bytes.extend((address..).zip(bytes.iter().copied()));
    }
}

impl Memory for Stack {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        for (offset, byte) in (0..).zip(into) {
            let at = address.checked_add(offset).ok_or(Error::Unreadable { address })?;
            *byte = *self.bytes.get(&at).ok_or(Error::Unreadable { address })?;
        }
        Ok(())
    }
}

impl Stacks for Stack {
    fn find(&self, address: u64) -> Option<StackRange> {
        self.stacks.iter().find(|stack| stack.low <= address && address <= stack.high).copied()
    }
}

impl Modules for Stack {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        let sections = self.sections.as_ref().filter(|_| CODE.contains(&address))?;
        Some(Module {
            index: 0,
            start: CODE.start,
            end: CODE.end,
            bias: sections.bias,
            unwind: UnwindSections {
                eh_frame: sections.eh_frame.as_ref().map(|(address, bytes)| Section { address: *address, bytes }),
                eh_frame_hdr: sections
                    .eh_frame_hdr
                    .as_ref()
                    .map(|(address, bytes)| Section { address: *address, bytes }),
                debug_frame: sections.debug_frame.as_ref().map(|bytes| Section { address: 0, bytes }),
                ..UnwindSections::default()
            },
        })
    }

    fn mapping(&self, address: u64) -> Mapping {
        match address {
            address if CODE.contains(&address) => Mapping::Code,
            address if self.code.iter().any(|range| range.contains(&address)) => Mapping::Code,
            address if self.stacks.iter().any(|stack| stack.holds(address, 1)) => Mapping::Data,
            _ => Mapping::Nothing,
        }
    }

    fn probe(&self, address: u64) -> Option<ProbePage> {
        self.probe.filter(|page| address.wrapping_sub(page.start) < 0x1000)
    }

    fn generation(&self) -> Option<u64> {
        self.generation
    }
}

impl Evidence for Stack {
    fn call(&self, return_address: u64, _callee: CodeAddress) -> Witness {
        match self.mapping(return_address) {
            Mapping::Data | Mapping::Nothing if self.witness == Witness::Confirmed => Witness::NotACall,
            _ => self.witness,
        }
    }

    fn call_to_nowhere(&self, _regs: &Regs) -> Witness {
        self.witness
    }

    fn frame(&self, _pc: CodeAddress) -> Proof {
        self.frame
    }

    fn row(&self, pc: CodeAddress) -> RowEvidence {
        self.rows.get(&pc.value()).copied().unwrap_or(self.row)
    }

    fn text(&self, pc: CodeAddress) -> Proof {
        if self.unknown_text.as_ref().is_some_and(|range| range.contains(&pc.value())) {
            return Proof::Unknown;
        }
        self.text
    }

    fn root(&self, _root: Root, _regs: &Regs) -> Proof {
        self.root
    }
}
