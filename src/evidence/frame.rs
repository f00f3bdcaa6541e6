//! Whether interrupted code keeps its frame where its unwind information says.

use super::FileEvidence;
use crate::analysis::{Base, SP, State, Value, each_state, loses_frame};
use iced_x86::{Mnemonic, Register};
use std::collections::HashSet;
use surestack_cfi::CfaRule;
use surestack_walk::{CodeAddress, Proof};

impl FileEvidence<'_> {
    /// Whether the instructions from the function's entry to the interrupted `pc` leave the frame where its row finds it.
    ///
    /// `Refuted` where they have loaded the stack pointer from elsewhere: the code that completes a longjmp or a switch of
    /// contexts, whose row describes a frame that is not the one it was called in. Rows that are merely wrong are not
    /// looked for here.
    pub(super) fn keeps_frame(&self, pc: CodeAddress) -> Proof {
        let CodeAddress::Exact(address) = pc else { return Proof::Unknown };
        let Some((start, end)) = self.function(address) else { return Proof::Unknown };
        let mut moved = self.answers.moved.borrow_mut();
        let moved = moved.get_or_find(start, || self.moved(start, end));
        if moved.binary_search(&address).is_ok() { Proof::Refuted } else { Proof::Unknown }
    }

    /// The instructions of a function at which its rows describe another frame, ascending.
    fn moved(&self, start: u64, end: u64) -> Vec<u64> {
        // A part that was split off is entered in the middle of a frame, which only its own row describes.
        let at_call = CfaRule::Register(self.arch.sp, 8);
        if self.with_row(start, |row| row.cfa == at_call) != Some(true) {
            return Vec::new();
        }
        let mut reached: Vec<(u64, State)> = Vec::new();
        let inside = |at: u64| (start..end).contains(&at);
        each_state(&self.text(), start, &inside, |at, state| reached.push((at, state.clone())));
        let behind = self.behind_switches(&reached, &inside);
        let lost = |(at, state): &(u64, State)| {
            behind.contains(at) && self.with_row(*at, |row| loses_frame(row, state)) == Some(true)
        };
        reached.iter().filter(|found| lost(found)).map(|(at, _)| *at).collect()
    }

    /// The instructions of a function to which control comes after one that loads the stack pointer with something that
    /// does not come from the frame.
    fn behind_switches(&self, reached: &[(u64, State)], inside: &dyn Fn(u64) -> bool) -> HashSet<u64> {
        let text = self.text();
        let foreign = |at: u64| {
            let found = reached.binary_search_by_key(&at, |(at, _)| *at).ok().and_then(|index| reached.get(index));
            found.is_some_and(|(_, state)| !matches!(state.get(SP), Value::Sum(Base::Cfa, _)))
        };
        let mut behind = HashSet::new();
        for instruction in reached.iter().filter_map(|(at, _)| text.instruction(*at)) {
            let loads = instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == Register::RSP;
            if loads && foreign(instruction.next_ip()) {
                each_state(&text, instruction.next_ip(), inside, |at, _| {
                    behind.insert(at);
                });
            }
        }
        behind
    }
}
