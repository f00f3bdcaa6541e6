//! Whether interrupted code keeps its frame where its unwind information says.

use super::FileEvidence;
use crate::analysis::{State, agrees, each_state, loses_frame};
use surestack_cfi::{CfaRule, Row};
use surestack_walk::{CodeAddress, Proof};

impl FileEvidence<'_> {
    /// Whether the instructions from the function's entry to the interrupted `pc` leave the frame where its row finds it.
    ///
    /// `Refuted` also where they load the stack pointer from elsewhere: the code that completes a longjmp or a switch of
    /// contexts, whose row describes a frame that is not the one it was called in.
    pub(super) fn keeps_frame(&self, pc: CodeAddress) -> Proof {
        let CodeAddress::Exact(address) = pc else { return Proof::Unknown };
        let Some((start, end)) = self.function(address) else { return Proof::Unknown };
        let mut moved = self.answers.moved.borrow_mut();
        let moved = moved.entry(start).or_insert_with(|| self.moved(start, end));
        if moved.binary_search(&address).is_ok() { Proof::Refuted } else { Proof::Unknown }
    }

    /// The instructions of a function at which its rows are not where the frame is, ascending.
    fn moved(&self, start: u64, end: u64) -> Vec<u64> {
        // A part that was split off is entered in the middle of a frame, which only its own row describes.
        let at_call = CfaRule::Register(self.arch.sp, 8);
        if self.with_row(start, |row| row.cfa == at_call) != Some(true) {
            return Vec::new();
        }
        let mut reached: Vec<(u64, State)> = Vec::new();
        let inside = |at: u64| (start..end).contains(&at);
        each_state(&self.text(), start, &inside, |at, state| reached.push((at, state.clone())));
        let mut moved = Vec::new();
        let mut states = reached.iter().peekable();
        while let Some((at, _)) = states.peek() {
            // One row serves all instructions of its range.
            let on = self.with_row(*at, |row| {
                while let Some((at, state)) = states.next_if(|(at, _)| (row.start..row.end).contains(at)) {
                    if is_moved(row, state) {
                        moved.push(*at);
                    }
                }
            });
            if on.is_none() {
                states.next();
            }
        }
        moved
    }
}

fn is_moved(row: &Row<'_>, state: &State) -> bool {
    agrees(row, state) == Proof::Refuted || loses_frame(row, state)
}
