//! What was proven about the rows of a target.

use super::files::ProvenFile;
use super::{FileEvidence, correct};
use crate::analysis::CALLEE_SAVED;
use crate::kept::Kept;
use crate::proof::claim::{Cfa, Claim, Saved, dwarf, expression, registers_of};
use crate::proof::layout::Layout;
use crate::proof::{Proofs, Proved, Proven, Return, Source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use surestack_cfi::Row;
use surestack_walk::{CodeAddress, Module, RegisterSet, RowEvidence, RowProof, UnwindSections, X86_64};

/// What was proven about the modules of a target, by their start.
#[derive(Default)]
pub(super) struct Rows {
    known: RefCell<Kept<CodeAddress, RowEvidence>>,
    /// What is proven of their files, for those whose code is the file's.
    files: RefCell<HashMap<u64, Option<Rc<ProvenFile>>>>,
    modules: RefCell<HashMap<u64, ProvenModule>>,
    layouts: RefCell<HashMap<u64, Rc<Layout>>>,
}

/// A module and what was proven about its rows.
pub(super) struct ProvenModule {
    proofs: Proofs,
    functions: Kept<u64, Rc<[Instruction]>>,
    proven: usize,
}

/// An instruction and what was proven about its row. Linked address.
pub(super) struct Instruction {
    at: u64,
    end: u64,
    evidence: RowEvidence,
    /// The row that is right, where the frame or a register is contradicted and there is one that is proven.
    corrected: Option<Box<Claim>>,
}

/// The instructions were looked for, or at, and do not say.
const UNDECIDED: RowEvidence = RowEvidence { frame: RowProof::Undecided, ..RowEvidence::UNKNOWN };

impl FileEvidence<'_> {
    /// What the instructions say about the row at `pc`.
    pub(super) fn prove_row(&self, pc: CodeAddress) -> RowEvidence {
        let rows = &self.answers.rows;
        let find = || self.at_row(pc, |found| found.evidence).unwrap_or(UNDECIDED);
        *rows.known.borrow_mut().get_or_find(pc, find)
    }

    /// The row that is proven in place of the one at `pc`, where that is wrong.
    pub(crate) fn corrected_row(&self, pc: CodeAddress) -> Option<Row<'static>> {
        let claim = self.at_row(pc, |found| found.corrected.as_deref().copied())??;
        correct::row(&claim, pc)
    }

    /// Lends what was proven about the instruction at `pc`: from its file alone where that says all, or else with what is
    /// mapped here.
    fn at_row<T>(&self, pc: CodeAddress, look: impl Fn(&Instruction) -> T) -> Option<T> {
        let module = self.modules.find(pc.lookup())?;
        let linked = match pc {
            CodeAddress::Exact(address) => CodeAddress::Exact(address.wrapping_sub(module.bias)),
            CodeAddress::Return(address) => CodeAddress::Return(address.wrapping_sub(module.bias)),
        };
        if let Some(found) = self.file(&module).and_then(|file| file.at(linked, &look)) {
            return Some(found);
        }
        let layout = self.layout(&module);
        let mut modules = self.answers.rows.modules.borrow_mut();
        let known = modules.entry(module.start).or_insert_with(|| ProvenModule::new(layout));
        let resolves = |start: u64| self.is_any_resolver(start.wrapping_add(module.bias));
        let through = |slot: u64| self.call_through(slot.wrapping_add(module.bias));
        known.at(&Source { resolves: &resolves, ..self.source(&module, &through) }, linked, look)
    }

    /// What is proven of a module's file, if that is what is mapped.
    fn file(&self, module: &Module<'_>) -> Option<Rc<ProvenFile>> {
        let mut files = self.answers.rows.files.borrow_mut();
        files.entry(module.start).or_insert_with(|| self.proven_file(module)).clone()
    }

    /// A module's functions.
    pub(super) fn layout(&self, module: &Module<'_>) -> Rc<Layout> {
        let mut layouts = self.answers.rows.layouts.borrow_mut();
        let find = || match self.file(module) {
            Some(file) => file.layout(),
            None => Rc::new(Layout::new(&self.source(module, &|_| Return::Unknown))),
        };
        Rc::clone(layouts.entry(module.start).or_insert_with(find))
    }

    /// A module as it is mapped, with what is known of calls through its words.
    pub(super) fn source<'m>(&'m self, module: &Module<'m>, through: &'m dyn Fn(u64) -> Return) -> Source<'m> {
        let unwind = eh_frame_only(module.unwind);
        Source { memory: &self.code, bias: module.bias, unwind, through, resolves: &|_| false }
    }
}

/// Code with nothing but `.debug_frame` need not keep to the ABI on which proofs rest: Go's keeps no registers.
pub(super) fn eh_frame_only(unwind: UnwindSections<'_>) -> UnwindSections<'_> {
    UnwindSections { debug_frame: None, debug_frame_hdr: None, ..unwind }
}

impl ProvenModule {
    /// A module of which nothing is proven yet.
    pub(super) fn new(layout: Rc<Layout>) -> Self {
        Self { proofs: Proofs::new(layout), functions: Kept::default(), proven: 0 }
    }

    /// Its functions.
    pub(super) fn layout(&self) -> Rc<Layout> {
        Rc::clone(&self.proofs.layout)
    }

    /// How many functions were proven.
    pub(super) fn proven(&self) -> usize {
        self.proven
    }

    /// Lends what was proven about the instruction at a linked address.
    pub(super) fn at<T>(
        &mut self,
        source: &Source<'_>,
        pc: CodeAddress,
        look: impl FnOnce(&Instruction) -> T,
    ) -> Option<T> {
        let Self { proofs, functions, proven, .. } = self;
        let index = proofs.layout.function(pc.lookup())?;
        let start = proofs.layout.functions().get(index)?.start;
        let function = functions.get_or_find(start, || {
            *proven = proven.saturating_add(1);
            prove(proofs, source, index)
        });
        let after = function.partition_point(|found| found.at <= pc.lookup());
        let found = function.get(after.checked_sub(1)?)?;
        // An address in the middle of an instruction is none that was looked at.
        let fits = match pc {
            CodeAddress::Exact(address) => found.at == address,
            CodeAddress::Return(address) => found.end == address,
        };
        fits.then(|| look(found))
    }
}

impl Instruction {
    /// Whether everything about its row is decided.
    pub(super) fn is_whole(&self) -> bool {
        match self.evidence.frame {
            RowProof::Proven => {
                let known = self.evidence.saved.and(self.evidence.kept);
                CALLEE_SAVED.iter().all(|number| with(known, *number) == known)
            }
            RowProof::Contradicted => self.corrected.is_some(),
            RowProof::Overwritten | RowProof::Assumed | RowProof::Undecided | RowProof::Unknown => false,
        }
    }
}

/// The instructions of one function.
fn prove(proofs: &Proofs, source: &Source<'_>, index: usize) -> Rc<[Instruction]> {
    let Some(function) = proofs.layout.functions().get(index).copied() else { return Rc::default() };
    let Proved { code, proven, mut corrections } = proofs.prove(source, index);
    let steps = code.steps.iter().zip(proven).filter(|(step, _)| function.holds(step.at));
    let instruction = |(step, proven): (&crate::proof::code::Step, Proven)| {
        let corrected = corrections.remove(&step.at).map(Box::new);
        let claim = usize::try_from(step.claim).ok().and_then(|claim| code.claims.get(claim));
        let evidence = match &corrected {
            Some(claim) if proven.frame == RowProof::Contradicted => correct::evidence(source, proven, claim),
            _ => evidence(source, proven, claim),
        };
        Instruction { at: step.at, end: step.end(), evidence, corrected }
    };
    steps.map(instruction).collect()
}

pub(super) fn evidence(source: &Source<'_>, proven: Proven, claim: Option<&Claim>) -> RowEvidence {
    RowEvidence {
        frame: proven.frame,
        reads: claim.map_or(RegisterSet::EMPTY, |claim| reads(source, claim)),
        saved: registers(proven.saved),
        kept: registers(proven.kept),
        wrong: registers(proven.wrong),
    }
}

/// The registers of a set of bits in the order of [`CALLEE_SAVED`].
fn registers(bits: u8) -> RegisterSet {
    let set = CALLEE_SAVED.iter().zip([1, 2, 4, 8, 16, 32]).filter(|(_, bit)| bits & bit != 0);
    set.fold(RegisterSet::EMPTY, |set, (number, _)| with(set, *number))
}

fn with(set: RegisterSet, number: u8) -> RegisterSet {
    X86_64.register(dwarf(number).0).map_or(set, |register| set.with(register))
}

/// The registers from which a row computes the frame and the return address. An expression may read any.
fn reads(source: &Source<'_>, claim: &Claim) -> RegisterSet {
    let all = || (0..16).fold(RegisterSet::EMPTY, with);
    let frame = match claim.cfa {
        Cfa::Register(number, _) => with(RegisterSet::EMPTY, number),
        Cfa::Expression(at) => match expression(source, at).map(registers_of) {
            Some(numbers) => numbers.into_iter().fold(RegisterSet::EMPTY, with),
            None => all(),
        },
        Cfa::Strange => all(),
    };
    match claim.return_address {
        Saved::In(number) => with(frame, number),
        Saved::AtExpression(_) | Saved::Expression(_) => all(),
        _ => frame,
    }
}
