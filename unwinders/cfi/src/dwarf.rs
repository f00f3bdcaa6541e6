//! Rows from `.eh_frame` and `.debug_frame`, without allocation.
//!
//! ```text
//!   search table ──► Function ──► Compact ──► Row        our own reader
//!                        └─ Unusual, .debug_frame, no search table ──► gimli
//! ```

use crate::reference::Search;
use crate::{
    CfaRule, Compact, CompactCfa, CompactExpression, CompactRule, Entry, Expression, Function, Header, Lookup, Origin,
    Row, Rows, Rule, Rules, Unusual,
};
use surestack_walk::{Arch, Code, CodeAddress, Error, Module, Root, RowSource, Section, Target, Why};

/// Rows of the modules' own unwind sections: `.eh_frame` first, `.debug_frame` where that has nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct DwarfRows;

impl Rows for DwarfRows {
    fn row<T>(
        &self,
        target: &Target<'_>,
        pc: CodeAddress,
        look: impl FnOnce(&Row<'_>) -> T,
    ) -> Result<Lookup<T>, Error> {
        let Some(module) = target.modules.find(pc.lookup()) else {
            return Ok(Lookup::Missing(Why::NoModule));
        };
        let search = Search { module, arch: target.arch, pc: pc.lookup() };
        let row = match Decoded::find(&module, pc.lookup()).and_then(|found| match found {
            Some(found) => found.row(target.arch, module.bias).map(Some),
            None => Ok(None),
        }) {
            Ok(Some(row)) => Some(row),
            Ok(None) => search.in_debug_frame()?,
            Err(Unusual) => search.any_row()?,
        };
        Ok(lend(row, target, &module, look))
    }
}

/// Lends `row`, or says why there is none.
pub(crate) fn lend<T>(
    row: Option<Row<'_>>,
    target: &Target<'_>,
    module: &Module<'_>,
    look: impl FnOnce(&Row<'_>) -> T,
) -> Lookup<T> {
    match row {
        Some(mut row) => {
            // Its own entry does not say so in glibc, and what it gives for a caller is rubbish.
            if starts_context(target, row.function.0) {
                row.entry = Entry::Outermost(Root::ContextEntry);
            }
            Lookup::Row(look(&row))
        }
        None if module.unwind.eh_frame.is_none() && module.unwind.debug_frame.is_none() => {
            Lookup::Missing(Why::NoTable)
        }
        None => Lookup::Missing(Why::NoRow),
    }
}

/// Whether the code at `function` is what the first function of a `makecontext` stack returns to.
fn starts_context(target: &Target<'_>, function: u64) -> bool {
    Code::at(target.memory, function).starts_with_any(target.arch.context_entries.iter().copied())
}

/// A row by our own reader.
struct Decoded<'m> {
    section: Section<'m>,
    function: Function<'m>,
    row: Compact,
}

impl<'m> Decoded<'m> {
    /// The row for the target's address `pc` in `.eh_frame`, `None` when no entry covers it.
    #[inline]
    fn find(module: &Module<'m>, pc: u64) -> Result<Option<Self>, Unusual> {
        let Some(section) = module.unwind.eh_frame else { return Ok(None) };
        let header = module.unwind.eh_frame_hdr.and_then(Header::parse).ok_or(Unusual)?;
        let linked = pc.wrapping_sub(module.bias);
        let Some(fde) = header.lookup(linked) else { return Ok(None) };
        let function = Function::at(section, fde)?;
        Ok(function.row_at(linked)?.map(|row| Self { section, function, row }))
    }

    /// The same with the target's addresses and registers.
    #[inline]
    fn row(&self, arch: &Arch, bias: u64) -> Result<Row<'m>, Unusual> {
        let here = |linked: u64| linked.wrapping_add(bias);
        let register = |number: u8| arch.register(u16::from(number)).ok_or(Unusual);
        let mut rules = Rules::default();
        for (number, rule) in self.row.rules() {
            let rule = match rule {
                CompactRule::Undefined => Rule::Undefined,
                CompactRule::SameValue => Rule::SameValue,
                CompactRule::Offset(offset) => Rule::Offset(i64::from(offset)),
                CompactRule::ValOffset(offset) => Rule::ValOffset(i64::from(offset)),
                CompactRule::Register(other) => Rule::Register(register(other)?),
                CompactRule::Expression(bytes) => Rule::Expression(bytes.into()),
                CompactRule::ValExpression(bytes) => Rule::ValExpression(bytes.into()),
            };
            if !rules.set(register(number)?, rule) {
                return Err(Unusual);
            }
        }
        Ok(Row {
            start: here(self.row.start),
            end: here(self.row.end),
            function: (here(self.function.start), here(self.function.end)),
            origin: Origin::Cfi(RowSource::EhFrame),
            entry: if self.function.is_signal_frame { Entry::Signal } else { Entry::Called },
            cfa: match self.row.cfa {
                CompactCfa::Register(number, offset) => CfaRule::Register(register(number)?, i64::from(offset)),
                CompactCfa::Expression(bytes) => CfaRule::Expression(bytes.into()),
            },
            return_register: register(self.function.return_register)?,
            rules,
            expressions: self.section.bytes,
        })
    }
}

impl From<CompactExpression> for Expression {
    fn from(bytes: CompactExpression) -> Self {
        Self { offset: bytes.offset, length: u32::from(bytes.length) }
    }
}
