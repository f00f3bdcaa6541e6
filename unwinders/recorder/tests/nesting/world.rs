//! A ring in which every access is a point at which anything may happen, and which knows who has what of it.
//!
//! Code of level 0 is the program, code of level n+1 a handler that interrupted a writer of level n. At each access a writer
//! can be interrupted by another one, the process be killed (what a reader finds is checked before every access, which is
//! the same), and a handler can jump to a place outside of the writers that it interrupted.

use crate::checks::{self, must};
use crate::choices::Choices;
use crate::reader::{self, Shape};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use surestack_recorder::layout::{PAGE, mode, record};
use surestack_recorder::ring::{Refused, Ring, Word, write};

/// What the runs of an enumeration have in common.
#[derive(Clone)]
pub struct Setting {
    pub shape: Shape,
    /// Words of the records that were written before, by nobody's disturbance.
    pub before: Vec<usize>,
    /// Words of the records that the program writes, one after the other.
    pub program: Vec<usize>,
    /// Words of the records that handlers can write.
    pub handlers: &'static [usize],
    /// How often the program is interrupted.
    pub interruptions: usize,
    /// How many writers can be under way at once.
    pub deep: usize,
    /// How often a handler jumps out of what it interrupted.
    pub jumps: usize,
    /// At which of its accesses each writer, while there is room, is interrupted by one that writes until it is refused.
    pub storm: Option<usize>,
    /// Words of a record that is written at each access of the program's first writer, and at none of the others.
    pub always: Option<usize>,
    pub add: Add,
}

/// How the ring adds to a word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Add {
    /// As the trait demands.
    Once,
    /// By a load and a store: the mistake that the enumeration must find.
    Twice,
}

/// How a writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    UnderWay,
    Returned(Result<(), Refused>),
    /// A handler that had interrupted it jumped elsewhere.
    Left,
}

/// What is known of one call of `write`.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The outermost one of those that it interrupted, or itself.
    pub outermost: usize,
    pub words: usize,
    /// Where ends what it has reserved.
    pub taken: Option<u64>,
    /// Where its record is, once it has a head.
    pub finished: Option<u64>,
    pub end: End,
    pub accesses: usize,
}

/// One change of the ring, by which others can be told what they would have seen.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Word(Word, u64),
    Cell(usize, u64),
}

/// All of it.
pub struct World<'a> {
    pub setting: &'a Setting,
    pub choices: &'a Choices,
    pub state: RefCell<State>,
    checking: Cell<bool>,
}

/// What changes.
pub struct State {
    words: [u64; 6],
    pub memory: Vec<u64>,
    /// Who took each word of the ring last.
    pub owners: Vec<Option<usize>>,
    pub writers: Vec<Writer>,
    pub under_way: Vec<usize>,
    interruptions: usize,
    jumps: usize,
    pub storms: usize,
    /// Jumps out of all writers, one at least of which had begun and not ended.
    pub left: u64,
    /// No position at or above was ever reserved.
    highest: u64,
    changed: bool,
    pub log: Vec<Change>,
}

/// A handler goes on at this level.
struct Jump(usize);

impl State {
    pub fn word(&self, word: Word) -> u64 {
        self.words[word as usize]
    }

    /// Whether these are the words of a record that its writer finished at this position.
    pub fn is_record(&self, position: u64, words: &[u64]) -> bool {
        let writer = self.writers.iter().position(|writer| writer.finished == Some(position));
        writer.is_some_and(|writer| {
            words[0] >> record::SITE_SHIFT == u64::from(site(writer))
                && payload(writer, self.writers[writer].words).eq(words[1..].iter().copied())
        })
    }
}

/// What a record has behind its head: no two words of all are the same.
pub fn payload(writer: usize, words: usize) -> impl Iterator<Item = u64> {
    (1..words as u64).map(move |at| (writer as u64 + 1) << 32 | at << 8 | 0x5a)
}

/// Which site a writer's record has.
pub fn site(writer: usize) -> u16 {
    u16::try_from(writer % 0xfff0).unwrap() + 1
}

impl<'a> World<'a> {
    /// The ring after what was written before.
    pub fn new(setting: &'a Setting, choices: &'a Choices) -> Self {
        let words = (setting.shape.size / 8) as usize;
        let mut state = State {
            words: [0; 6],
            memory: vec![0; words],
            owners: vec![None; words],
            writers: vec![],
            under_way: vec![],
            interruptions: 0,
            jumps: 0,
            storms: 0,
            left: 0,
            highest: setting.shape.base,
            changed: true,
            log: vec![],
        };
        state.words[Word::Reserve as usize] = setting.shape.base;
        state.words[Word::Commit as usize] = setting.shape.base;
        let world = Self { setting, choices, state: RefCell::new(state), checking: Cell::new(false) };
        for words in &setting.before {
            world.writer(*words);
        }
        let mut state = world.state.borrow_mut();
        (state.interruptions, state.jumps) = (setting.interruptions, setting.jumps);
        state.log.clear();
        drop(state);
        world.checking.set(true);
        world
    }

    /// The program, and what comes over it.
    pub fn run(&self) {
        for words in &self.setting.program {
            self.writer(*words);
        }
        checks::at_the_end(self);
    }

    /// One write by the code of whatever level runs, up to its end or until it was left and something else was written.
    pub fn writer(&self, words: usize) -> End {
        let (level, me) = {
            let mut state = self.state.borrow_mut();
            let (level, me) = (state.under_way.len(), state.writers.len());
            let outermost = state.under_way.first().copied().unwrap_or(me);
            state.writers.push(Writer {
                outermost,
                words,
                taken: None,
                finished: None,
                end: End::UnderWay,
                accesses: 0,
            });
            state.under_way.push(me);
            (level, me)
        };
        let sp = 0x7000_0000 - level as u64 * 0x1000;
        let wrote = catch_unwind(AssertUnwindSafe(|| {
            write(self, sp, site(me), words, |filler| payload(me, words).for_each(|word| filler.put(word)))
        }));
        let end = match &wrote {
            Ok(result) => End::Returned(*result),
            Err(_) => End::Left,
        };
        {
            let mut state = self.state.borrow_mut();
            state.under_way.truncate(level);
            state.writers[me].end = end;
            state.changed = true;
        }
        match wrote {
            Ok(_) => {
                if self.checking.get() {
                    checks::at_return(self, me);
                }
                end
            }
            Err(cause) => match cause.downcast::<Jump>() {
                Ok(jump) if jump.0 == level => self.writer(words),
                Ok(jump) => resume_unwind(jump),
                Err(cause) => resume_unwind(cause),
            },
        }
    }

    /// Where anything may happen: before each access.
    fn point(&self) {
        let (level, changed) = {
            let mut state = self.state.borrow_mut();
            let me = *state.under_way.last().unwrap();
            state.writers[me].accesses += 1;
            (state.under_way.len(), std::mem::take(&mut state.changed))
        };
        if !self.checking.get() {
            return;
        }
        if changed && self.choices.is_new() {
            checks::whoever_is_killed_now(self);
        }
        self.storm(level);
        if let Some(words) = self.setting.always.filter(|_| level == 1 && self.is_first()) {
            self.writer(words);
        }
        loop {
            let state = self.state.borrow();
            let handlers =
                if state.interruptions > 0 && level < self.setting.deep { self.setting.handlers } else { &[] };
            let jumps = if state.jumps > 0 && state.interruptions > 0 { level } else { 0 };
            drop(state);
            if handlers.is_empty() && jumps == 0 {
                return;
            }
            let choice = self.choices.choose(1 + handlers.len() + jumps);
            if choice == 0 {
                return;
            }
            self.state.borrow_mut().interruptions -= 1;
            match handlers.get(choice - 1) {
                Some(words) => {
                    self.writer(*words);
                }
                None => {
                    let to = choice - 1 - handlers.len();
                    let mut state = self.state.borrow_mut();
                    state.jumps -= 1;
                    state.left += u64::from(to == 0 && state.word(Word::Nest) != 0);
                    drop(state);
                    resume_unwind(Box::new(Jump(to)));
                }
            }
        }
    }

    /// Whether the outermost writer is the program's first.
    pub fn is_first(&self) -> bool {
        self.state.borrow().under_way.first() == Some(&self.setting.before.len())
    }

    /// The outermost writer at once, the others when there is hardly room left: then all who are under way have passed what
    /// keeps them from taking more.
    fn storm(&self, level: usize) {
        let mut state = self.state.borrow_mut();
        let now = state.writers[*state.under_way.last().unwrap()].accesses;
        let taken = state.word(Word::Reserve) - state.word(Word::Commit);
        let late = taken + 2 * 1024 + PAGE as u64 > self.setting.shape.size / 4 * 3;
        if self.setting.storm != Some(now) || state.storms != level - 1 || level > 1 && !late {
            return;
        }
        state.storms = level;
        drop(state);
        // Before it has begun, or when it has ended, nobody refuses.
        for _ in 0..2 * self.setting.shape.size / (record::LONGEST as u64 * 8) {
            if matches!(self.writer(record::LONGEST), End::Returned(Err(_))) {
                return;
            }
        }
    }

    fn take(&self, from: u64, to: u64) {
        let mut state = self.state.borrow_mut();
        let me = *state.under_way.last().unwrap();
        must(from >= state.highest, "I1: no position is reserved twice", self.choices);
        state.highest = to;
        state.writers[me].taken = Some(to);
        let shape = self.setting.shape;
        let to = if shape.mode == mode::OVERWRITE { to } else { to.min(shape.base + shape.size) };
        for position in (from..to.max(from)).step_by(8) {
            let cell = shape.cell(position);
            let open = state.owners[cell].is_some_and(|owner| {
                owner != me && state.writers[owner].end == End::UnderWay && state.writers[owner].finished.is_none()
            });
            must(!open, "I1: nobody takes a byte that a writer under way has reserved", self.choices);
            state.owners[cell] = Some(me);
        }
    }

    fn change(&self, change: Change) {
        let mut state = self.state.borrow_mut();
        match change {
            Change::Word(word, value) => state.words[word as usize] = value,
            Change::Cell(cell, value) => state.memory[cell] = value,
        }
        state.changed = true;
        state.log.push(change);
    }

    fn set(&self, word: Word, value: u64) {
        if word == Word::Commit && self.checking.get() {
            checks::before_commit(self, value);
        }
        self.change(Change::Word(word, value));
    }

    fn write_cell(&self, position: u64, value: u64) {
        let cell = self.setting.shape.cell(position);
        let state = self.state.borrow();
        let mine = state.owners[cell] == state.under_way.last().copied();
        drop(state);
        must(mine, "I1: nobody writes where it has not reserved", self.choices);
        self.change(Change::Cell(cell, value));
    }
}

impl Ring for World<'_> {
    fn load(&self, word: Word) -> u64 {
        self.point();
        self.state.borrow().word(word)
    }

    fn store(&self, word: Word, value: u64) {
        self.point();
        self.set(word, value);
    }

    fn add(&self, word: Word, value: u64) -> u64 {
        self.point();
        let old = self.state.borrow().word(word);
        if self.setting.add == Add::Twice {
            self.point();
        }
        if word == Word::Reserve {
            self.take(old, old + value);
        }
        self.set(word, old + value);
        old
    }

    fn publish(&self, word: Word, value: u64) {
        self.store(word, value);
    }

    fn taken(&self) {}

    fn put(&self, position: u64, value: u64) {
        let state = self.state.borrow();
        let writer = &state.writers[*state.under_way.last().unwrap()];
        let words_to_come = writer.taken.map_or(0, |end| end.saturating_sub(position) / 8);
        let alike = words_to_come > 1 && words_to_come + 2 < writer.words as u64;
        drop(state);
        // Between the second word and the last one it is always the same.
        if !alike {
            self.point();
        }
        self.write_cell(position, value);
    }

    fn finish(&self, position: u64, head: u64) {
        self.point();
        self.write_cell(position, head);
        if head >> record::SITE_SHIFT != 0 {
            checks::at_head(self, position, head);
            let mut state = self.state.borrow_mut();
            let me = *state.under_way.last().unwrap();
            state.writers[me].finished = Some(position);
        } else {
            // Words of nothing are nobody's from now on.
            let mut state = self.state.borrow_mut();
            for at in 0..reader::length(head, position).unwrap_or_default() as u64 {
                state.owners[self.setting.shape.cell(position + at * 8)] = None;
            }
        }
    }

    fn size(&self) -> u64 {
        self.setting.shape.size
    }

    fn mode(&self) -> u64 {
        self.setting.shape.mode
    }

    fn base(&self) -> u64 {
        self.setting.shape.base
    }

    fn is_left(&self, outer: u64, sp: u64) -> bool {
        sp >= outer
    }
}
