//! Functions that go on in another frame, as libgcc does where it goes to a landing pad (`__builtin_eh_return`).
//!
//! Once it is certain that they will, the registers they saved, and perhaps their return address, are overwritten through
//! pointers with those of the frame they go to. There no row is proven.

use super::code::{Callee, Code, Way};
use std::collections::{BTreeSet, HashSet};

/// The instructions from which every way leads to one of the `jumps`, calls that never return aside.
pub fn rewritten(code: &Code, jumps: &BTreeSet<usize>, comes_back: &dyn Fn(Callee) -> bool) -> HashSet<usize> {
    if jumps.is_empty() {
        return HashSet::new();
    }
    let leaves = |index: usize, way: Way| match way {
        Way::Return | Way::Slot => true,
        Way::Indirect => !jumps.contains(&index),
        Way::Jump(to) => code.find(to).is_none(),
        _ => false,
    };
    let others = code.steps.iter().enumerate().filter(|(index, step)| leaves(*index, step.way)).map(|(index, _)| index);
    let returning = before(code, others.collect(), comes_back);
    let mut leaving = before(code, jumps.iter().copied().collect(), comes_back);
    leaving.retain(|index| !returning.contains(index));
    leaving
}

/// The instructions from which a way leads to one of the `goals`.
fn before(code: &Code, goals: HashSet<usize>, comes_back: &dyn Fn(Callee) -> bool) -> HashSet<usize> {
    let mut found = goals;
    // Ways may lead back: until nothing is found any more.
    loop {
        let known = found.len();
        for (index, step) in code.steps.iter().enumerate().rev() {
            let goes_on = code.after(index).is_some_and(|next| found.contains(&next));
            let goes_to = |to: u64| code.find(to).is_some_and(|to| found.contains(&to));
            let leads = match step.way {
                Way::On => goes_on,
                Way::Branch(to) => goes_on || goes_to(to),
                Way::Jump(to) => goes_to(to),
                Way::Call(callee) => goes_on && comes_back(callee),
                Way::Indirect | Way::Slot | Way::Return | Way::Stop => false,
            };
            if leads {
                found.insert(index);
            }
        }
        if found.len() == known {
            return found;
        }
    }
}
