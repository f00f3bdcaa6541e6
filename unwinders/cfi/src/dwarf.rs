//! Rows from `.eh_frame` and `.debug_frame`, without allocation.
//!
//! ```text
//!   search table ──► Function ──► Compact ──► Row        our own reader
//!                        └─ Unusual, .debug_frame, no search table ──► gimli
//! ```

use crate::reference::Search;
use crate::{
    CfaRule, CompactCfa, CompactExpression, CompactRule, Entry, Expression, Function, Header, Lookup, Origin, Row,
    Rows, Rule, Unusual,
};
use surestack_walk::{Code, CodeAddress, Error, Module, Root, RowSource, Target, Why};

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
        let mut row = Row::EMPTY;
        let other = match decode(&search, &mut row) {
            Ok(true) => return Ok(Lookup::Row(lend(&mut row, target, look))),
            Ok(false) => search.in_debug_frame()?,
            Err(Unusual) => search.any_row()?,
        };
        Ok(match other {
            Some(mut row) => Lookup::Row(lend(&mut row, target, look)),
            None => Lookup::Missing(missing(&module)),
        })
    }
}

/// Lends a row that was found.
#[inline]
pub(crate) fn lend<T>(row: &mut Row<'_>, target: &Target<'_>, look: impl FnOnce(&Row<'_>) -> T) -> T {
    // What the first function of a `makecontext` stack returns to. Its own entry does not say so in glibc, and what it
    // gives for a caller is rubbish.
    if Code::at(target.memory, row.function.0).starts_with_any(target.arch.context_entries.iter().copied()) {
        row.entry = Entry::Outermost(Root::ContextEntry);
    }
    look(row)
}

/// Why there is no row.
pub(crate) fn missing(module: &Module<'_>) -> Why {
    if module.unwind.eh_frame.is_none() && module.unwind.debug_frame.is_none() { Why::NoTable } else { Why::NoRow }
}

/// Writes the row in force into `row` as our own reader finds it in `.eh_frame`; false when no entry covers the pc.
fn decode<'m>(search: &Search<'_, 'm>, row: &mut Row<'m>) -> Result<bool, Unusual> {
    let (bias, unwind) = (search.module.bias, &search.module.unwind);
    let Some(section) = unwind.eh_frame else { return Ok(false) };
    let header = unwind.eh_frame_hdr.and_then(Header::parse).ok_or(Unusual)?;
    let linked = search.pc.wrapping_sub(bias);
    let Some(fde) = header.lookup(linked) else { return Ok(false) };
    let function = Function::at(section, fde)?;
    let Some(found) = function.row_at(linked)? else { return Ok(false) };

    let here = |linked: u64| linked.wrapping_add(bias);
    let register = |number: u8| search.arch.register(u16::from(number)).ok_or(Unusual);
    row.start = here(found.start);
    row.end = here(found.end);
    row.function = (here(function.start), here(function.end));
    row.origin = Origin::Cfi(RowSource::EhFrame);
    row.entry = if function.is_signal_frame { Entry::Signal } else { Entry::Called };
    row.cfa = match found.cfa {
        CompactCfa::Register(number, offset) => CfaRule::Register(register(number)?, i64::from(offset)),
        CompactCfa::Expression(bytes) => CfaRule::Expression(bytes.into()),
    };
    row.return_register = register(function.return_register)?;
    row.expressions = section.bytes;
    for (number, rule) in found.rules() {
        let rule = match rule {
            CompactRule::Undefined => Rule::Undefined,
            CompactRule::SameValue => Rule::SameValue,
            CompactRule::Offset(offset) => Rule::Offset(i64::from(offset)),
            CompactRule::ValOffset(offset) => Rule::ValOffset(i64::from(offset)),
            CompactRule::Register(other) => Rule::Register(register(other)?),
            CompactRule::Expression(bytes) => Rule::Expression(bytes.into()),
            CompactRule::ValExpression(bytes) => Rule::ValExpression(bytes.into()),
        };
        if !row.rules.add(register(number)?, rule) {
            return Err(Unusual);
        }
    }
    Ok(true)
}

impl From<CompactExpression> for Expression {
    fn from(bytes: CompactExpression) -> Self {
        Self { offset: bytes.offset, length: u32::from(bytes.length) }
    }
}
