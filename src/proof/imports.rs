//! Imported functions, and those that are known by name never to return: only names that the C, POSIX and C++ standards
//! and the implementation keep for themselves. A program may well have an `err` of its own that returns.

use crate::image::{Image, elf};
use object::elf::{
    DT_JMPREL, DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_STRSZ, DT_STRTAB, DT_SYMTAB, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT,
};

const NEVER: &[&[u8]] = &[
    b"abort",
    b"exit",
    b"_exit",
    b"_Exit",
    b"quick_exit",
    b"pthread_exit",
    b"longjmp",
    b"_longjmp",
    b"siglongjmp",
    b"__longjmp_chk",
    b"__assert",
    b"__assert_fail",
    b"__assert_perror_fail",
    b"__stack_chk_fail",
    b"__chk_fail",
    b"__fortify_fail",
    b"_Unwind_Resume",
    b"__cxa_throw",
    b"__cxa_rethrow",
    b"__cxa_bad_cast",
    b"__cxa_bad_typeid",
    b"__cxa_throw_bad_array_new_length",
    b"__cxa_pure_virtual",
    b"__cxa_call_unexpected",
    b"_ZSt9terminatev",
    b"_ZSt10unexpectedv",
    b"__libc_fatal",
    b"__libc_start_main",
    b"_dl_signal_error",
    b"_dl_fatal_printf",
];
/// In `std::__throw_*`.
const THROW: &[u8] = b"__throw_";
const RELA: usize = 24;
const SYMBOL: u64 = 24;

/// A word that the loader fills with the address of a function of this name, wherever it finds one. Linked address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import<'i> {
    /// Where the word is.
    pub slot: u64,
    /// The function's name, as the compiler mangled it.
    pub name: &'i [u8],
}

impl Import<'_> {
    /// Whether the name alone says that the function never returns.
    pub fn never_returns(&self) -> bool {
        NEVER.contains(&self.name)
            || self.name.starts_with(b"_ZSt") && self.name.windows(THROW.len()).any(|part| part == THROW)
    }
}

/// The slots of functions that are known by name never to return, ascending: all that a file alone says.
pub fn never_returning(image: &Image) -> Vec<u64> {
    let mut slots: Vec<u64> = imports(image).filter(Import::never_returns).map(|import| import.slot).collect();
    slots.sort_unstable();
    slots
}

/// The functions that a module imports (`R_X86_64_JUMP_SLOT`, `R_X86_64_GLOB_DAT`).
pub fn imports(image: &Image) -> impl Iterator<Item = Import<'_>> {
    let tables = [(DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)];
    let table = |(at, size): (i64, i64)| {
        let size = usize::try_from(image.dynamic_value(size)?).ok()?;
        Some(image.at(image.dynamic_value(at)?, size)?.as_chunks::<RELA>().0)
    };
    let symbols = image.dynamic_value(DT_SYMTAB);
    let names = || image.at(image.dynamic_value(DT_STRTAB)?, usize::try_from(image.dynamic_value(DT_STRSZ)?).ok()?);
    let names = names().unwrap_or_default();
    let import = move |entry: &[u8; RELA]| {
        let word = |from: usize| entry.get(from..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word));
        let info = word(8)?;
        if !matches!(u32::try_from(info & 0xffff_ffff).ok()?, R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT) {
            return None;
        }
        let symbol = image.at(symbols?.checked_add((info >> 32).checked_mul(SYMBOL)?)?, 4)?;
        Some(Import { slot: word(0)?, name: elf::text(names, u32::from_le_bytes(*symbol.first_chunk()?))? })
    };
    tables.into_iter().filter_map(table).flatten().filter_map(import)
}
