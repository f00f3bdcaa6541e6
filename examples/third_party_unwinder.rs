//! An unwinder for code that keeps return addresses on a shadow stack of its own, written against `surestack-walk` alone.
//!
//! The interpreter of this example pushes each return address on a second stack that r15 points at and nothing on the
//! first; frames are 32 bytes. Prints the trace of a thread drawn in memory.

use surestack_walk::{
    Bytes, CodeAddress, End, Error, FoundBy, Link, Memory, NoEvidence, NoModules, Register, Registry, Regs, Stack,
    StackKind, Step, Stop, Target, Unwinder, Walk, Why, X86_64,
};

/// Code of the interpreter, and the register that points at its shadow stack.
const CODE: std::ops::Range<u64> = 0x1000..0x2000;
const SHADOW: Option<Register> = Register::general(15);

struct ShadowStack;

impl Unwinder for ShadowStack {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let (Some(pc), Some(shadow)) = (callee.pc(), SHADOW) else { return Ok(Step::NotMine(Why::NoPc)) };
        if !CODE.contains(&pc.lookup()) {
            return Ok(Step::NotMine(Why::NoModule));
        }
        let slot = callee.need(shadow)?;
        let return_address = target.memory.word(slot)?;
        let sp = callee.need(target.arch.sp)?;
        let cfa = sp.checked_add(32).ok_or(Error::Overflow { address: sp })?;
        caller.forget();
        caller.set(target.arch.sp, cfa);
        caller.set(shadow, slot.wrapping_add(8));
        caller.set_saved(Register::PC, return_address, slot);
        caller.set_pc(CodeAddress::Return(return_address));
        let found_by = FoundBy::Foreign("shadow stack");
        Ok(Step::Caller { cfa, return_slot: Some(slot), link: Link::Call, found_by })
    }
}

fn main() {
    let words: Vec<u8> = [0x1040_u64, 0x1080, 0x1500, 0xdead].iter().flat_map(|word| word.to_le_bytes()).collect();
    let memory: &dyn Memory = &Bytes { address: 0x9000, bytes: &words };
    let stacks = [Stack { low: 0x7000, high: 0x8000, kind: StackKind::Main }];
    let (registry, evidence, modules) = (Registry::default(), NoEvidence, NoModules);
    let (arch, stop) = (&X86_64, Stop::default());
    let modules = &modules;
    let target = Target { arch, memory, modules, stacks: &stacks, registry: &registry, evidence: &evidence, stop };
    let mut regs = Regs::new();
    regs.set_pc(CodeAddress::Exact(0x1010));
    regs.set(X86_64.sp, 0x7000);
    regs.set(SHADOW.expect("r15 exists"), 0x9000);
    let mut walk = Walk::new(&target, &[&ShadowStack], regs, 64);
    while let Some(frame) = walk.next() {
        println!("#{} {:#x} {:?}", frame.index, frame.pc.value(), frame.found_by);
    }
    if let Some(End::Stopped(error)) = walk.end() {
        println!("stopped: {error}");
    }
}
