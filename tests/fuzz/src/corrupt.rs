//! Real threads whose stacks and registers were corrupted, walked and judged with everything there is.
//!
//! The threads are those of the committed core, each stopped in any of its frames; what is known of its code (its images,
//! its unwind information, its instructions) is whole. Words of the stack are smashed, swapped, moved, looped and forged,
//! with values chosen to pass for what belongs there: return addresses behind real calls, and behind calls of the very
//! same function, frame records, signal frames.
//!
//! A trace that is called reliable must be the chain of the thread as it was. One exception cannot be told from outside,
//! because it is no lie: with a return address replaced by one behind another call of the same function, the thread will
//! return *there*, on the same stack. Such a chain must be one that can run, by [`runs`], which knows only bytes and
//! symbols and none of the library's evidence.

mod code;
mod forge;
mod thread;

use crate::Fuzzed;
use crate::random::Random;
use forge::Forge;
use surestack::trace::{Known, Tracer};
use surestack::{Verdict, walk};
use thread::{Chain, Core, Link, Start};

/// More frames than any chain of these threads has.
const FRAMES: usize = 200;

/// The committed core, and what may be written over its stacks.
pub struct Corrupt {
    core: Core,
    forge: Forge,
    known: Known,
}

impl Corrupt {
    /// Walks the threads as they are; all of them must be reliable.
    pub fn demo() -> Self {
        let core = Core::open();
        let forge = Forge::of(&core);
        Self { core, forge, known: Known::default() }
    }
}

impl Fuzzed for Corrupt {
    fn name(&self) -> &'static str {
        "corrupt"
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let start = &self.core.starts[random.index(self.core.starts.len())];
        self.core.stacks.restore();
        let regs = self.forge.corrupt(random, &self.core, start);
        let tracer = Tracer::new(&self.core.snapshot, &self.known).budget(FRAMES);
        let mut chain = Chain::default();
        let judged = tracer.walk(&regs, walk::Stop::default(), |frame| chain.see(frame));
        assert!(judged.depth <= FRAMES, "{} frames", judged.depth);
        assert!(judged.believed <= judged.depth);
        let same = chain == start.chain;
        match judged.verdict {
            Verdict::Reliable if same => "as it was",
            Verdict::Reliable => {
                let how = runs(&self.core, start, &chain);
                how.unwrap_or_else(|why| panic!("reliable, and {why}: {chain:x?}\nwas {:x?}", start.chain))
            }
            Verdict::Unreliable if same => "as it was, doubted",
            Verdict::Unreliable => "doubted",
            Verdict::Pending(_) => "pending",
        }
    }
}

/// Whether a thread with this stack really returns along `chain`, and how it differs from what it was.
fn runs(core: &Core, start: &Start, chain: &Chain) -> Result<&'static str, String> {
    let (Some(root), Some(was)) = (chain.links.last(), start.chain.links.last()) else {
        return Err("it is empty".to_owned());
    };
    let (low, high) = core.stacks.extent(was.sp).ok_or("its stack is unknown")?;
    if let Some(elsewhere) = chain.links.iter().find(|link| !(low..high).contains(&link.sp)) {
        return Err(format!("it goes on at {:#x}, on no stack of this thread's", elsewhere.sp));
    }
    // `clone` and `clone3` both end the thread that returns into them.
    if core.code.function(root.pc) != core.code.function(was.pc) && !core.code.ends_thread(root.pc) {
        return Err(format!("it ends at {:#x}", root.pc));
    }
    // Where a thread of the C library's begins is known to the page only.
    let mut how = if root.sp == was.sp { "another call of the same function" } else { "another place of the root" };
    for pair in chain.links.windows(2) {
        let [callee, caller] = pair else { continue };
        if start.chain.links.windows(2).any(|was| core.code.is_same_call(was, pair)) {
            continue;
        }
        let Link { pc, slot: Some(slot), .. } = *caller else {
            how = "another signal";
            continue;
        };
        if core.stacks.word(slot) != Some(pc) {
            return Err(format!("{pc:#x} is not at {slot:#x}"));
        }
        match core.code.called_before(pc) {
            None if core.code.is_trampoline(pc) => how = "another signal",
            None => return Err(format!("no call precedes {pc:#x}")),
            Some(None) => how = "another indirect call",
            Some(Some(target)) if core.code.function(callee.pc) == Some(target) => {}
            Some(Some(target)) if core.code.jumps_anywhere(target) => how = "another call that jumps on",
            Some(Some(target)) => {
                return Err(format!("the call before {pc:#x} goes to {target:#x}, not to {:#x}", callee.pc));
            }
        }
    }
    Ok(how)
}
