//! Functions that never return: a call to one is the last thing that happens on its way.

use super::Source;
use super::code::Callee;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
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

/// Answers that were found in one module.
#[derive(Debug, Default)]
pub struct Returns {
    known: RefCell<HashMap<u64, Return>>,
}

impl Returns {
    /// Whether a call of `callee` comes back.
    pub fn ask(&self, source: &Source<'_>, callee: Callee) -> Return {
        match callee {
            Callee::Function(address) => self.function(source, address, &mut Vec::new()),
            Callee::Slot(slot) => self.slot(source, slot, &mut Vec::new()),
            Callee::Unknown => Return::Unknown,
        }
    }

    fn slot(&self, source: &Source<'_>, slot: u64, stack: &mut Vec<u64>) -> Return {
        if (source.never_returns)(slot) {
            return Return::Never;
        }
        match source.word(slot) {
            // In a file that is not running there is nothing there, or what the linker left.
            Ok(there) if source.runs => self.function(source, there.wrapping_sub(source.bias), stack),
            _ => Return::Unknown,
        }
    }

    fn function(&self, source: &Source<'_>, start: u64, stack: &mut Vec<u64>) -> Return {
        if let Some(found) = self.known.borrow().get(&start) {
            return *found;
        }
        if stack.len() >= DEEP {
            return Return::Perhaps;
        }
        if stack.contains(&start) {
            // What only calls itself has no other way out; whoever asked looks for one.
            return Return::Never;
        }
        stack.push(start);
        let found = self.search(source, start, stack);
        stack.pop();
        // An answer that rests on the assumption that a caller further up never returns is not kept.
        if found != Return::Never || stack.is_empty() {
            self.known.borrow_mut().insert(start, found);
        }
        found
    }

    fn search(&self, source: &Source<'_>, start: u64, stack: &mut Vec<u64>) -> Return {
        let mut seen = HashSet::new();
        let mut work = vec![start];
        while let Some(mut at) = work.pop() {
            while seen.insert(at) {
                let Some(found) = instruction(source, at).filter(|_| seen.len() < MOST) else { return Return::Unknown };
                let next = found.next_ip();
                at = match found.flow_control() {
                    FlowControl::Next | FlowControl::Interrupt if found.mnemonic() != Mnemonic::Hlt => next,
                    FlowControl::UnconditionalBranch => found.near_branch_target(),
                    FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                        work.push(found.near_branch_target());
                        next
                    }
                    FlowControl::Call if found.mnemonic() != Mnemonic::Call => next,
                    FlowControl::Call => match self.function(source, found.near_branch_target(), stack) {
                        Return::Never => break,
                        _ => next,
                    },
                    FlowControl::IndirectCall if found.is_ip_rel_memory_operand() => {
                        match self.slot(source, found.ip_rel_memory_address(), stack) {
                            Return::Never => break,
                            _ => next,
                        }
                    }
                    FlowControl::IndirectCall => next,
                    FlowControl::IndirectBranch if found.is_ip_rel_memory_operand() => {
                        match self.slot(source, found.ip_rel_memory_address(), stack) {
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
}

fn instruction(source: &Source<'_>, at: u64) -> Option<Instruction> {
    let mut bytes = [0; WINDOW];
    let lengths = [WINDOW, 15, 8, 4, 2, 1];
    let length = lengths
        .into_iter()
        .find(|length| bytes.get_mut(..*length).is_some_and(|bytes| source.read(at, bytes).is_ok()))?;
    let found = Decoder::with_ip(64, bytes.get(..length)?, at, DecoderOptions::NONE).decode();
    (!found.is_invalid()).then_some(found)
}
