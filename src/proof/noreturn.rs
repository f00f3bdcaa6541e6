//! Functions that never return: a call to one is the last thing that happens on its way.

use super::Source;
use super::code::Callee;
use super::layout::Layout;
use super::lsda::{self, CallSite};
use crate::kept::Multiply;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use surestack_walk::Memory;

/// Most instructions of one function that are looked at.
const MOST: usize = 4_000;
/// How deep calls are followed.
const DEEP: usize = 12;
/// Bytes read at once.
const WINDOW: usize = 64;

/// Whether a call comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// No way leads from the function's entry to a return.
    Never,
    /// Some way seems to.
    Perhaps,
    /// The function is not known.
    Unknown,
}

impl Return {
    /// Whether a call through `slot` comes back, if nothing is known but the slots (ascending) of functions that never do.
    pub fn by_name(never: &[u64], slot: u64) -> Self {
        if never.binary_search(&slot).is_ok() { Self::Never } else { Self::Unknown }
    }
}

/// Answers that were found in one module.
#[derive(Debug, Default)]
pub struct Returns {
    known: RefCell<HashMap<u64, Return>>,
    /// By function: its call sites.
    sites: RefCell<HashMap<usize, Option<Rc<[CallSite]>>>>,
}

impl Returns {
    /// Whether a call of `callee` comes back.
    pub fn ask(&self, source: &Source<'_>, layout: &Layout, callee: Callee) -> Return {
        match callee {
            Callee::Function(address) => Search { returns: self, source, layout, stack: Vec::new() }.function(address),
            Callee::Slot(slot) => (source.through)(slot),
            Callee::Unknown => Return::Unknown,
        }
    }
}

struct Search<'s, 'm> {
    returns: &'s Returns,
    source: &'s Source<'m>,
    layout: &'s Layout,
    /// The functions whose answers are being looked for.
    stack: Vec<u64>,
}

impl Search<'_, '_> {
    fn function(&mut self, start: u64) -> Return {
        if let Some(found) = self.returns.known.borrow().get(&start) {
            return *found;
        }
        if self.stack.len() >= DEEP {
            return Return::Perhaps;
        }
        if self.stack.contains(&start) {
            // What only calls itself has no other way out; whoever asked looks for one.
            return Return::Never;
        }
        self.stack.push(start);
        let found = self.search(start);
        self.stack.pop();
        // An answer that rests on the assumption that a caller further up never returns is not kept.
        if found != Return::Never || self.stack.is_empty() {
            self.returns.known.borrow_mut().insert(start, found);
        }
        found
    }

    fn search(&mut self, start: u64) -> Return {
        let mut seen: HashSet<u64, BuildHasherDefault<Multiply>> = HashSet::default();
        let mut work = vec![start];
        while let Some(mut at) = work.pop() {
            while seen.insert(at) {
                let found = instruction(self.source, at).filter(|_| seen.len() < MOST);
                let Some(found) = found else { return Return::Unknown };
                if matches!(found.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
                    // What the call throws may be caught here, and returned from.
                    match self.pad(at) {
                        Ok(pad) => work.extend(pad),
                        Err(Unreadable) => return Return::Unknown,
                    }
                }
                let next = found.next_ip();
                at = match found.flow_control() {
                    FlowControl::Next | FlowControl::Interrupt if found.mnemonic() != Mnemonic::Hlt => next,
                    FlowControl::UnconditionalBranch => found.near_branch_target(),
                    FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                        work.push(found.near_branch_target());
                        next
                    }
                    FlowControl::Call if found.mnemonic() != Mnemonic::Call => next,
                    FlowControl::Call => match self.function(found.near_branch_target()) {
                        Return::Never => break,
                        _ => next,
                    },
                    FlowControl::IndirectCall if found.is_ip_rel_memory_operand() => {
                        match (self.source.through)(found.ip_rel_memory_address()) {
                            Return::Never => break,
                            _ => next,
                        }
                    }
                    FlowControl::IndirectCall => next,
                    FlowControl::IndirectBranch if found.is_ip_rel_memory_operand() => {
                        match (self.source.through)(found.ip_rel_memory_address()) {
                            Return::Never => break,
                            other => return other,
                        }
                    }
                    FlowControl::Return | FlowControl::IndirectBranch => return Return::Perhaps,
                    _ => break,
                };
            }
        }
        Return::Never
    }

    /// Where an exception leads that the call at an address lets through, if not out of its function.
    fn pad(&self, at: u64) -> Result<Option<u64>, Unreadable> {
        let Some(index) = self.layout.function(at) else { return Ok(None) };
        let Some(function) = self.layout.functions().get(index) else { return Ok(None) };
        let Some(table) = function.lsda else { return Ok(None) };
        let mut known = self.returns.sites.borrow_mut();
        let sites =
            known.entry(index).or_insert_with(|| lsda::call_sites(self.source, table, function.start).map(Rc::from));
        let sites = sites.as_ref().ok_or(Unreadable)?;
        Ok(lsda::pad(sites, at))
    }
}

/// A table of landing pads cannot be read.
struct Unreadable;

fn instruction(source: &Source<'_>, at: u64) -> Option<Instruction> {
    let mut bytes = [0; WINDOW];
    let lengths = [WINDOW, 15, 8, 4, 2, 1];
    let length = lengths
        .into_iter()
        .find(|length| bytes.get_mut(..*length).is_some_and(|bytes| source.read(at, bytes).is_ok()))?;
    let found = Decoder::with_ip(64, bytes.get(..length)?, at, DecoderOptions::NONE).decode();
    (!found.is_invalid()).then_some(found)
}
