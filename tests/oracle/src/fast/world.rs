//! A traced process as the fast path sees it, with its contract looked after.

use std::cell::{Cell, RefCell};
use surestack::snapshot::AddressSpace;
use surestack_fast::{Evaluated, Packed, Ruled, Rules, Table, Words};
use surestack_walk::{CodeAddress, Mapping, Memory, Module, Modules, ProbePage, Stack, Stacks, Target};

/// Modules of a process that is stopped for a moment: its count of changes goes on.
pub struct Changing<'s> {
    /// What is mapped now.
    pub space: &'s AddressSpace,
    /// Twice how often that was something else.
    pub count: u64,
}

impl Modules for Changing<'_> {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        Modules::find(self.space, address)
    }

    fn mapping(&self, address: u64) -> Mapping {
        self.space.mapping(address)
    }

    fn probe(&self, address: u64) -> Option<ProbePage> {
        self.space.probe(address)
    }

    fn generation(&self) -> Option<u64> {
        Some(self.count)
    }
}

/// Stacks, and which of them were named from where.
pub struct Checked<'s> {
    space: &'s AddressSpace,
    first: u64,
    named: RefCell<Vec<(u64, Stack)>>,
}

impl<'s> Checked<'s> {
    /// Of a thread that begins at this stack pointer.
    pub fn new(space: &'s AddressSpace, first: u64) -> Self {
        Self { space, first, named: RefCell::default() }
    }

    /// Words of them.
    pub fn words<'w>(&'w self, memory: &'w dyn Memory, asked: &'w Cell<Asked>) -> CheckedWords<'w> {
        CheckedWords { stacks: self, memory, asked }
    }
}

impl Stacks for Checked<'_> {
    fn find(&self, address: u64) -> Option<Stack> {
        let stack = Stacks::find(self.space, address)?;
        let mut named = self.named.borrow_mut();
        if !named.contains(&(address, stack)) {
            named.push((address, stack));
        }
        Some(stack)
    }
}

/// How many words were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// All of them.
    pub all: u64,
    /// Those on no stack that was named, below the stack pointer from which it was, below the first one, or not aligned.
    pub wrong: u64,
}

impl Asked {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.all += other.all;
        self.wrong += other.wrong;
    }
}

/// Words of stacks that were named.
pub struct CheckedWords<'w> {
    stacks: &'w Checked<'w>,
    memory: &'w dyn Memory,
    asked: &'w Cell<Asked>,
}

impl Words for CheckedWords<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let named = self.stacks.named.borrow();
        let first = self.stacks.first;
        let holds = |(sp, stack): &(u64, Stack)| {
            let from = if stack.low <= first && first <= stack.high { first.max(*sp) } else { *sp };
            from <= address && stack.holds(address, 8)
        };
        let is_right = address.is_multiple_of(8) && named.iter().any(holds);
        self.asked.set(Asked { all: self.asked.get().all + 1, wrong: self.asked.get().wrong + u64::from(!is_right) });
        self.memory.word(address).ok()
    }
}

/// Rules of the modules' tables, as a thread of our own asks them.
pub struct Tabled<'t> {
    tables: &'t [Option<&'static Table<'static>>],
    /// How many rules were asked for.
    pub missed: Cell<u64>,
    /// How many of them a table had.
    pub from_table: Cell<u64>,
}

impl<'t> Tabled<'t> {
    /// By the modules' positions.
    pub fn new(tables: &'t [Option<&'static Table<'static>>]) -> Self {
        Self { tables, missed: Cell::new(0), from_table: Cell::new(0) }
    }
}

impl Rules for &Tabled<'_> {
    fn rule(&self, target: &Target<'_>, pc: CodeAddress) -> Option<Packed> {
        self.missed.set(self.missed.get() + 1);
        if let Some(module) = target.modules.find(pc.lookup())
            && let Some(table) = self.tables.get(module.index).copied().flatten()
        {
            let may_go_there = || target.modules.mapping(pc.value()) == Mapping::Code;
            match table.look_up(pc.lookup().wrapping_sub(module.bias)) {
                Ruled::Rule(rule) if pc.is_exact() || may_go_there() => {
                    self.from_table.set(self.from_table.get() + 1);
                    return Some(rule);
                }
                Ruled::Rule(_) | Ruled::Ask => {}
                Ruled::Nothing => return None,
            }
        }
        Evaluated.rule(target, pc)
    }
}
