//! The code of a stepped process: decoded once for each pc, until its mapping changes.

use crate::decode::{self, Decoded};
use crate::maps::Maps;
use crate::memory::Memory;
use crate::shadow::World;
use std::collections::{BTreeSet, HashMap};

/// What a process executes, and which of it was seen already.
pub struct Code {
    memory: Memory,
    pid: i32,
    seen: HashMap<u64, Decoded>,
    pages: BTreeSet<u64>,
    generation: u64,
    maps: Maps,
    maps_generation: u64,
}

const PAGE: u64 = 4096;

impl Code {
    /// Nothing seen yet.
    pub fn of(pid: i32) -> Code {
        Code {
            memory: Memory::of(pid),
            pid,
            seen: HashMap::new(),
            pages: BTreeSet::new(),
            generation: 1,
            maps: Maps::default(),
            maps_generation: 0,
        }
    }

    /// The instruction at `pc`, and whether this is its first visit. `None` where there is no instruction.
    pub fn visit(&mut self, pc: u64) -> Option<(Decoded, bool)> {
        if let Some(&decoded) = self.seen.get(&pc) {
            return Some((decoded, false));
        }
        let mut bytes = [0; 16];
        let len = self.memory.read_some(pc, &mut bytes).ok()?;
        let decoded = decode::decode(bytes.get(..len)?, pc)?;
        self.seen.insert(pc, decoded);
        self.pages.insert(pc & !(PAGE - 1));
        Some((decoded, true))
    }

    /// Counts up whenever the process changes its mappings.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The mappings as they are now.
    pub fn maps(&mut self) -> &Maps {
        if self.maps_generation != self.generation {
            self.maps = Maps::of(self.pid);
            self.maps_generation = self.generation;
        }
        &self.maps
    }

    /// The process has changed the mappings in `start..start + len`.
    pub fn remapped(&mut self, start: u64, len: u64) {
        self.generation += 1;
        let end = start.saturating_add(len);
        let first = start & !(PAGE - 1);
        if self.pages.range(first..end).next().is_some() {
            self.pages.retain(|page| !(first..end).contains(page));
            self.seen.retain(|pc, _| !(first..end).contains(pc));
        }
    }

    /// The process has become another program.
    pub fn replaced(&mut self) {
        self.generation += 1;
        self.seen.clear();
        self.pages.clear();
    }

    fn executable(&self, address: u64) -> bool {
        Maps::of(self.pid).at(address).is_some_and(|m| m.executable)
    }
}

/// Asked only when stacks are switched: reads the mappings afresh each time, since the main stack grows unseen.
impl World for Code {
    fn same_mapping(&self, a: u64, b: u64) -> bool {
        let maps = Maps::of(self.pid);
        let (one, other) = (maps.at(a), maps.at(b));
        // Below the main stack there is room that becomes part of it when touched.
        let grows = one.is_some_and(|m| m.name == "[stack]" && b < m.start && m.start - b < 8 << 20);
        one.is_some() && one == other || other.is_none() && grows
    }

    fn follows_call(&self, address: u64) -> bool {
        let mut bytes = [0; 8];
        let read = self.memory.read_some(address.wrapping_sub(8), &mut bytes);
        matches!(read, Ok(8)) && decode::ends_with_call(&bytes, address)
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.memory.word(address)
    }

    fn planted_return(&self, slot: u64) -> Option<u64> {
        let address = self.memory.word(slot)?;
        (self.executable(address) && !self.follows_call(address)).then_some(address)
    }
}
