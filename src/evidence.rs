//! Evidence for the judge, from the target's instructions.

mod call_site;
mod frame;
mod reach;
mod root;
mod row;

use crate::analysis::Text;
use crate::kept::Kept;
use crate::snapshot::Snapshot;
use crate::snapshot::initial_stack::initial_sp;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use surestack_cfi::{DwarfRows, Lookup, Row, Rows};
use surestack_walk::{
    Arch, CodeAddress, Evidence, Memory, Modules, NoEvidence, Proof, Registry, Regs, Root, RowEvidence, Stack, Stacks,
    Stop, Target, Witness, X86_64,
};

const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
/// Offset of `e_entry` in the header of a 64-bit ELF file.
const E_ENTRY: u64 = 24;

/// Answers that stay true as long as nothing is mapped anew; shared by all evidence about one target.
#[derive(Default)]
pub struct Answers {
    calls: RefCell<Kept<(u64, CodeAddress), Witness>>,
    initial_sp: OnceCell<Option<u64>>,
    /// By function, the instructions at which its rows describe another frame.
    moved: RefCell<Kept<u64, Vec<u64>>>,
    rows: row::Rows,
}

/// What the code of one target says about calls and roots. Answers are kept.
pub struct FileEvidence<'s> {
    arch: &'static Arch,
    memory: &'s dyn Memory,
    modules: &'s dyn Modules,
    stacks: &'s dyn Stacks,
    registry: Registry<'static>,
    starts: Vec<u64>,
    initial_sp: Option<u64>,
    answers: Rc<Answers>,
}

impl<'s> FileEvidence<'s> {
    /// Evidence from a snapshot, adding to `answers` about it.
    pub fn new(snapshot: &'s Snapshot, answers: Rc<Answers>) -> Self {
        let memory = &*snapshot.memory;
        let interpreter = snapshot.process.aux(AT_BASE).filter(|base| *base != 0);
        let loader =
            interpreter.and_then(|base| Some(memory.word(base.checked_add(E_ENTRY)?).ok()?.wrapping_add(base)));
        let starts = snapshot.process.aux(AT_ENTRY).into_iter().chain(loader).collect();
        let initial_sp = *answers.initial_sp.get_or_init(|| initial_sp(snapshot));
        let evidence = Self::of(snapshot.arch, memory, &snapshot.space, &snapshot.space);
        Self { answers, ..evidence.starts(starts).initial_stack(initial_sp) }
    }

    /// Evidence from a target's memory, code and stacks.
    pub fn of(arch: &'static Arch, memory: &'s dyn Memory, modules: &'s dyn Modules, stacks: &'s dyn Stacks) -> Self {
        let registry = Registry::default();
        let answers = Rc::default();
        Self { arch, memory, modules, stacks, registry, starts: Vec::new(), initial_sp: None, answers }
    }

    /// Makes known where the program and its interpreter begin.
    #[must_use]
    pub fn starts(mut self, starts: Vec<u64>) -> Self {
        self.starts = starts;
        self
    }

    /// Makes known the stack pointer with which the kernel started the program.
    #[must_use]
    pub fn initial_stack(mut self, sp: Option<u64>) -> Self {
        self.initial_sp = sp;
        self
    }

    /// The target's code.
    fn text(&self) -> Text<'s> {
        Text::new(self.memory)
    }

    /// Lends what unwind information says at `address`; `None` when it says nothing.
    fn with_row<T>(&self, address: u64, look: impl FnOnce(&Row<'_>) -> T) -> Option<T> {
        let target = Target {
            arch: self.arch,
            memory: self.memory,
            modules: self.modules,
            stacks: self.stacks,
            registry: &self.registry,
            evidence: &NoEvidence,
            stop: Stop::default(),
        };
        match DwarfRows.row(&target, CodeAddress::Exact(address), look) {
            Ok(Lookup::Row(seen)) => Some(seen),
            Ok(Lookup::Missing(_)) | Err(_) => None,
        }
    }

    /// The function that covers `address`, as unwind information delimits it.
    fn function(&self, address: u64) -> Option<(u64, u64)> {
        self.with_row(address, |row| row.function)
    }

    /// The writable mapping that holds `address`.
    fn writable(&self, address: u64) -> Option<Stack> {
        self.stacks.find(address).filter(|stack| stack.holds(address, 1))
    }
}

impl Evidence for FileEvidence<'_> {
    fn call(&self, return_address: u64, callee: CodeAddress) -> Witness {
        let mut known = self.answers.calls.borrow_mut();
        *known.get_or_find((return_address, callee), || self.witness(return_address, callee))
    }

    fn frame(&self, pc: CodeAddress) -> Proof {
        if self.arch.machine == X86_64.machine { self.keeps_frame(pc) } else { Proof::Unknown }
    }

    fn row(&self, pc: CodeAddress) -> RowEvidence {
        if self.arch.machine == X86_64.machine { self.prove_row(pc) } else { RowEvidence::UNKNOWN }
    }

    fn text(&self, _pc: CodeAddress) -> Proof {
        Proof::Unknown
    }

    fn root(&self, root: Root, regs: &Regs) -> Proof {
        if self.arch.machine != X86_64.machine {
            return Proof::Unknown;
        }
        self.prove(root, regs).unwrap_or(Proof::Unknown)
    }
}
