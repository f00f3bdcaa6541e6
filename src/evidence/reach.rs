//! Whether control can get from a call's target to a pc without another call.
//!
//! ```text
//!   target ─► part of its function ─► jumps out, falls through, slots ─► parts of other functions ─► …
//! ```

use super::FileEvidence;
use std::collections::{HashSet, VecDeque};
use surestack_walk::CodeAddress;

/// Most functions on the way: tail calls lead through a handful.
const BUDGET: usize = 512;

/// What is known about a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It leads there.
    There,
    /// No way does, and all are known.
    Nowhere,
    /// Not all ways are known.
    Open,
}

/// An answer, and whether it stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub way: Way,
    /// Whether no word on the way can be written.
    pub settled: bool,
}

impl FileEvidence<'_> {
    /// Whether code entered at `target` can be running at `callee`, calls it made itself aside.
    pub(super) fn reaches(&self, target: u64, callee: CodeAddress) -> Answer {
        let mut seen = HashSet::new();
        let mut work = VecDeque::from([target]);
        let (mut way, mut settled) = (Way::Nowhere, true);
        while let Some(entry) = work.pop_front() {
            if !seen.insert(entry) {
                continue;
            }
            if seen.len() > BUDGET {
                return Answer { way: Way::Open, settled };
            }
            let part = self.part(entry);
            let there = match callee {
                CodeAddress::Exact(address) => part.runs(address),
                CodeAddress::Return(address) => part.calls_before(address),
            };
            if there {
                return Answer { way: Way::There, settled };
            }
            if part.open {
                way = Way::Open;
            }
            work.extend(&part.exits);
            for &slot in &part.slots {
                let fixed = self.writable(slot).is_none();
                settled &= fixed;
                match self.memory.word(slot) {
                    Ok(value) if fixed || self.is_linkage(slot) => work.push_back(value),
                    _ => way = Way::Open,
                }
                // While a slot was not bound yet, it led to the loader's resolver.
                if !fixed && self.is_resolver(slot, callee) {
                    return Answer { way: Way::There, settled: true };
                }
            }
        }
        Answer { way, settled }
    }
}
