//! The race of 2008 by which a flag that is checked at entry was given up: code of two words is rewritten while a handler on
//! another processor runs it.
//!
//! The handler looks at its entry whether a change is pending, and if so makes it itself, all of it, before it goes on. What
//! comes after it looked is not covered.

use crate::choices::Choices;
use std::fmt::Write;

/// What both processors see.
#[derive(Default)]
struct Memory {
    pending: bool,
    code: [u8; 2],
}

/// One step of the processor that changes the code. Says when it is done.
fn patch(step: usize, memory: &mut Memory, story: &mut String) -> bool {
    match step {
        0 => memory.pending = true,
        1 => memory.code[0] = 1,
        2 => memory.code[1] = 1,
        _ => memory.pending = false,
    }
    let what = ["sets the flag", "changes the first word", "changes the second word", "takes the flag back"];
    let _ = write!(story, "; B {}", what[step]);
    step == 3
}

/// One step of the handler. Says when it is done.
fn handle(step: usize, memory: &mut Memory, ran: &mut Vec<u8>, story: &mut String) -> bool {
    let what = match step {
        0 if memory.pending => {
            memory.code = [1, 1];
            "finds the flag set and makes the change"
        }
        0 => "finds the flag not set",
        1 => {
            ran.push(memory.code[0]);
            "runs the first word"
        }
        _ => {
            ran.push(memory.code[1]);
            "runs the second word"
        }
    };
    let _ = write!(story, "; A {what}");
    step == 2
}

/// One order of their steps: what the handler ran, and the story.
pub fn run(choices: &Choices) -> (Vec<u8>, String) {
    let (mut memory, mut ran, mut story) = (Memory::default(), vec![], String::new());
    let mut steps = [0, 0];
    let mut done = [false, false];
    while !done[0] || !done[1] {
        let who = match done {
            [false, false] => choices.choose(2),
            [true, _] => 1,
            _ => 0,
        };
        done[who] = match who {
            0 => handle(steps[0], &mut memory, &mut ran, &mut story),
            _ => patch(steps[1], &mut memory, &mut story),
        };
        steps[who] += 1;
    }
    (ran, story)
}
