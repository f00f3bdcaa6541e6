//! Random, looping and smashed stacks under random registers, walked by every unwinder and judged.

use crate::{Fuzzed, random::Random};
use std::cell::Cell;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_reliable::{Judge, Verdict};
use surestack_signal_frame::{SavedContext, SignalFrame};
use surestack_walk::{
    AARCH64, Arch, Bytes, CodeAddress, End, Error, Mapping, Marker, Memory, Module, Modules, NoEvidence, Register,
    Registry, Regs, Sign, Stack, StackKind, Stop, Target, Unwinder, Walk, X86_64,
};

const FRAMES: usize = 200;
/// Reads that one step may need: every unwinder's, the judge's, a whole saved block, and one expression budget.
const READS: u64 = 2_000;
const LOW: u64 = 0x7ffe_0000;
const WORDS: usize = 256;
const CODE: u64 = 0x40_0000;
/// A call, both restorers of x86_64, aarch64's, a prologue, an epilogue, `__start_context`.
const SNIPPETS: [&[u8]; 7] = [
    &[0xe8, 1, 0, 0, 0, 0x90, 0x90],
    &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05],
    &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05],
    &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4],
    &[0x55, 0x48, 0x89, 0xe5],
    &[0x5d, 0xc3],
    &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff],
];

/// A stack of words that look like what stacks hold, in any order.
pub struct Smashed;

/// The same, beginning in a trampoline.
pub struct Signals;

impl Fuzzed for Smashed {
    fn name(&self) -> &'static str {
        "stacks"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let regs = |random: &mut Random, thread: &Thread| thread.registers(random);
        thread(random, regs)
    }
}

impl Fuzzed for Signals {
    fn name(&self) -> &'static str {
        "signals"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        thread(random, |random, thread| {
            let mut regs = thread.registers(random);
            let trampoline = CODE + 64 * (1 + random.below(3));
            regs.set_pc(CodeAddress::Exact(trampoline + random.below(8)));
            regs.set(thread.arch.sp, LOW + 8 * random.below(WORDS as u64));
            if let Some(context) = regs.get(thread.arch.sp).and_then(|sp| SavedContext::at(thread.arch, sp).ok()) {
                // Whatever they say, they come back.
                let _ = std::hint::black_box(context.signal(thread.arch, thread));
                let _ = std::hint::black_box(context.alternate_stack(thread.arch, thread));
            }
            regs
        })
    }
}

struct Thread {
    arch: &'static Arch,
    stack: Vec<u8>,
    code: Vec<u8>,
    reads: Cell<u64>,
}

impl Thread {
    fn draw(random: &mut Random) -> Self {
        let arch = if random.once_in(3) { &AARCH64 } else { &X86_64 };
        let mut code = vec![0x90; 64 * SNIPPETS.len()];
        for (place, snippet) in code.chunks_mut(64).zip(SNIPPETS) {
            place[..snippet.len()].copy_from_slice(snippet);
        }
        let kinds = random.number();
        let mut words: Vec<u64> = (0..WORDS).map(|_| word(random, kinds)).collect();
        // A chain of frame records, and a few words of it smashed.
        let mut record = random.index(8);
        while let Some([fp, return_address]) = words.get_mut(record..).and_then(<[u64]>::first_chunk_mut) {
            record += 2 + random.index(6);
            *fp = LOW + 8 * record as u64;
            *return_address = CODE + 5;
        }
        for _ in 0..random.below(6) {
            let at = random.index(WORDS);
            words[at] = word(random, kinds);
        }
        let stack = words.into_iter().flat_map(u64::to_le_bytes).collect();
        Self { arch, stack, code, reads: Cell::new(0) }
    }

    fn registers(&self, random: &mut Random) -> Regs {
        let mut regs = Regs::new();
        let kinds = random.number();
        for &(register, _) in self.arch.registers {
            if !random.once_in(8) {
                regs.set(register, word(random, kinds));
            }
        }
        regs.set(self.arch.sp, LOW);
        if !random.once_in(4) {
            regs.set(self.arch.fp, LOW + 8 * random.below(12));
        }
        let pc = regs.get(Register::PC).unwrap_or(CODE);
        regs.set_pc(if random.once_in(2) { CodeAddress::Exact(pc) } else { CodeAddress::Return(pc) });
        regs
    }
}

/// A word as stacks hold them; `kinds` says which sorts this stack has.
fn word(random: &mut Random, kinds: u64) -> u64 {
    let kind = random.below(12);
    match if kinds & (1 << kind) == 0 { kind % 4 } else { kind } {
        0 => LOW + 8 * random.below(WORDS as u64),
        1 => CODE + 5,
        2 => CODE + random.below(64 * SNIPPETS.len() as u64),
        3 => 0,
        4 => (LOW + 8 * random.below(WORDS as u64)) | 1,
        5 => (LOW + 8 * random.below(WORDS as u64)) & 0x7fff_ffff,
        6 => CODE + 64 * random.below(SNIPPETS.len() as u64),
        7 => random.below(4),
        8 => 0x33,
        9 => u64::MAX - random.below(16),
        10 => CODE + 64 * 5 + 1 + random.below(2),
        _ => random.number(),
    }
}

impl Memory for Thread {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.reads.set(self.reads.get() + 1);
        let stack = Bytes { address: LOW, bytes: &self.stack };
        stack.read(address, into).or_else(|_| Bytes { address: CODE, bytes: &self.code }.read(address, into))
    }
}

impl Modules for Thread {
    fn find(&self, _address: u64) -> Option<Module<'_>> {
        None
    }

    fn mapping(&self, address: u64) -> Mapping {
        match address {
            CODE..0x41_0000 => Mapping::Code,
            LOW..0x8000_0000 => Mapping::Data,
            _ if address & 1 == 0 => Mapping::Nothing,
            _ => Mapping::Unknown,
        }
    }
}

fn thread(random: &mut Random, registers: impl Fn(&mut Random, &Thread) -> Regs) -> &'static str {
    let thread = Thread::draw(random);
    let regs = registers(random, &thread);
    let half = LOW + WORDS as u64 * 4;
    let stack = |low, high| Stack { low, high, kind: StackKind::Other };
    let stacks = [stack(LOW, half), stack(half, LOW + WORDS as u64 * 8)];
    let sign = match random.below(12) {
        0..4 => Sign::Function { start: CODE + 64 * 5 },
        4..7 => Sign::LowBitSet,
        7 => Sign::HighBitClear,
        _ => Sign::Record { registers: 2, outermost: 1, offset: 16 },
    };
    let markers = [Marker { id: 1, sign, layout: &thread.arch.entry_registers }];
    let target = Target {
        arch: thread.arch,
        memory: &thread,
        modules: &thread,
        stacks: &stacks,
        registry: &Registry { markers: if random.once_in(4) { &[] } else { &markers }, ..Registry::default() },
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let unwinders: [&dyn Unwinder; 5] = [&SignalFrame, &Cfi(DwarfRows), &Markers, &Entry, &FramePointer];
    let mut walk = Walk::new(&target, &unwinders, regs, FRAMES);
    let (mut judge, mut frames) = (Judge::new(), 0);
    while let Some(frame) = walk.next() {
        judge.see(&target, &frame);
        frames += 1;
    }
    assert!(frames <= FRAMES, "{frames} frames");
    let verdict = judge.verdict(&target, walk.end());
    assert!(thread.reads.get() < READS * (frames as u64 + 1), "{} reads", thread.reads.get());
    assert!(judge.believed() <= frames);
    // Nothing here is evidence that a root is at its place, but what the user registered.
    let registered = matches!(walk.end(), Some(End::Root(surestack_walk::Root::Marker(1))));
    assert!(verdict != Verdict::Reliable || registered, "reliable without evidence");
    match walk.end() {
        None => panic!("a walk that yields no more frames has not ended"),
        Some(End::Root(_)) => "root",
        Some(End::Stopped(Error::Budget { .. })) => "budget",
        Some(End::Stopped(Error::UnknownCode { .. })) => "unknown code",
        Some(End::Stopped(Error::BelowLast { .. } | Error::NoProgress { .. })) => "no progress",
        Some(End::Stopped(Error::ForgedSignalFrame { .. } | Error::BadMarker { .. })) => "forged",
        Some(End::Stopped(_)) => "refused",
    }
}
