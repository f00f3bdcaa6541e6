//! Which functions are to be replaced: near misses rather than any.

use crate::functions::Functions;
use crate::maps::Module;
use crate::random::Random;
use std::ops::Range;

/// Functions that were on the chain lately.
const REMEMBERED: usize = 256;

/// Draws sets of functions.
pub struct Draw {
    random: Random,
    lately: Vec<Range<u64>>,
}

impl Draw {
    /// A sequence of sets.
    pub fn new(random: Random) -> Draw {
        Draw { random, lately: Vec::new() }
    }

    /// One to four functions: every other set has one of those that `inside` lies in, the others have none. The rest are
    /// those that were on the chain lately, the neighbours of those that are, and any.
    pub fn targets(&mut self, functions: &mut Functions, modules: &[Module], inside: &[u64]) -> Vec<Range<u64>> {
        let mut set: Vec<Range<u64>> = Vec::new();
        if self.random.below(2) == 0 {
            let pc = self.random.one(inside).copied();
            let here = pc.and_then(|pc| functions.at(modules, pc));
            self.remember(here.clone());
            set.extend(here);
        }
        for _ in 0..=self.random.below(3) {
            let drawn = match self.random.below(3) {
                0 => self.random.one(&self.lately).cloned(),
                1 => {
                    let pc = self.random.one(inside).copied();
                    let beside = pc.map(|pc| functions.beside(modules, pc)).unwrap_or_default();
                    self.random.one(&beside).cloned()
                }
                _ => functions.some(modules, self.random.below(modules.len()), self.random.number()),
            };
            let free = drawn.filter(|range| !inside.iter().any(|pc| range.contains(pc)));
            set.extend(free);
        }
        if set.is_empty() {
            // Nothing runs there: a set may not be empty.
            set.push(0..1);
        }
        set
    }

    fn remember(&mut self, range: Option<Range<u64>>) {
        let Some(range) = range else { return };
        if self.lately.len() < REMEMBERED {
            self.lately.push(range);
        } else if let Some(old) = {
            let i = self.random.below(REMEMBERED);
            self.lately.get_mut(i)
        } {
            *old = range;
        }
    }
}
