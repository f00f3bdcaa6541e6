//! A file as if it were mapped, with a stack beside it.

use crate::error::{Error, Result};
use crate::random::Random;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use surestack::image::Image;
use surestack::this_process::{KnownCode, NoTable, compile};
use surestack_fast::{Evaluated, Packed, Ruled, Rules, Table, Unpacked, Words};
use surestack_walk::{
    CodeAddress, Error as WalkError, Mapping, Memory, Module, Modules, NoEvidence, Registry, Stack, StackKind, Stacks,
    Stop, Target, X86_64,
};

/// Where files are mapped that say nothing about it.
const BIAS: u64 = 0x7f12_3400_0000;
/// The stack: 64 KiB.
pub const STACK: Range<u64> = 0x7ffd_4000_0000..0x7ffd_4001_0000;

const LOADED: u32 = 1;
const EXECUTABLE: u32 = 1;

/// A file, its table, and a stack.
pub struct Object {
    image: Image,
    bias: u64,
    /// Linked addresses of its code.
    pub code: Vec<Range<u64>>,
    /// Linked addresses of all that is mapped.
    mapped: Range<u64>,
    /// Its unwind information, compiled.
    pub table: Table<'static>,
    /// How long that took.
    pub compiled_in: Duration,
    /// Where a function is mapped that has its return address at its stack pointer when it is entered.
    pub entered: u64,
    stack: Vec<u64>,
}

impl Object {
    /// Reads and compiles a file.
    pub fn open(path: &Path) -> Result<Self> {
        let image = Image::open(path).map_err(|e| Error::new(e.to_string()))?;
        let loaded = || image.segments().iter().filter(|segment| segment.kind == LOADED);
        let range = |start: u64, size: u64| start..start.saturating_add(size);
        let code: Vec<_> = loaded()
            .filter(|segment| segment.flags & EXECUTABLE != 0)
            .map(|segment| range(segment.address, segment.file_size))
            .collect();
        let start = loaded().map(|segment| segment.address & !0xfff).min().unwrap_or(0);
        let end = loaded().map(|segment| segment.address.saturating_add(segment.memory_size)).max().unwrap_or(0);
        let text = |range: &Range<u64>| {
            let length = usize::try_from(range.end - range.start).ok()?;
            Some((range.start, image.at(range.start, length)?))
        };
        let began = Instant::now();
        let known = KnownCode::in_code(code.iter().filter_map(text));
        let table = compile(&image.unwind(), |from, to| known.is_in(from, to));
        let compiled_in = began.elapsed();
        let table = table.map_err(|why: NoTable| Error::new(format!("{} has no table: {why:?}", path.display())))?;
        let bias = if start == 0 { BIAS } else { 0 };
        let words = usize::try_from((STACK.end - STACK.start) / 8).unwrap_or(0);
        let stack = vec![0; words];
        let mut object = Self { image, bias, code, mapped: start..end, table, compiled_in, entered: 0, stack };
        let is_plain = |start: &u64| {
            let rule = object.table.look_up(*start);
            matches!(rule, Ruled::Rule(rule) if rule.unpacked() == Unpacked::BySp { cfa: 8, fp: 8 })
        };
        object.entered = object.mapped_at(object.entries().into_iter().find(is_plain).unwrap_or(start));
        Ok(object)
    }

    /// Bytes of its unwind information.
    pub fn unwind_size(&self) -> usize {
        let unwind = self.image.unwind();
        [unwind.eh_frame, unwind.eh_frame_hdr].into_iter().flatten().map(|section| section.bytes.len()).sum()
    }

    /// Where a linked address is mapped.
    pub fn mapped_at(&self, linked: u64) -> u64 {
        linked.wrapping_add(self.bias)
    }

    /// First linked addresses of entries: there one ends whatever it says of itself.
    pub fn entries(&self) -> Vec<u64> {
        let header = self.image.unwind().eh_frame_hdr.and_then(surestack_cfi::Header::parse);
        let mut starts: Vec<u64> = header.iter().flat_map(|header| header.pairs().map(|(start, _)| start)).collect();
        starts.sort_unstable();
        starts
    }

    /// Fills the stack with what might lie on one: return addresses, places on the stack, and junk.
    pub fn fill(&mut self, random: &mut Random) {
        let code = self.code.clone();
        let bias = self.bias;
        for word in &mut self.stack {
            *word = match random.below(8) {
                0..4 => {
                    let Some(range) = random.one(&code) else { continue };
                    let offset = random.number().checked_rem(range.end - range.start).unwrap_or(0);
                    range.start.wrapping_add(offset).wrapping_add(bias)
                }
                4..6 => place(random),
                6 => 0,
                _ => random.number(),
            };
        }
    }

    /// Writes a word to an address of the stack.
    pub fn put(&mut self, address: u64, value: u64) {
        let offset = usize::try_from(address.wrapping_sub(STACK.start) / 8);
        offset.ok().and_then(|offset| self.stack.get_mut(offset)).into_iter().for_each(|word| *word = value);
    }

    /// Calls `with` with the target.
    pub fn with<T>(&self, with: impl FnOnce(&Target<'_>) -> T) -> T {
        with(&Target {
            arch: &X86_64,
            memory: self,
            modules: self,
            stacks: self,
            registry: &Registry::default(),
            evidence: &NoEvidence,
            stop: Stop::default(),
        })
    }

    fn on_stack(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(STACK.start)?;
        self.stack.get(usize::try_from(offset / 8).ok()?).copied()
    }
}

/// A place on the stack for a frame.
pub fn place(random: &mut Random) -> u64 {
    STACK.start + 8 * (random.number() % ((STACK.end - STACK.start) / 8))
}

impl Memory for Object {
    fn read(&self, address: u64, into: &mut [u8]) -> std::result::Result<(), WalkError> {
        if let Some(bytes) = self.image.at(address.wrapping_sub(self.bias), into.len()) {
            into.copy_from_slice(bytes);
            return Ok(());
        }
        for (at, byte) in (address..).zip(into) {
            let word = self.on_stack(at).ok_or(WalkError::Unreadable { address })?;
            let [low, ..] = (word >> (8 * (at % 8))).to_le_bytes();
            *byte = low;
        }
        Ok(())
    }
}

impl Modules for Object {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        let Range { start, end } = self.mapped;
        self.mapped.contains(&address.wrapping_sub(self.bias)).then(|| Module {
            index: 0,
            start: start.wrapping_add(self.bias),
            end: end.wrapping_add(self.bias),
            bias: self.bias,
            unwind: self.image.unwind(),
        })
    }

    fn mapping(&self, address: u64) -> Mapping {
        let linked = address.wrapping_sub(self.bias);
        match address {
            _ if self.code.iter().any(|code| code.contains(&linked)) => Mapping::Code,
            _ if self.mapped.contains(&linked) || STACK.contains(&address) => Mapping::Data,
            _ => Mapping::Nothing,
        }
    }
}

impl Stacks for Object {
    fn find(&self, address: u64) -> Option<Stack> {
        let Range { start: low, end: high } = STACK;
        (low..=high).contains(&address).then_some(Stack { low, high, kind: StackKind::Other })
    }
}

impl Words for &Object {
    fn word(&self, address: u64) -> Option<u64> {
        assert!(address.is_multiple_of(8) && STACK.contains(&address), "{address:#x} is no word of the stack");
        self.on_stack(address)
    }
}

/// What a table says, as a thread of our own asks it: what it does not say, the rules themselves do.
impl Rules for &Object {
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed> {
        let may_go_there = || self.mapping(pc.value()) == Mapping::Code;
        match self.table.look_up(pc.lookup().wrapping_sub(self.bias)) {
            Ruled::Rule(rule) if pc.is_exact() || may_go_there() => Some(rule),
            Ruled::Rule(_) | Ruled::Ask => Evaluated.rule(target, pc),
            Ruled::Nothing => None,
        }
    }
}
