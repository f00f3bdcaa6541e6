//! Rows read by gimli: those that our own reader leaves to it, and all of them for whoever holds ours against it.

use crate::dwarf::{lend, missing};
use crate::{CfaRule, Entry, Expression, Header, Lookup, Origin, Row, Rows, Rule, Rules};
use gimli::{BaseAddresses, CieOrFde, EndianSlice, LittleEndian, UnwindContextStorage, UnwindOffset, UnwindSection};
use surestack_walk::{Arch, CfiFault, CodeAddress, Error, Module, Register, RowSource, Section, Target, Why};

type Reader<'a> = EndianSlice<'a, LittleEndian>;
type Fde<'a> = gimli::FrameDescriptionEntry<Reader<'a>>;

/// Room for one evaluation: the rules of one row, and the rows that `DW_CFA_remember_state` stacks.
struct Storage;

/// `DW_CFA_remember_state` deeper than this is not seen in the wild (gcc and clang nest once, hand-written code twice).
const REMEMBERED: usize = 6;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(gimli::Register, gimli::RegisterRule<usize>); Rules::MOST];
    type Stack = [gimli::UnwindTableRow<usize, Self>; REMEMBERED];
}

type UnwindContext = gimli::UnwindContext<usize, Storage>;

/// The rows of [`DwarfRows`](crate::DwarfRows), each read by gimli: slower, and the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceRows;

impl Rows for ReferenceRows {
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
        Ok(match search.any_row()? {
            Some(mut row) => Lookup::Row(lend(&mut row, target, look)),
            None => Lookup::Missing(missing(&module)),
        })
    }
}

fn vendor(arch: &Arch) -> gimli::Vendor {
    let signs = arch.register(gimli::AArch64::RA_SIGN_STATE.0) == Some(Register::RA_SIGN_STATE);
    if signs { gimli::Vendor::AArch64 } else { gimli::Vendor::Default }
}

/// One look-up of an address in one module.
pub(crate) struct Search<'t, 'm> {
    pub module: Module<'m>,
    pub arch: &'t Arch,
    /// The target's address to look up.
    pub pc: u64,
}

impl<'m> Search<'_, 'm> {
    /// The row for the pc in `.eh_frame`, else in `.debug_frame`; `None` when neither covers it.
    pub fn any_row(&self) -> Result<Option<Row<'m>>, Error> {
        let unwind = &self.module.unwind;
        if let Some(section) = unwind.eh_frame {
            let mut eh_frame = gimli::EhFrame::new(section.bytes, LittleEndian);
            eh_frame.set_address_size(8);
            eh_frame.set_vendor(vendor(self.arch));
            if let Some(row) = self.row(&eh_frame, section, unwind.eh_frame_hdr, RowSource::EhFrame)? {
                return Ok(Some(row));
            }
        }
        self.in_debug_frame()
    }

    /// The row for the pc in `.debug_frame`.
    pub fn in_debug_frame(&self) -> Result<Option<Row<'m>>, Error> {
        let unwind = &self.module.unwind;
        let Some(section) = unwind.debug_frame else { return Ok(None) };
        let mut debug_frame = gimli::DebugFrame::new(section.bytes, LittleEndian);
        debug_frame.set_address_size(8);
        debug_frame.set_vendor(vendor(self.arch));
        self.row(&debug_frame, section, unwind.debug_frame_hdr, RowSource::DebugFrame)
    }

    /// The row for the pc in `section`, `None` when no entry covers it.
    fn row<S>(
        &self,
        section: &S,
        bytes: Section<'m>,
        index: Option<Section<'m>>,
        source: RowSource,
    ) -> Result<Option<Row<'m>>, Error>
    where
        S: UnwindSection<Reader<'m>>,
        S::Offset: UnwindOffset<usize>,
    {
        let bases = self.bases(bytes, index);
        let linked = self.pc.wrapping_sub(self.module.bias);
        let fde = match index.and_then(Header::parse) {
            Some(header) => self.indexed(section, bytes, &header, &bases, linked)?,
            None => self.scanned(section, &bases, linked)?,
        };
        let Some(fde) = fde else {
            return Ok(None);
        };
        let mut context = UnwindContext::new_in();
        let row = match fde.unwind_info_for_address(section, &bases, &mut context, linked) {
            Ok(row) => row,
            Err(gimli::Error::NoUnwindInfoForAddress) => return Ok(None),
            Err(error) => return Err(self.bad(error)),
        };
        self.convert(row, &fde, bytes, source).map(Some)
    }

    /// The entry that the search table points at, if it covers the address.
    fn indexed<S>(
        &self,
        section: &S,
        bytes: Section<'m>,
        header: &Header<'_>,
        bases: &BaseAddresses,
        linked: u64,
    ) -> Result<Option<Fde<'m>>, Error>
    where
        S: UnwindSection<Reader<'m>>,
        S::Offset: UnwindOffset<usize>,
    {
        let Some(address) = header.lookup(linked) else {
            return Ok(None);
        };
        let offset = address
            .checked_sub(bytes.address)
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or(Error::BadCfi { pc: self.pc, fault: CfiFault::Malformed })?;
        let fde = section
            .fde_from_offset(bases, S::Offset::from(offset), S::cie_from_offset)
            .map_err(|error| self.bad(error))?;
        Ok(fde.contains(linked).then_some(fde))
    }

    /// The first entry that covers the address, by reading one after the other.
    fn scanned<S>(&self, section: &S, bases: &BaseAddresses, linked: u64) -> Result<Option<Fde<'m>>, Error>
    where
        S: UnwindSection<Reader<'m>>,
        S::Offset: UnwindOffset<usize>,
    {
        let mut entries = section.entries(bases);
        while let Some(entry) = entries.next().map_err(|error| self.bad(error))? {
            if let CieOrFde::Fde(partial) = entry {
                let fde = partial.parse(S::cie_from_offset).map_err(|error| self.bad(error))?;
                if fde.contains(linked) {
                    return Ok(Some(fde));
                }
            }
        }
        Ok(None)
    }

    fn bases(&self, section: Section<'_>, index: Option<Section<'_>>) -> BaseAddresses {
        let mut bases = BaseAddresses::default().set_eh_frame(section.address);
        if let Some(index) = index {
            bases = bases.set_eh_frame_hdr(index.address);
        }
        if let Some(text) = self.module.unwind.text {
            bases = bases.set_text(text);
        }
        if let Some(got) = self.module.unwind.got {
            bases = bases.set_got(got);
        }
        bases
    }

    /// Our row from gimli's, with the target's addresses.
    fn convert(
        &self,
        from: &gimli::UnwindTableRow<usize, Storage>,
        fde: &Fde<'m>,
        bytes: Section<'m>,
        source: RowSource,
    ) -> Result<Row<'m>, Error> {
        let bias = self.module.bias;
        let here = |linked: u64| linked.wrapping_add(bias);
        let mut rules = Rules::default();
        for (number, rule) in from.registers() {
            // Registers that are not tracked (vector registers) have no use here.
            let Some(register) = self.arch.register(number.0) else {
                continue;
            };
            if let Some(rule) = self.rule(rule)?
                && !rules.set(register, rule)
            {
                return Err(self.fault(CfiFault::TooLarge));
            }
        }
        let cfa = match from.cfa() {
            gimli::CfaRule::RegisterAndOffset { register, offset } => {
                CfaRule::Register(self.register(*register)?, *offset)
            }
            gimli::CfaRule::Expression(expression) => CfaRule::Expression(self.expression(expression)?),
        };
        Ok(Row {
            start: here(from.start_address()),
            end: here(from.end_address()),
            function: (here(fde.initial_address()), here(fde.end_address())),
            origin: Origin::Cfi(source),
            entry: if fde.is_signal_trampoline() { Entry::Signal } else { Entry::Called },
            cfa,
            return_register: self.register(fde.cie().return_address_register())?,
            rules,
            expressions: bytes.bytes,
        })
    }

    fn rule(&self, rule: &gimli::RegisterRule<usize>) -> Result<Option<Rule>, Error> {
        Ok(Some(match rule {
            gimli::RegisterRule::Undefined => Rule::Undefined,
            gimli::RegisterRule::SameValue => Rule::SameValue,
            gimli::RegisterRule::Offset(offset) => Rule::Offset(*offset),
            gimli::RegisterRule::ValOffset(offset) => Rule::ValOffset(*offset),
            gimli::RegisterRule::Register(register) => match self.arch.register(register.0) {
                Some(register) => Rule::Register(register),
                // Kept in a vector register: lost.
                None => Rule::Undefined,
            },
            gimli::RegisterRule::Expression(expression) => Rule::Expression(self.expression(expression)?),
            gimli::RegisterRule::ValExpression(expression) => Rule::ValExpression(self.expression(expression)?),
            gimli::RegisterRule::Constant(value) => Rule::Constant(*value),
            _ => return Err(self.fault(CfiFault::Unsupported)),
        }))
    }

    fn expression(&self, expression: &gimli::UnwindExpression<usize>) -> Result<Expression, Error> {
        match (u32::try_from(expression.offset), u32::try_from(expression.length)) {
            (Ok(offset), Ok(length)) => Ok(Expression { offset, length }),
            _ => Err(self.fault(CfiFault::TooLarge)),
        }
    }

    fn register(&self, number: gimli::Register) -> Result<Register, Error> {
        self.arch.register(number.0).ok_or(self.fault(CfiFault::Register))
    }

    fn bad(&self, error: gimli::Error) -> Error {
        self.fault(match error {
            gimli::Error::TooManyRegisterRules | gimli::Error::StackFull => CfiFault::TooLarge,
            gimli::Error::UnknownCallFrameInstruction(_)
            | gimli::Error::UnknownAugmentation
            | gimli::Error::UnsupportedPointerEncoding(_) => CfiFault::Unsupported,
            _ => CfiFault::Malformed,
        })
    }

    fn fault(&self, fault: CfiFault) -> Error {
        Error::BadCfi { pc: self.pc, fault }
    }
}
