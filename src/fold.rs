//! Folds the frames of a recursion while they come: the last `length` frames, `times` more.
//!
//! A cycle is folded once it has stood three times in a row. Frames are the same when they look the same in a report:
//! same pc, found the same way. What is folded away are stack addresses, and they are counted.

use std::collections::VecDeque;

/// Longest cycle looked for: mutual recursion of more functions than this is printed in full.
const LONGEST: usize = 24;

/// What a frame looks like: its pc, and a mark for how it was found.
pub type Look = (u64, u64);

/// An item of a folded list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded<T> {
    /// A frame.
    One(T),
    /// The last `length` frames come `times` more.
    Repeat {
        /// Frames in the cycle.
        length: usize,
        /// How often it follows again.
        times: usize,
    },
}

/// A list that is folded as it grows.
#[derive(Debug)]
pub struct Fold<T> {
    items: Vec<Folded<T>>,
    /// Looks of the last frames, newest last: enough to see three of the longest cycle.
    looks: VecDeque<Look>,
    open: Option<Cycle<T>>,
}

/// A cycle being repeated.
#[derive(Debug)]
struct Cycle<T> {
    looks: Vec<Look>,
    times: usize,
    /// Frames of a repetition that has begun.
    begun: Vec<(Look, T)>,
}

impl<T> Default for Fold<T> {
    fn default() -> Self {
        Self { items: Vec::new(), looks: VecDeque::new(), open: None }
    }
}

impl<T> Fold<T> {
    /// Adds a frame.
    pub fn push(&mut self, look: Look, item: T) {
        if let Some(cycle) = &mut self.open {
            if cycle.looks.get(cycle.begun.len()) == Some(&look) {
                cycle.begun.push((look, item));
                if cycle.begun.len() == cycle.looks.len() {
                    cycle.begun.clear();
                    cycle.times += 1;
                }
                return;
            }
            self.close();
        }
        self.append(look, item);
    }

    /// The folded list.
    pub fn finish(mut self) -> Vec<Folded<T>> {
        self.close();
        self.items
    }

    /// Ends the open cycle and takes back the frames of the repetition that was not finished.
    fn close(&mut self) {
        let Some(cycle) = self.open.take() else {
            return;
        };
        self.items.push(Folded::Repeat { length: cycle.looks.len(), times: cycle.times });
        self.looks.clear();
        for (look, item) in cycle.begun {
            self.append(look, item);
        }
    }

    /// Adds a frame outside a cycle, and opens one when it is the third of its kind.
    fn append(&mut self, look: Look, item: T) {
        self.items.push(Folded::One(item));
        self.looks.push_back(look);
        if self.looks.len() > 3 * LONGEST {
            self.looks.pop_front();
        }
        let Some(length) = self.cycle_length() else {
            return;
        };
        // The first of the three stays; two go.
        self.items.truncate(self.items.len() - 2 * length);
        let looks = self.looks.iter().skip(self.looks.len() - length).copied().collect();
        self.looks.clear();
        self.open = Some(Cycle { looks, times: 2, begun: Vec::new() });
    }

    /// The shortest cycle that ends here and has stood three times.
    fn cycle_length(&self) -> Option<usize> {
        let newest = self.looks.back()?;
        let count = self.looks.len();
        let back = |by: usize| count.checked_sub(1 + by).and_then(|at| self.looks.get(at));
        (1..=LONGEST.min(count / 3))
            .filter(|&length| back(length) == Some(newest))
            .find(|&length| (0..2 * length).all(|by| back(by).is_some() && back(by) == back(by + length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters as frames: `a` looks like `a`. Folded parts print as `[length×times]`.
    fn fold(frames: &str) -> String {
        let mut fold = Fold::default();
        for letter in frames.chars() {
            fold.push((u64::from(letter), 0), letter);
        }
        let show = |item: &Folded<char>| match item {
            Folded::One(letter) => letter.to_string(),
            Folded::Repeat { length, times } => format!("[{length}x{times}]"),
        };
        fold.finish().iter().map(show).collect()
    }

    #[test]
    fn a_stack_without_recursion_is_left_alone() {
        assert_eq!(fold("abcdefg"), "abcdefg");
        assert_eq!(fold("aabb"), "aabb", "twice is not a recursion worth folding");
    }

    #[test]
    fn one_function_calling_itself_is_folded() {
        assert_eq!(fold("xaaaaay"), "xa[1x4]y");
    }

    #[test]
    fn mutual_recursion_is_folded_as_a_cycle() {
        assert_eq!(fold("xabcabcabcabcy"), "xabc[3x3]y");
    }

    #[test]
    fn a_repetition_that_breaks_off_keeps_its_frames() {
        assert_eq!(fold("abababaz"), "ab[2x2]az");
    }

    #[test]
    fn a_cycle_at_the_end_is_closed() {
        assert_eq!(fold("xababab"), "xab[2x2]");
    }

    #[test]
    fn two_recursions_in_one_stack_are_folded_each() {
        assert_eq!(fold("aaaabbbb"), "a[1x3]b[1x3]");
    }

    #[test]
    fn unfolding_gives_back_as_many_frames() {
        let frames = "mabcabcabcabcabznnnnnnq";
        let mut fold = Fold::default();
        frames.chars().for_each(|letter| fold.push((u64::from(letter), 0), letter));
        let count = |item: &Folded<char>| match *item {
            Folded::One(_) => 1,
            Folded::Repeat { length, times } => length * times,
        };
        assert_eq!(fold.finish().iter().map(count).sum::<usize>(), frames.len());
    }
}
