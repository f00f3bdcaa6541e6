//! Rows remembered, and rows from the instructions where there is no unwind information.

use crate::analysis::entries::Entries;
use crate::analysis::{Reached, Text, outermost, row};
use crate::image::Image;
use crate::kept::{Kept, Multiply};
use crate::snapshot::{AddressSpace, Identity};
use crate::thread_start::is_outermost;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use surestack_cfi::{CfaRule, DwarfRows, Lookup, Origin, Row, Rows, Rule};
use surestack_walk::{CodeAddress, Error, Mapping, Root, RowSource, Section, Target, Why, X86_64};

/// Rows remembered. Equal frames cost one look-up in a hash table.
#[derive(Default)]
pub struct CachedRows<R> {
    source: R,
    known: RefCell<Kept<CodeAddress, Known>>,
    /// Those of code that belongs to no file: it may be other code once the target ran on.
    passing: RefCell<Kept<CodeAddress, Known>>,
}

/// What was found out about a pc.
enum Known {
    /// Its row.
    Row(Box<Row<'static>>),
    /// Its row, without the bytes that expressions in it point into: those belong to the module.
    Expressions(Box<Row<'static>>),
    Missing(Why),
    Broken(Error),
}

impl Known {
    fn of(row: &Row<'_>) -> Self {
        let has_expressions = matches!(row.cfa, CfaRule::Expression(_))
            || row.rules.iter().any(|(_, rule)| matches!(rule, Rule::Expression(_) | Rule::ValExpression(_)));
        let kept = Box::new(Row { expressions: &[], ..*row });
        if has_expressions { Self::Expressions(kept) } else { Self::Row(kept) }
    }
}

impl<R> CachedRows<R> {
    /// Where rows come from when they are not known yet.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// Forgets what a target that ran may have changed without mapping anything.
    pub fn ran_on(&self) {
        self.passing.borrow_mut().clear();
    }
}

impl<R: Rows> Rows for CachedRows<R> {
    fn row<T>(
        &self,
        target: &Target<'_>,
        pc: CodeAddress,
        look: impl FnOnce(&Row<'_>) -> T,
    ) -> Result<Lookup<T>, Error> {
        let lasting = self.known.borrow().get(&pc).is_some() || target.modules.find(pc.lookup()).is_some();
        let mut known = if lasting { self.known.borrow_mut() } else { self.passing.borrow_mut() };
        let known = known.get_or_find(pc, || match self.source.row(target, pc, Known::of) {
            Ok(Lookup::Row(row)) => row,
            Ok(Lookup::Missing(why)) => Known::Missing(why),
            Err(error) => Known::Broken(error),
        });
        match known {
            Known::Row(row) => Ok(Lookup::Row(look(row))),
            Known::Expressions(row) => {
                let expressions = section(target, pc, row.origin);
                Ok(Lookup::Row(look(&Row { expressions, ..**row })))
            }
            Known::Missing(why) => Ok(Lookup::Missing(*why)),
            Known::Broken(error) => Err(*error),
        }
    }
}

/// Rows from the instructions of x86_64 code that has no unwind information.
#[derive(Default)]
pub struct AnalysedRows {
    /// What the entries of each module reach, by the module's start.
    reached: RefCell<HashMap<u64, Reached, BuildHasherDefault<Multiply>>>,
    /// Files with the symbols of each module, by the module's start.
    files: RefCell<HashMap<u64, Vec<Arc<Image>>, BuildHasherDefault<Multiply>>>,
}

impl Rows for AnalysedRows {
    fn row<T>(
        &self,
        target: &Target<'_>,
        pc: CodeAddress,
        look: impl FnOnce(&Row<'_>) -> T,
    ) -> Result<Lookup<T>, Error> {
        Ok(match self.analysed(target, pc) {
            Ok(row) => Lookup::Row(look(&row)),
            Err(why) => Lookup::Missing(why),
        })
    }
}

impl AnalysedRows {
    /// Makes the symbol tables of a target's modules known; they are not looked into before they are needed.
    pub fn learn(&self, space: &AddressSpace) {
        let mut files = self.files.borrow_mut();
        for module in space.modules.iter().filter(|module| module.identity != Identity::Unchecked) {
            let images = [&module.image, &module.debug].into_iter().flatten().cloned();
            files.entry(module.start).or_insert_with(|| images.collect());
        }
    }

    fn analysed(&self, target: &Target<'_>, pc: CodeAddress) -> Result<Row<'static>, Why> {
        if target.arch.machine != X86_64.machine {
            return Err(Why::Undecided);
        }
        if matches!(target.modules.mapping(pc.lookup()), Mapping::Data | Mapping::Nothing) {
            return Err(Why::NoText);
        }
        if !pc.is_exact() && target.follows_call(pc.value()) != Some(true) {
            return Err(Why::NotAfterCall);
        }
        let text = Text::new(target.memory);
        if let CodeAddress::Return(address) = pc
            && is_outermost(&text, address)
        {
            return Ok(outermost(pc, Root::UndefinedReturn));
        }
        let Some(module) = target.modules.find(pc.lookup()) else {
            return row(&text, pc, &Reached::default());
        };
        let mut reached = self.reached.borrow_mut();
        let reached = reached.entry(module.start).or_insert_with(|| {
            let files = self.files.borrow();
            let files = files.get(&module.start).map(Vec::as_slice).unwrap_or_default();
            let entries = Entries::of_module(target.memory, module.start, module.bias).with_symbols(files, module.bias);
            let inside = module.start..module.end;
            let uncovered = |at: u64| {
                let row = || DwarfRows.row(target, CodeAddress::Exact(at), |_| ());
                inside.contains(&at) && matches!(row(), Ok(Lookup::Missing(_)))
            };
            Reached::new(&text, &entries, &uncovered)
        });
        row(&text, pc, reached)
    }
}

/// The bytes that the expressions of a row for `pc` point into.
fn section<'t>(target: &'t Target<'_>, pc: CodeAddress, origin: Origin) -> &'t [u8] {
    let Some(module) = target.modules.find(pc.lookup()) else { return &[] };
    let section: Option<Section<'t>> = match origin {
        Origin::Cfi(RowSource::EhFrame) => module.unwind.eh_frame,
        Origin::Cfi(RowSource::DebugFrame) => module.unwind.debug_frame,
        Origin::Cfi(RowSource::Table) | Origin::Analysed(_) => None,
    };
    section.map_or(&[], |section| section.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::MOST;
    use std::cell::Cell;
    use surestack_walk::{Bytes, Error, NoEvidence, NoModules, Registry, Stack, Stop};

    /// Knows no code, and counts how often it was asked.
    #[derive(Default)]
    struct Nowhere(Cell<usize>);

    impl Rows for Nowhere {
        fn row<T>(
            &self,
            _target: &Target<'_>,
            pc: CodeAddress,
            _look: impl FnOnce(&Row<'_>) -> T,
        ) -> Result<Lookup<T>, Error> {
            self.0.set(self.0.get() + 1);
            Err(Error::UnknownCode { pc: pc.value() })
        }
    }

    #[test]
    fn all_rows_that_are_remembered_fit_seven_megabytes() {
        assert!(size_of::<Row<'_>>() * MOST <= 7 << 20, "a row has {} bytes", size_of::<Row<'_>>());
    }

    #[test]
    fn a_forged_stack_of_ever_new_addresses_does_not_fill_the_memory() {
        let no_stacks: [Stack; 0] = [];
        let target = Target {
            arch: &X86_64,
            memory: &Bytes { address: 0, bytes: &[] },
            modules: &NoModules,
            stacks: &no_stacks,
            registry: &Registry::default(),
            evidence: &NoEvidence,
            stop: Stop::default(),
        };
        let rows = CachedRows::<Nowhere>::default();
        for pc in 0..20 * MOST as u64 {
            let answer = rows.row(&target, CodeAddress::Return(pc), |_| ());
            assert!(matches!(answer, Err(Error::UnknownCode { pc: refused }) if refused == pc));
            assert!(rows.passing.borrow().len() <= MOST);
        }
        assert_eq!(rows.source.0.get(), 20 * MOST);
    }
}
