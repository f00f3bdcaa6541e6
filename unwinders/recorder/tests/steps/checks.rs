//! Where a case is disturbed.

use crate::runs::{Case, Stepped, Wrote, run};
use crate::stepping::{Last, Plan, Stack};
use std::ops::Range;

/// Behind the first instruction, and each so many further on.
fn behind_each(case: &'static Case, stack: Stack, last: Last, apart: usize) -> Result<Stepped, String> {
    let Stepped { outer, .. } = run(case, stack, vec![])?;
    let plans: Vec<Plan> = (1..=outer).step_by(apart).map(|at| Plan { outer: [at, 0], inner: 0, last }).collect();
    let planned = plans.len();
    let stepped = run(case, stack, plans)?;
    let all = stepped.copies == planned && stepped.outer.abs_diff(outer) < 64;
    if all { Ok(stepped) } else { Err(format!("{} instructions, and {outer} before", stepped.outer)) }
}

/// A handler runs behind each instruction. Its own stack makes no difference to most of them.
pub fn interrupted(case: &'static Case) -> Result<(), String> {
    for (stack, apart) in [(Stack::Same, 1), (Stack::Own, 7)] {
        let Stepped { outer, copies, .. } = behind_each(case, stack, Last::Handle, apart)?;
        println!("{}: interrupted behind {copies} of {outer} instructions, handlers on {stack:?} stack", case.name);
    }
    Ok(())
}

/// The process is killed behind each instruction.
pub fn killed(case: &'static Case) -> Result<(), String> {
    let Stepped { copies, open, .. } = behind_each(case, Stack::Same, Last::Kill, 1)?;
    println!("{}: killed behind each of {copies} instructions, {open} of them with an open event", case.name);
    let is_open = matches!(case.wrote, Wrote::Annotation(_)) || open > 20;
    if is_open { Ok(()) } else { Err("it was never killed in the middle".to_owned()) }
}

/// Two signals one after the other, and one within the handler of another, the second of which may be SIGKILL.
pub fn pairs(case: &'static Case, count: usize) -> Result<(), String> {
    let Stepped { outer, .. } = run(case, Stack::Same, vec![])?;
    // No handler is as long: it is stepped to its end.
    let whole = Plan { outer: [outer / 2, 0], inner: usize::MAX, last: Last::Handle };
    let Stepped { inner, .. } = run(case, Stack::Same, vec![whole])?;
    let mut drawn = Drawn(0x9e37_79b9_7f4a_7c15);
    let mut copies = 0;
    for stack in [Stack::Same, Stack::Own] {
        let plans = (0..count).flat_map(|_| {
            let first = drawn.from(1..outer);
            let second = drawn.from(first + 1..outer + 1);
            let within = drawn.from(1..inner + 1);
            [Last::Handle, Last::Kill].into_iter().flat_map(move |last| {
                let (one, other) =
                    (Plan { outer: [first, second], inner: 0, last }, Plan { outer: [first, 0], inner: within, last });
                [one, other]
            })
        });
        copies += run(case, stack, plans.collect())?.copies;
    }
    println!("{}: {copies} pairs, over {outer} instructions and {inner} of a handler", case.name);
    Ok(())
}

/// Numbers that are the same in each run (xorshift).
struct Drawn(u64);

impl Drawn {
    fn from(&mut self, range: Range<usize>) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        range.start + (self.0 as usize) % range.len()
    }
}
