//! A thread with three stacks and one module, and the walks over it that must agree.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod code;
pub mod machine;

use code::{CODE, Code, DATA, GENERATED};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_fast::{Cache, Chase, Evaluated, Ground, Passed, Remembered, Start, Take, Words};
use surestack_frame_pointer::{Entry, FramePointer};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{
    CodeAddress, End, Error, Mapping, Memory, Module, Modules, NoEvidence, Register, Registry, Regs, Section, Stack,
    StackKind, Stacks, Stop, Target, UnwindSections, Unwinder, Walk, X86_64,
};

/// The stack of the thread, one below it and one above.
pub const STACKS: [Range<u64>; 3] =
    [0x7000_0000_8000..0x7000_0000_c000, 0x7000_0000_0000..0x7000_0000_4000, 0x7000_0001_0000..0x7000_0001_4000];

/// Memory and code.
pub struct World {
    /// The words of [`STACKS`].
    pub words: [Vec<u64>; 3],
    /// Addresses on the stacks that cannot be read.
    pub holes: BTreeSet<u64>,
    /// Where the first stack is said to end.
    pub high: u64,
    /// The code in force.
    pub code: Code,
    /// Twice how often it was another, where that is known.
    pub generation: Option<u64>,
    /// The module's bytes stand in `.debug_frame`.
    pub debug_frame: Option<Vec<u8>>,
    /// Which words were asked for: none may lie elsewhere.
    pub asked: RefCell<Vec<u64>>,
}

impl World {
    /// Empty stacks.
    pub fn new(code: Code) -> Self {
        let words = STACKS.map(|stack| vec![0; usize::try_from((stack.end - stack.start) / 8).unwrap()]);
        Self {
            words,
            holes: BTreeSet::new(),
            high: STACKS[0].end,
            code,
            generation: Some(0),
            debug_frame: None,
            asked: RefCell::default(),
        }
    }

    fn place(address: u64) -> Option<(usize, usize)> {
        let stack = STACKS.iter().position(|stack| stack.contains(&address))?;
        Some((stack, usize::try_from((address - STACKS[stack].start) / 8).unwrap()))
    }

    /// The word at an address of a stack.
    pub fn at(&self, address: u64) -> u64 {
        let (stack, word) = Self::place(address).unwrap_or_else(|| panic!("{address:#x} is on no stack"));
        self.words[stack][word]
    }

    /// Writes a word, and returns what was there.
    pub fn put(&mut self, address: u64, value: u64) -> u64 {
        assert!(address.is_multiple_of(8), "{address:#x}");
        let (stack, word) = Self::place(address).unwrap_or_else(|| panic!("{address:#x} is on no stack"));
        std::mem::replace(&mut self.words[stack][word], value)
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
}

impl Memory for World {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        for (offset, byte) in (0..).zip(into) {
            let at = address.checked_add(offset).ok_or(Error::Unreadable { address })?;
            let on_stack = || {
                let (stack, word) = Self::place(at).filter(|_| !self.holes.contains(&(at & !7)))?;
                Some(self.words[stack][word].to_le_bytes()[usize::try_from(at % 8).unwrap()])
            };
            *byte = self.code.byte(at).or_else(on_stack).ok_or(Error::Unreadable { address })?;
        }
        Ok(())
    }
}

impl Stacks for World {
    fn find(&self, address: u64) -> Option<Stack> {
        let holds = |stack: &&Range<u64>| stack.start <= address && address <= stack.end;
        let found = STACKS.iter().find(holds)?;
        let high = if *found == STACKS[0] { self.high } else { found.end };
        (address <= high).then_some(Stack { low: found.start, high, kind: StackKind::Other })
    }
}

impl Modules for World {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        CODE.contains(&address).then(|| Module {
            index: 0,
            start: CODE.start,
            end: CODE.end,
            bias: 0,
            unwind: UnwindSections {
                eh_frame_hdr: self
                    .code
                    .eh_frame_hdr
                    .as_ref()
                    .map(|(address, bytes)| Section { address: *address, bytes }),
                eh_frame: self.code.eh_frame.as_ref().map(|(address, bytes)| Section { address: *address, bytes }),
                debug_frame: self.debug_frame.as_ref().map(|bytes| Section { address: 0, bytes }),
                ..UnwindSections::default()
            },
        })
    }

    fn mapping(&self, address: u64) -> Mapping {
        match address {
            address if CODE.contains(&address) || GENERATED.contains(&address) => Mapping::Code,
            address if DATA.contains(&address) || Self::place(address).is_some() => Mapping::Data,
            _ => Mapping::Nothing,
        }
    }

    fn generation(&self) -> Option<u64> {
        self.generation
    }
}

/// Words of the world, read only where they may be.
struct OwnWords<'w>(&'w World);

impl Words for OwnWords<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        assert!(address.is_multiple_of(8), "{address:#x} is not aligned");
        let is_on_stack = World::place(address).is_some() && !(self.0.high..STACKS[0].end).contains(&address);
        assert!(is_on_stack, "{address:#x} is on no stack");
        self.0.asked.borrow_mut().push(address);
        (!self.0.holes.contains(&address)).then(|| self.0.at(address))
    }
}

/// Registers with which a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The interrupted pc.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// What rows may count from beside these.
    pub rbx: u64,
}

impl First {
    fn regs(&self) -> Regs {
        let mut regs = Regs::new();
        regs.set_pc(CodeAddress::Exact(self.pc));
        regs.set(X86_64.sp, self.sp);
        regs.set(X86_64.fp, self.fp);
        regs.set(Register::general(3).unwrap(), self.rbx);
        regs
    }
}

/// Frames, and how they ended; no end where the taker had enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Innermost first.
    pub frames: Vec<Passed>,
    /// None where no more were wanted.
    pub end: Option<End>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The walk's budget.
    pub budget: usize,
    /// After so many frames the taker has enough.
    pub frames: usize,
}

impl Wanted {
    /// Everything.
    pub const ALL: Self = Self { budget: 256, frames: usize::MAX };
}

struct Taker {
    frames: Vec<Passed>,
    most: usize,
}

impl Take for Taker {
    fn take(&mut self, frame: Passed) -> ControlFlow<()> {
        if self.frames.len() >= self.most {
            return ControlFlow::Break(());
        }
        self.frames.push(frame);
        ControlFlow::Continue(())
    }
}

const UNWINDERS: [&dyn Unwinder; 4] = [&SignalFrame, &Cfi(DwarfRows), &Entry, &FramePointer];

/// What the full walk sees.
pub fn walked(world: &World, first: First, wanted: Wanted) -> Seen {
    world.with(|target| {
        let mut walk = Walk::new(target, &UNWINDERS, first.regs(), wanted.budget);
        let mut frames = Vec::new();
        while let Some(frame) = walk.next() {
            if frames.len() >= wanted.frames {
                return Seen { frames, end: None };
            }
            frames.push(Passed::of(target, &frame));
        }
        Seen { frames, end: walk.end() }
    })
}

/// Which layers a chase has.
pub enum Layers<'l> {
    /// None.
    Rules,
    /// Remembered rules.
    Cache(&'l Cache),
    /// And the previous trace.
    Memory(&'l Cache, &'l mut Remembered),
}

impl Layers<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Rules => "without a cache",
            Self::Cache(_) => "with a cache",
            Self::Memory(..) => "with the previous trace",
        }
    }
}

/// What a chase sees.
pub fn chased(world: &World, first: First, wanted: Wanted, layers: Layers<'_>) -> Seen {
    let mut taker = Taker { frames: Vec::new(), most: wanted.frames };
    let end = handed(world, first, wanted, layers, &mut taker);
    Seen { frames: taker.frames, end }
}

/// Has a chase hand over what it sees, and looks after which words it asks for.
pub fn handed(world: &World, first: First, wanted: Wanted, layers: Layers<'_>, take: &mut impl Take) -> Option<End> {
    world.asked.borrow_mut().clear();
    let end = world.with(|target| {
        let none = Box::new(Cache::new());
        let cache = match &layers {
            Layers::Rules => &*none,
            Layers::Cache(cache) | Layers::Memory(cache, _) => *cache,
        };
        let (rules, words) = (Evaluated, OwnWords(world));
        let ground = Ground { target, unwinders: &UNWINDERS, budget: wanted.budget, cache, rules, words };
        let Some(stack) = target.stacks.find(first.sp) else { panic!("{first:x?} is on no stack") };
        let start = Start { pc: first.pc, sp: first.sp, fp: first.fp, stack, regs: || first.regs() };
        let mut chase = Chase::new(&ground, &start);
        match layers {
            Layers::Rules => chase.without_cache().run(take),
            Layers::Cache(_) => chase.run(take),
            Layers::Memory(_, previous) => chase.run_again(previous, take),
        }
    });
    let on_first = |address: &&u64| STACKS.iter().any(|stack| stack.contains(*address) && stack.contains(&first.sp));
    let lowest = world.asked.borrow().iter().filter(on_first).min().copied();
    assert!(lowest.is_none_or(|lowest| lowest >= first.sp), "{lowest:x?} lies below the stack pointer");
    end
}

/// Holds a chase with these layers against the full walk.
pub fn agrees(world: &World, first: First, wanted: Wanted, layers: Layers<'_>) -> Seen {
    let what = layers.name();
    let full = walked(world, first, wanted);
    let fast = chased(world, first, wanted, layers);
    if fast != full {
        let at = fast.frames.iter().zip(&full.frames).take_while(|(fast, full)| fast == full).count();
        panic!(
            "{what}: frame {at} of {} and {}: {first:x?} {wanted:?}\nfast {:x?}, {:x?}\nfull {:x?}, {:x?}",
            fast.frames.len(),
            full.frames.len(),
            fast.frames.get(at),
            fast.end,
            full.frames.get(at),
            full.end
        );
    }
    full
}

/// Keeps pcs alone, in places of its own.
struct Pcs {
    places: Vec<u64>,
    taken: usize,
}

impl Take for Pcs {
    fn take(&mut self, frame: Passed) -> ControlFlow<()> {
        let Some(place) = self.places.get_mut(self.taken) else { return ControlFlow::Break(()) };
        *place = frame.pc.value();
        self.taken += 1;
        ControlFlow::Continue(())
    }

    fn room(&mut self) -> Option<&mut [u64]> {
        self.places.get_mut(self.taken..)
    }

    fn took(&mut self, count: usize) {
        self.taken += count;
    }
}

/// Holds the pcs of a chase that writes nothing else against those of the full walk.
pub fn pcs_agree(world: &World, first: First, wanted: Wanted, layers: Layers<'_>) {
    let what = layers.name();
    let full = walked(world, first, wanted);
    let mut pcs = Pcs { places: vec![0; wanted.frames.min(4096)], taken: 0 };
    let end = handed(world, first, wanted, layers, &mut pcs);
    let expected: Vec<u64> = full.frames.iter().map(|frame| frame.pc.value()).collect();
    assert_eq!((&pcs.places[..pcs.taken], end), (&expected[..], full.end), "{what}: {first:x?} {wanted:?}");
}

/// Holds every way of a chase against the full walk: without a cache, with one that is cold and warm, and with the previous
/// trace, twice.
pub fn all_agree(world: &World, first: First, wanted: Wanted, cache: &Cache, previous: &mut Remembered) -> Seen {
    agrees(world, first, wanted, Layers::Rules);
    agrees(world, first, wanted, Layers::Memory(cache, previous));
    agrees(world, first, wanted, Layers::Cache(cache));
    pcs_agree(world, first, wanted, Layers::Cache(cache));
    agrees(world, first, wanted, Layers::Memory(cache, previous))
}
