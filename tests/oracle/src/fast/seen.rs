//! What a walk hands over, for the fast path and the full one alike.

use std::ops::ControlFlow;
use surestack_fast::{Passed, Take};
use surestack_walk::{End, Regs, Target, Unwinder, Walk};

/// Frames, and how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Innermost first.
    pub frames: Vec<Passed>,
    /// None while no end is known.
    pub end: Option<End>,
}

impl Seen {
    /// What the full walk sees.
    pub fn walked(target: &Target<'_>, unwinders: &[&dyn Unwinder], regs: Regs, budget: usize) -> Self {
        let mut walk = Walk::new(target, unwinders, regs, budget);
        let mut frames = Vec::new();
        while let Some(frame) = walk.next() {
            frames.push(Passed::of(target, &frame));
        }
        Self { frames, end: walk.end() }
    }

    /// Where this one differs from the other, and how; nothing where it does not.
    pub fn difference(&self, full: &Self) -> Option<String> {
        if self == full {
            return None;
        }
        let at = self.frames.iter().zip(&full.frames).take_while(|(fast, full)| fast == full).count();
        Some(format!(
            "frame {at} of {} and {}: fast {:x?}, end {:x?}; full {:x?}, end {:x?}",
            self.frames.len(),
            full.frames.len(),
            self.frames.get(at),
            self.end,
            full.frames.get(at),
            full.end
        ))
    }
}

impl Take for Seen {
    fn take(&mut self, frame: Passed) -> ControlFlow<()> {
        self.frames.push(frame);
        ControlFlow::Continue(())
    }
}
