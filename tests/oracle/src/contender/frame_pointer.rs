//! The baseline: follow rbp, whatever is in it.

use super::{Answer, Contender, MAX_FRAMES, Stop};

/// Follows rbp from frame record to frame record; a zero is taken for the end.
pub struct FramePointer;

impl Contender for FramePointer {
    fn name(&self) -> &str {
        "fp"
    }

    fn ask(&mut self, stop: &Stop<'_>) -> Answer {
        let memory = stop.memory();
        let mut pcs = vec![stop.registers.rip];
        let mut fp = stop.registers.rbp;
        while pcs.len() < MAX_FRAMES {
            if fp == 0 {
                return Answer { pcs, trusted: true, why: "rbp is 0".to_owned() };
            }
            let (Some(next), Some(address)) = (memory.word(fp), memory.word(fp.wrapping_add(8))) else {
                return Answer { pcs, trusted: false, why: format!("no frame record at {fp:#x}") };
            };
            if address == 0 {
                return Answer { pcs, trusted: true, why: "return address 0".to_owned() };
            }
            pcs.push(address);
            if next != 0 && next <= fp {
                return Answer { pcs, trusted: false, why: format!("rbp does not rise above {fp:#x}") };
            }
            fp = next;
        }
        Answer { pcs, trusted: false, why: "too many frames".to_owned() }
    }
}
