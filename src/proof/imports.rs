//! Imported functions that are known by name never to return.

use crate::image::Image;
use object::elf::{
    DT_JMPREL, DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_STRTAB, DT_SYMTAB, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT,
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
    b"err",
    b"errx",
    b"verr",
    b"verrx",
    b"_dl_signal_error",
    b"_dl_fatal_printf",
];
/// `std::__throw_*`.
const THROW: &[u8] = b"__throw_";
/// Longest name read.
const LONGEST: usize = 96;
const RELA: usize = 24;
const SYMBOL: u64 = 24;

/// Linked addresses of the slots that the loader fills with such functions, ascending.
pub fn never_returning(image: &Image) -> Vec<u64> {
    let tables = [(DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)];
    let mut slots: Vec<u64> = tables.into_iter().filter_map(|(at, size)| read(image, at, size)).flatten().collect();
    slots.sort_unstable();
    slots
}

fn read(image: &Image, at: i64, size: i64) -> Option<Vec<u64>> {
    let (symbols, names) = (image.dynamic_value(DT_SYMTAB)?, image.dynamic_value(DT_STRTAB)?);
    let size = usize::try_from(image.dynamic_value(size)?).ok()?;
    let (entries, _) = image.at(image.dynamic_value(at)?, size)?.as_chunks::<RELA>();
    let slot = |entry: &[u8; RELA]| {
        let word = |from: usize| entry.get(from..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word));
        let info = word(8)?;
        let kind = u32::try_from(info & 0xffff_ffff).ok()?;
        if kind != R_X86_64_JUMP_SLOT && kind != R_X86_64_GLOB_DAT {
            return None;
        }
        let symbol = image.at(symbols.checked_add((info >> 32).checked_mul(SYMBOL)?)?, 4)?;
        let name = u64::from(u32::from_le_bytes(*symbol.first_chunk()?));
        never(image, names.checked_add(name)?).then(|| word(0))?
    };
    Some(entries.iter().filter_map(slot).collect())
}

fn never(image: &Image, at: u64) -> bool {
    let lengths = [LONGEST, 24, 12];
    let Some(bytes) = lengths.into_iter().find_map(|length| image.at(at, length)) else { return false };
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    NEVER.contains(&name) || name.starts_with(b"_ZSt") && name.windows(THROW.len()).any(|part| part == THROW)
}
