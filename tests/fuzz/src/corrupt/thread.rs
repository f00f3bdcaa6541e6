//! The core whose stacks are corrupted: its threads as they were, its code, and its stacks, which can be written.

use super::code::Code;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use surestack::Verdict;
use surestack::image::Find;
use surestack::snapshot::{Snapshot, core_file};
use surestack::trace::{Known, Tracer};
use surestack_walk::{CodeAddress, Error, Frame, Link as Between, Memory, Regs, Stop, X86_64};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo");
/// What can be written of a stack: from this far below its innermost frame ...
const BELOW: u64 = 4 << 10;
/// ... to this far above, or to its end.
const ABOVE: u64 = 16 << 10;

/// The committed core.
pub struct Core {
    /// Everything about it; its memory reads [`Core::stacks`] first.
    pub snapshot: Snapshot,
    /// The stacks of its threads.
    pub stacks: Rc<Stacks>,
    /// Its threads, stopped in each of their frames.
    pub starts: Vec<Start>,
    /// Its code.
    pub code: Code,
}

/// A thread that is stopped somewhere, and the chain it has there.
pub struct Start {
    /// Its registers.
    pub regs: Regs,
    /// Its chain.
    pub chain: Chain,
}

/// A chain, innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its frames.
    pub links: Vec<Link>,
}

/// A frame of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its pc.
    pub pc: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Where its return address lay; none for what a signal interrupted.
    pub slot: Option<u64>,
}

impl Chain {
    /// Takes the next frame of a walk.
    pub fn see(&mut self, frame: &Frame<'_>) {
        let sp = frame.regs.get(X86_64.sp).unwrap_or(0);
        let slot = frame.return_slot.filter(|_| frame.link == Between::Call);
        self.links.push(Link { pc: frame.pc.value(), sp, slot });
    }

    /// Where its return addresses lie.
    pub fn slots(&self) -> impl Iterator<Item = u64> {
        self.links.iter().filter_map(|link| link.slot)
    }

    /// From its lowest stack pointer to its highest.
    pub fn extent(&self) -> (u64, u64) {
        let sps = self.links.iter().map(|link| link.sp);
        (sps.clone().min().unwrap_or(0), sps.max().unwrap_or(0) + 8)
    }
}

impl Core {
    /// Opens it, and walks its threads as they are.
    pub fn open() -> Self {
        let directory = Path::new(DEMO);
        let find = Find { beside: Some(directory.to_owned()), ..Find::default() };
        let mut snapshot =
            core_file::open(&directory.join("demo.core"), &find).expect("the committed core can be read");
        let whole = std::mem::replace(&mut snapshot.memory, Box::new(NoMemory));
        let windows = snapshot.threads.iter().filter_map(|thread| {
            let sp = thread.regs.get(X86_64.sp)?;
            let mapped = snapshot.space.mapped(sp)?;
            let (low, high) = (mapped.start.max(sp - BELOW) & !7, mapped.end.min(sp + ABOVE));
            let mut bytes = vec![0; usize::try_from(high - low).ok()?];
            whole.read(low, &mut bytes).ok()?;
            Some(Window { low, now: RefCell::new(bytes.clone()), was: bytes })
        });
        let stacks = Rc::new(Stacks { windows: windows.collect(), whole });
        snapshot.memory = Box::new(Shared(Rc::clone(&stacks)));
        let starts = starts(&snapshot);
        let module = snapshot.space.modules.iter().find(|module| !module.path.starts_with("[vdso]"));
        let image = module.and_then(|module| module.image.clone()).expect("the committed core's program is found");
        Self { code: Code::of(&image), snapshot, stacks, starts }
    }
}

/// Each thread in each of its frames: what a frame's registers are right after its callee has returned.
fn starts(snapshot: &Snapshot) -> Vec<Start> {
    let known = Known::default();
    let tracer = Tracer::new(snapshot, &known);
    let walk = |regs: &Regs| {
        let mut chain = Chain::default();
        let judged = tracer.walk(regs, Stop::default(), |frame| chain.see(frame));
        (judged.verdict, chain)
    };
    let mut starts = vec![];
    for thread in &snapshot.threads {
        let mut frames = vec![];
        let judged = tracer.walk(&thread.regs, Stop::default(), |frame| frames.push(*frame.regs));
        assert_eq!(judged.verdict, Verdict::Reliable, "thread {}: {:?}", thread.id, judged.doubts);
        for mut regs in frames {
            let pc = regs.pc().map_or(0, CodeAddress::value);
            regs.set_pc(CodeAddress::Exact(pc));
            let (verdict, chain) = walk(&regs);
            if verdict == Verdict::Reliable {
                starts.push(Start { regs, chain });
            }
        }
    }
    starts
}

/// The stacks of a core, over the memory it was written with.
pub struct Stacks {
    windows: Vec<Window>,
    whole: Box<dyn Memory>,
}

/// The part of a stack that can be written.
struct Window {
    low: u64,
    was: Vec<u8>,
    now: RefCell<Vec<u8>>,
}

impl Window {
    /// The index of `length` bytes at `address`, if they are in it.
    fn index(&self, address: u64, length: usize) -> Option<usize> {
        let index = usize::try_from(address.checked_sub(self.low)?).ok()?;
        (index.checked_add(length)? <= self.was.len()).then_some(index)
    }
}

impl Stacks {
    /// Everything as it was.
    pub fn restore(&self) {
        for window in &self.windows {
            window.now.borrow_mut().copy_from_slice(&window.was);
        }
    }

    /// The window that holds `address`, from its first byte to the one behind its last.
    pub fn extent(&self, address: u64) -> Option<(u64, u64)> {
        let window = self.windows.iter().find(|window| window.index(address, 1).is_some())?;
        Some((window.low, window.low + window.was.len() as u64))
    }

    /// The word at `address`.
    pub fn word(&self, address: u64) -> Option<u64> {
        Memory::word(self, address).ok()
    }

    /// Writes `bytes` at `address`, or nothing where that is outside of every stack.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        for window in &self.windows {
            if let Some(at) = window.index(address, bytes.len()) {
                window.now.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// Copies `length` bytes from one place of a stack to another, which may overlap.
    pub fn copy(&self, from: u64, to: u64, length: usize) {
        let mut bytes = vec![0; length];
        if self.read(from, &mut bytes).is_ok() {
            self.write(to, &bytes);
        }
    }
}

impl Memory for Stacks {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let found = self.windows.iter().find_map(|window| Some((window, window.index(address, into.len())?)));
        match found {
            Some((window, at)) => into.copy_from_slice(&window.now.borrow()[at..at + into.len()]),
            None => self.whole.read(address, into)?,
        }
        Ok(())
    }
}

struct Shared(Rc<Stacks>);

impl Memory for Shared {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.0.read(address, into)
    }
}

/// What a snapshot has while its memory is being wrapped.
struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, address: u64, _into: &mut [u8]) -> Result<(), Error> {
        Err(Error::Unreadable { address })
    }
}
