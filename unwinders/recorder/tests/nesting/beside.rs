//! What a reader in another process can see while a ring is written: all that it can, in every order of its loads and the
//! writer's stores.
//!
//! It changes nothing, so the writer's stores can be written down first, and the reader be put anywhere between them. It reads
//! a record word by word; of a word that is stored twice it can have one value or the other, and after a new one only what was
//! there then or later. Reading as early as that value allows leaves all that can follow open, so no other moment is tried.

use crate::reader::{Shape, is_sum_right, length};
use crate::world::{Change, State, World};
use surestack_recorder::layout::record::SITE_SHIFT;
use surestack_recorder::ring::Word;

/// How a reader goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// It asks once, at its beginning, whether somebody writes, and if not reads what there is.
    FlagAtEntry,
    /// It reads `commit` first, and `reserve` last: what that says is gone was not read. It does not look at sums.
    CommitFirstReserveLast,
    /// The same with sums: writers may have been left, or be in another's way.
    AndSums,
}

/// What it took for a record.
pub struct Taken {
    pub position: u64,
    pub words: Vec<u64>,
    /// How it came about, in the order of time.
    pub story: String,
}

/// The values of a ring's words over time: before the change with that number.
pub struct Film<'a> {
    shape: Shape,
    before: &'a State,
    reserve: Vec<u64>,
    commit: Vec<u64>,
    nest: Vec<u64>,
    cells: Vec<(usize, usize, u64)>,
}

impl<'a> Film<'a> {
    /// What was written down of a world that began as this other one is.
    pub fn of(world: &World<'_>, before: &'a State) -> Self {
        let state = world.state.borrow();
        let [mut reserve, mut commit, mut nest] =
            [Word::Reserve, Word::Commit, Word::Nest].map(|word| vec![before.word(word)]);
        let mut cells = vec![];
        for (at, change) in state.log.iter().enumerate() {
            for (of, values) in [(Word::Reserve, &mut reserve), (Word::Commit, &mut commit), (Word::Nest, &mut nest)] {
                values.push(match *change {
                    Change::Word(word, value) if word == of => value,
                    _ => values[at],
                });
            }
            if let Change::Cell(cell, value) = *change {
                cells.push((at + 1, cell, value));
            }
        }
        Self { shape: world.setting.shape, before, reserve, commit, nest, cells }
    }

    /// The values that a word can have from a moment on, each with the first moment.
    fn values(&self, cell: usize, from: usize) -> Vec<(usize, u64)> {
        let mut now = (from, self.before.memory[cell]);
        let mut later = vec![];
        for (at, _, value) in self.cells.iter().filter(|(_, other, _)| *other == cell) {
            if *at <= from {
                now = (from, *value);
            } else {
                later.push((*at, *value));
            }
        }
        later.insert(0, now);
        later
    }

    /// All that a reader of this design can take for records, wherever in the ring something changes.
    pub fn everything_taken(&self, design: Design) -> Vec<Taken> {
        let mut taken = vec![];
        let mut last = None;
        for begin in 0..self.commit.len() {
            let seen = (self.commit[begin], self.nest[begin]);
            // A later moment at which the same is seen allows no more than an earlier one.
            if last.replace(seen) == Some(seen) || design == Design::FlagAtEntry && seen.1 & 15 != 0 {
                continue;
            }
            for position in self.positions(begin) {
                self.heads(design, begin, position, &mut taken);
            }
        }
        taken
    }

    /// Positions below `commit` at which something changes, or shortly behind which: records are short here.
    fn positions(&self, begin: usize) -> Vec<u64> {
        let valid = self.shape.valid(self.reserve[begin], self.commit[begin]);
        let changes = |position: u64| {
            let behind = |cell: usize| cell.wrapping_sub(self.shape.cell(position)) < 8;
            self.cells.iter().any(|(_, cell, _)| behind(*cell))
        };
        valid.step_by(8).filter(|position| changes(*position)).collect()
    }

    fn heads(&self, design: Design, begin: usize, position: u64, taken: &mut Vec<Taken>) {
        for (at, head) in self.values(self.shape.cell(position), begin) {
            let Some(words) = length(head, position) else { continue };
            if position + words as u64 * 8 <= self.commit[begin] {
                self.rest(design, &mut vec![(begin, 0), (at, head)], words, position, taken);
            }
        }
    }

    fn rest(&self, design: Design, read: &mut Vec<(usize, u64)>, words: usize, position: u64, taken: &mut Vec<Taken>) {
        let (now, _) = *read.last().unwrap();
        let have = read.len() - 1;
        if have < words {
            for next in self.values(self.shape.cell(position + have as u64 * 8), now) {
                read.push(next);
                self.rest(design, read, words, position, taken);
                read.pop();
            }
            return;
        }
        let record: Vec<u64> = read[1..].iter().map(|(_, word)| *word).collect();
        let there = self.shape.valid(self.reserve[now], u64::MAX).contains(&position);
        let accepted = match design {
            Design::FlagAtEntry => true,
            Design::CommitFirstReserveLast => there,
            Design::AndSums => there && is_sum_right(&record),
        };
        if accepted && record[0] >> SITE_SHIFT != 0 {
            let when = read[1..].iter().map(|(at, word)| format!("{word:#x} after store {at}"));
            let story = format!("begun after store {}: {}", read[0].0, when.collect::<Vec<_>>().join(", "));
            taken.push(Taken { position, words: record, story });
        }
    }
}
