//! Code from which every way leads to a panic: what it refers to, only the panic sees.
//!
//! ```text
//!   cmp $4, %rdi
//!   jae 1f ─────────────► 1: lea location(%rip), %rdx      not followed
//!   lea table(%rip), %rax    call panic_bounds_check
//!   followed
//! ```
//!
//! What it calls is followed all the same.

use super::walk::{Came, Node, Walk};
use std::collections::{BTreeMap, BTreeSet};

/// A piece of code without a branch in it.
#[derive(Debug, Default)]
pub(super) struct Segment {
    next: BTreeSet<u64>,
    leaves: bool,
    escapes: bool,
    refers: BTreeMap<u64, Vec<(u64, Came)>>,
}

impl Segment {
    /// Control goes on at `address`.
    pub fn goes(&mut self, address: u64) {
        self.next.insert(address);
    }

    /// Control leaves the function, or nobody knows where it goes.
    pub fn leaves(&mut self) {
        self.leaves = true;
    }

    /// It ends in a panic.
    pub fn escapes(&mut self) {
        self.escapes = true;
    }

    /// The instruction at `came` refers to `address`.
    pub fn refers(&mut self, address: u64, came: Came) {
        let all = self.refers.entry(came.site).or_default();
        if all.iter().all(|(known, _)| *known != address) {
            all.push((address, came));
        }
    }
}

impl Walk<'_> {
    /// Follows all references that have not been followed, except from code where every way leads to a panic. Whether there
    /// were any.
    pub fn follow_references(&mut self) -> bool {
        let mut fresh = Vec::new();
        for node in &self.nodes {
            let doomed = doomed(node);
            let alive = node.segments.iter().filter(|(start, _)| !doomed.contains(start));
            fresh.extend(alive.flat_map(|(_, segment)| segment.refers.values().flatten().copied()));
        }
        fresh.retain(|(address, came)| self.followed.insert((came.site, *address)));
        for (address, came) in &fresh {
            self.refer(*address, *came);
        }
        !fresh.is_empty()
    }
}

/// Where the segments begin from which every way leads to a panic.
fn doomed(node: &Node) -> BTreeSet<u64> {
    let mut doomed = BTreeSet::new();
    loop {
        let before = doomed.len();
        for (start, segment) in &node.segments {
            let ends = segment.escapes || !segment.next.is_empty();
            if ends && !segment.leaves && segment.next.iter().all(|next| doomed.contains(next)) {
                doomed.insert(*start);
            }
        }
        if doomed.len() == before {
            return doomed;
        }
    }
}
