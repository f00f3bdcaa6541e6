//! What is written over a stack: random words, loops, smashed links, return addresses and signal frames that are forged.

use super::thread::{Core, Start};
use crate::random::Random;
use surestack_walk::{CodeAddress, Register, Regs, X86_64};

/// A signal frame from its return address to the end of the general registers and a bit of what follows.
const SIGNAL_FRAME: usize = 8 + 128 + 256;

/// Values that pass for what lies on a stack.
pub struct Forge {
    /// Addresses behind calls.
    returns: Vec<u64>,
    /// Functions.
    starts: Vec<u64>,
    /// The bytes of a real signal frame.
    signal_frame: Vec<u8>,
}

impl Forge {
    /// Collects them from the program and from the thread that is in a handler.
    pub fn of(core: &Core) -> Self {
        let returns = core.code.return_addresses().collect();
        let mut signal_frame = vec![0; SIGNAL_FRAME];
        let links = core.starts.iter().flat_map(|start| &start.chain.links);
        let slot = links.filter(|link| core.code.is_trampoline(link.pc)).find_map(|link| link.slot);
        let slot = slot.expect("a thread of the committed core is in a handler");
        for (word, bytes) in signal_frame.chunks_exact_mut(8).enumerate() {
            let word = core.stacks.word(slot + 8 * word as u64).expect("the signal frame can be read");
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self { returns, starts: core.code.starts().collect(), signal_frame }
    }

    /// Corrupts the stack of `start`; returns its registers, which may be corrupted too.
    pub fn corrupt(&self, random: &mut Random, core: &Core, start: &Start) -> Regs {
        let mut regs = start.regs;
        for _ in 0..=random.below(4) {
            let slots: Vec<u64> = start.chain.slots().collect();
            let slot = slots.get(random.index(slots.len())).copied();
            let (low, high) = start.chain.extent();
            let any = low.saturating_sub(64) + 8 * random.below((high - low) / 8 + 24);
            let put = |address: u64, word: u64| core.stacks.write(address, &word.to_le_bytes());
            match (random.below(16), slot) {
                (0..3, _) => put(any, self.word(random, start)),
                (3, Some(slot)) => put(slot, self.word(random, start)),
                (4, Some(slot)) => put(slot, *random.one(&self.returns)),
                (5..7, Some(slot)) => self.call_elsewhere(random, core, start, slot),
                (7, _) => self.relink(random, core, start),
                (8, Some(slot)) => put(slot, core.stacks.word(*random.one(&slots)).unwrap_or(0)),
                (9, Some(slot)) => {
                    let length = 8 * (1 + random.index(24));
                    core.stacks.copy(*random.one(&slots), slot, length);
                }
                (10, Some(slot)) => core.stacks.copy(slot + 8 * random.below(16), slot, 8 * (1 + random.index(64))),
                (11, Some(slot)) => core.stacks.copy(slot, slot + 8 * random.below(16), 8 * (1 + random.index(64))),
                (12..14, Some(slot)) => self.signal(random, core, start, slot),
                (14, _) => self.register(random, start, &mut regs),
                _ => {
                    let words = (0..random.below(32)).map(|_| self.word(random, start));
                    let bytes: Vec<u8> = words.collect::<Vec<_>>().into_iter().flat_map(u64::to_le_bytes).collect();
                    core.stacks.write(any, &bytes);
                }
            }
        }
        regs
    }

    /// A word as stacks hold them.
    fn word(&self, random: &mut Random, start: &Start) -> u64 {
        let (low, high) = start.chain.extent();
        match random.below(8) {
            0 | 1 => low.saturating_sub(64) + 8 * random.below((high - low) / 8 + 24),
            2 => *random.one(&self.returns),
            3 => *random.one(&self.starts) + random.below(16),
            4 => random.one(&start.chain.links).pc,
            5 => random.below(4),
            6 => low + random.below(high - low),
            _ => random.number(),
        }
    }

    /// Lets the function that returns through `slot` return behind another call of the same function.
    fn call_elsewhere(&self, random: &mut Random, core: &Core, start: &Start, slot: u64) {
        let target = core.stacks.word(slot).and_then(|pc| core.code.called_before(pc)).flatten();
        let others: Vec<u64> = target.into_iter().flat_map(|function| core.code.callers(function)).collect();
        let word = if others.is_empty() { self.word(random, start) } else { *random.one(&others) };
        core.stacks.write(slot, &word.to_le_bytes());
    }

    /// Lets a word that points into the stack point elsewhere into it.
    fn relink(&self, random: &mut Random, core: &Core, start: &Start) {
        let (low, high) = start.chain.extent();
        let first = random.below((high - low) / 8);
        let pointer = (first..(high - low) / 8)
            .map(|word| low + 8 * word)
            .find(|&address| core.stacks.word(address).is_some_and(|word| (low..high).contains(&word)));
        if let Some(address) = pointer {
            let to = low + 8 * random.below((high - low) / 8);
            core.stacks.write(address, &to.to_le_bytes());
        }
    }

    /// A signal frame where a return address was, with some of its registers changed.
    fn signal(&self, random: &mut Random, core: &Core, start: &Start, slot: u64) {
        let mut bytes = self.signal_frame.clone();
        if let Some(trampoline) = core.code.trampolines().first() {
            bytes[..8].copy_from_slice(&trampoline.to_le_bytes());
        }
        let context = 8 + usize::from(X86_64.signal_frame.ucontext);
        for _ in 0..random.below(5) {
            let fields = X86_64.signal_frame.registers.fields;
            let (register, offset, _) = *random.one(fields);
            let word = match register {
                Register::PC => *random.one(&self.starts) + random.below(64),
                _ => self.word(random, start),
            };
            let at = context + usize::from(offset);
            if let Some(field) = bytes.get_mut(at..at + 8) {
                field.copy_from_slice(&word.to_le_bytes());
            }
        }
        core.stacks.write(slot, &bytes);
    }

    /// Another value in one register; for the pc, another place in the code.
    fn register(&self, random: &mut Random, start: &Start, regs: &mut Regs) {
        let (register, _) = *random.one(X86_64.registers);
        let (was, word) = (regs.get(register).unwrap_or(0), self.word(random, start));
        match register {
            Register::PC if random.once_in(2) => regs.set_pc(CodeAddress::Exact(was.wrapping_add(random.below(32)))),
            Register::PC => regs.set_pc(CodeAddress::Exact(*random.one(&self.starts) + random.below(16))),
            _ if register == X86_64.sp => regs.set(register, was.wrapping_add(8 * random.below(32)).wrapping_sub(64)),
            _ => regs.set(register, word),
        }
    }
}
