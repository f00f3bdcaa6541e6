//! Calls, returns and signals as they happen, so that stacks look as programs leave them.

use super::code::{Kind, SIZE, TRAMPOLINE, function};
use super::{First, STACKS, World};
use surestack_walk::{Register, X86_64};

/// Numbers that are the same on every machine (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// Whether one of `many` comes up.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(u64::try_from(of.len()).unwrap())).unwrap()]
    }
}

/// A thread that runs.
pub struct Machine {
    /// Its memory and code.
    pub world: World,
    /// Its registers.
    pub now: First,
    /// What those of its callers were when they called, outermost first.
    pub callers: Vec<First>,
}

impl Machine {
    /// At the foot of its stack, in a function that nobody called.
    pub fn new(world: World) -> Self {
        let outermost = world.code.kinds.iter().position(|kind| *kind == Kind::Outermost).unwrap();
        let pc = function(u64::try_from(outermost).unwrap()) + 1;
        let sp = STACKS[0].end - 64;
        Self { world, now: First { pc, sp, fp: 0, rbx: 0 }, callers: Vec::new() }
    }

    /// What the function is that runs.
    fn kind(&self) -> Option<Kind> {
        let index = self.now.pc.checked_sub(function(0))? / SIZE;
        self.world.code.kinds.get(usize::try_from(index).ok()?).copied()
    }

    /// Whether there is room for another frame.
    pub fn has_room(&self) -> bool {
        STACKS.iter().any(|stack| stack.contains(&self.now.sp) && self.now.sp - stack.start > 0x800)
    }

    /// Calls a function.
    pub fn call(&mut self, index: u64, random: &mut Random) {
        let here = self.now.pc & !(SIZE - 1);
        // A call is not made from where the row is another.
        let at = match self.kind() {
            Some(Kind::Linkage(_)) => (here | (16 * random.below(3))) + (self.now.pc & 15),
            Some(Kind::Two(..)) if self.now.pc & 32 == 0 => here + 1 + random.below(31),
            Some(Kind::Two(..)) => here + 33 + random.below(31),
            _ => here + 1 + random.below(SIZE),
        };
        self.enter(index, at, random);
    }

    /// Enters a function that returns to `back`.
    fn enter(&mut self, index: u64, back: u64, random: &mut Random) {
        let caller = First { pc: back, ..self.now };
        let cfa = caller.sp;
        self.callers.push(caller);
        self.world.put(cfa - 8, back);
        let First { fp: saved, rbx, .. } = caller;
        let mut now = First { pc: function(index) + random.below(SIZE), sp: cfa - 8, fp: saved, rbx };
        let junk = [saved, cfa, cfa - 16, random.number(), random.number() & 0xfff8, 0];
        let words = |words: u8| cfa - 8 * u64::from(words);
        match self.world.code.kinds[usize::try_from(index).unwrap()] {
            Kind::Sp(taken, slot) => {
                now.sp = words(taken);
                if let Some(slot) = slot {
                    self.world.put(words(slot), saved);
                    now.fp = random.one(&junk);
                }
            }
            Kind::Fp(taken, slot) => {
                self.world.put(words(slot), saved);
                now.fp = words(taken);
                now.sp = words(taken.max(slot)) - 8 * random.below(4);
            }
            Kind::Aligned(below) => {
                now.fp = (cfa - 16) & !31;
                self.world.put(now.fp, saved);
                let place = now.fp - 8 * u64::from(below);
                self.world.put(place, cfa);
                now.sp = place - 8 * random.below(3);
            }
            Kind::Linkage(from) if now.pc & 15 >= u64::from(from) => now.sp = cfa - 16,
            Kind::Linkage(_) | Kind::Outermost | Kind::Silent => {}
            Kind::Odd(taken) | Kind::Below(taken) | Kind::Lost(taken) | Kind::Broken(taken) => now.sp = words(taken),
            Kind::Elsewhere(taken) => {
                now.sp = words(taken);
                self.world.put(cfa - 16, back);
            }
            Kind::Hop => {
                now.sp = cfa - 16;
                self.world.put(cfa - 16, cfa);
            }
            Kind::Large(taken) => now.sp = cfa - 8 * u64::from(taken),
            Kind::Rbx => (now.rbx, now.sp) = (cfa, cfa - 8 - 8 * random.below(4)),
            Kind::Two(taken, _) if now.pc & 32 == 0 => now.sp = words(taken),
            Kind::Two(_, taken) => now.sp = words(taken),
        }
        self.now = now;
    }

    /// Takes a signal on a stack, whose handler is a function.
    pub fn signal(&mut self, handler: u64, stack: usize, random: &mut Random) {
        let interrupted = self.now;
        let layout = &X86_64.signal_frame;
        let on_it = STACKS[stack].contains(&interrupted.sp);
        let top = if on_it { interrupted.sp - 128 } else { STACKS[stack].end - 64 * random.below(2) };
        let context = (top - layout.registers.size - 128) & !15;
        for offset in (0..layout.registers.size).step_by(8) {
            self.world.put(context + offset, 0);
        }
        // One of the registers that nobody needs, or the flags beside the selectors.
        self.world.put(context + 64, random.number());
        let fields = [
            (Register::PC, interrupted.pc),
            (X86_64.sp, interrupted.sp),
            (X86_64.fp, interrupted.fp),
            (Register::general(3).unwrap(), interrupted.rbx),
            (Register::CS, 0x33),
        ];
        for (register, value) in fields {
            let (_, offset, _) = layout.registers.fields.iter().find(|(field, ..)| *field == register).unwrap();
            let at = context + u64::from(*offset);
            let shifted = value << (8 * (at % 8));
            let old = self.world.at(at & !7);
            self.world.put(at & !7, old | shifted);
        }
        self.callers.push(interrupted);
        self.now = First { sp: context, ..interrupted };
        self.enter(handler, TRAMPOLINE, random);
        // The trampoline is returned to, and left with what was interrupted.
        self.callers.pop();
    }

    /// Returns to whoever called, or was interrupted.
    pub fn back(&mut self) {
        if let Some(caller) = self.callers.pop() {
            self.now = caller;
        }
    }

    /// A word that might stand on a stack.
    pub fn plausible(&self, random: &mut Random) -> u64 {
        let count = u64::try_from(self.world.code.kinds.len()).unwrap();
        let on_stack = |random: &mut Random| {
            let stack = random.one(&[0, 0, 0, 1, 2]);
            STACKS[stack].start + random.below(STACKS[stack].end - STACKS[stack].start + 16)
        };
        match random.below(12) {
            0..4 => function(random.below(count)) + random.below(SIZE),
            4..6 => on_stack(random) & !7,
            6 => on_stack(random),
            7 => self.now.sp + 8 * random.below(64),
            8 => random.one(&[TRAMPOLINE, TRAMPOLINE + 7, 0, 1, 0x42_0010, 0x50_0000]),
            9 => random.one(&[u64::MAX, 1 << 47, (1 << 47) + function(1), 1 << 63, 0x7fff]),
            10 => self.callers.get(usize::try_from(random.below(8)).unwrap()).map_or(0, |caller| caller.fp),
            _ => random.number(),
        }
    }

    /// The address of a word that a trace may read.
    pub fn somewhere(&self, random: &mut Random) -> u64 {
        let stack = STACKS.iter().find(|stack| stack.contains(&self.now.sp)).unwrap();
        let reach = ((stack.end - self.now.sp) / 8).max(1);
        let near = if random.one_in(3) { reach.min(24) } else { reach };
        match random.below(8) {
            0 => {
                let sp = self.callers.get(usize::try_from(random.below(16)).unwrap()).map_or(self.now.sp, |c| c.sp);
                (sp - 8).clamp(STACKS[1].start, STACKS[2].end - 8)
            }
            _ => (self.now.sp & !7) + 8 * random.below(near),
        }
    }
}
