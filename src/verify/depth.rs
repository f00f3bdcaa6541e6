//! How much stack a function takes, with all it calls.

use super::value::{State, Value};
use super::walk::Node;
use crate::analysis::SP;
use iced_x86::{Instruction, Mnemonic};
use std::collections::BTreeMap;
use std::fmt;

/// The most that is used of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depth {
    /// So many bytes, return addresses included; what allowed functions, annotated calls and panics take is not.
    AtMost(u64),
    /// Nobody knows, and why.
    Unknown(String),
}

impl fmt::Display for Depth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bytes) => write!(out, "at most {bytes} bytes"),
            Self::Unknown(why) => write!(out, "unknown: {why}"),
        }
    }
}

/// One function's part in it.
#[derive(Debug, Default)]
pub(super) struct Frame {
    own: u64,
    /// The deepest place from which each callee is called.
    calls: BTreeMap<usize, u64>,
    /// Whether the stack pointer is not understood where it matters, or a callee is not known.
    lost: bool,
    /// How deep the stack pointers lie that were aligned, by the instruction.
    bases: BTreeMap<u64, u64>,
}

impl Frame {
    /// What holds behind `instruction`.
    pub fn at(&mut self, state: &State, instruction: &Instruction) {
        match (self.depth(state), state.get(SP)) {
            (Some(depth), _) => self.own = self.own.max(depth),
            // Between the steps of a loop that touches every page of a large frame.
            (None, Value::Any) if instruction.mnemonic() != Mnemonic::Push => {}
            (None, _) => self.lost = true,
        }
    }

    /// The stack pointer is about to be aligned by `instruction`.
    pub fn aligned(&mut self, state: &State, instruction: &Instruction) {
        if let Some(depth) = self.depth(state) {
            let known = self.bases.entry(instruction.ip()).or_default();
            *known = (*known).max(depth.saturating_add(!instruction.immediate(1)));
        }
    }

    /// `callee` begins with the stack pointer this far below our own return address.
    pub fn calls(&mut self, callee: usize, at: Option<u64>) {
        match at {
            Some(depth) => {
                let known = self.calls.entry(callee).or_default();
                *known = (*known).max(depth);
            }
            None => self.lost = true,
        }
    }

    /// Somebody is called of whom nothing is known.
    pub fn loses(&mut self) {
        self.lost = true;
    }

    /// How far the stack pointer is below our return address.
    pub fn depth(&self, state: &State) -> Option<u64> {
        let Value::Stack { base, offset } = state.get(SP) else { return None };
        let base = if base == 0 { 0 } else { *self.bases.get(&base)? };
        Some(base.saturating_add_signed(offset.checked_neg()?))
    }
}

/// How deep `root` goes; `name` is what a node is called.
pub(super) fn depth(nodes: &[Node], root: usize, name: &dyn Fn(usize) -> String) -> Depth {
    let mut done: BTreeMap<usize, u64> = BTreeMap::new();
    let callees = |node: usize| nodes.get(node).map(|found| found.frame.calls.keys().copied().collect::<Vec<_>>());
    let mut path: Vec<(usize, Vec<usize>)> = vec![(root, callees(root).unwrap_or_default())];
    while let Some((node, left)) = path.last_mut() {
        let node = *node;
        if let Some(callee) = left.pop() {
            if path.iter().any(|(above, _)| *above == callee) {
                return Depth::Unknown(format!("recursion through {}", name(callee)));
            }
            if !done.contains_key(&callee) {
                path.push((callee, callees(callee).unwrap_or_default()));
            }
            continue;
        }
        let Some(found) = nodes.get(node) else { break };
        if found.frame.lost {
            return Depth::Unknown(format!(
                "{} calls somebody unknown, or moves the stack pointer at will",
                name(node)
            ));
        }
        let below = found.frame.calls.iter().map(|(callee, at)| at.saturating_add(*done.get(callee).unwrap_or(&0)));
        done.insert(node, below.fold(found.frame.own, u64::max));
        path.pop();
    }
    // The root's own return address.
    Depth::AtMost(done.get(&root).copied().unwrap_or(0).saturating_add(8))
}
