//! Wrong rows of shipped files that were found before, by reading rows against disassembly.

/// A function with wrong rows.
struct Known {
    /// How its file's name begins.
    file: &'static str,
    /// Where it begins in Debian 12's build.
    function: u64,
    /// What its rows have wrong.
    what: &'static str,
}

const KNOWN: &[Known] = &[
    known("libc.so.6", 0x4c6e0, "glibc's __mpn_addmul_1: rbx and rbp are pushed and no row tells"),
    known("libc.so.6", 0x4e140, "glibc's __mpn_submul_1: rbx and rbp are pushed and no row tells"),
    known("libcrypto.so.3", 0x1dd060, "x25519_fe51_sqr: a sign error where the frame is given back"),
    known("libcrypto.so.3", 0x1dd420, "x25519_fe64_sqr: a sign error where the frame is given back"),
    known("libcrypto.so.3", 0x131600, "bn_gather5: a frame is made and aligned and no row tells"),
    known("libcrypto.so.3", 0x287f00, "sha1_multi_block: the push of rbp is told as one of rbx"),
    known("libcrypto.so.3", 0x12eee0, "mul4x_internal: uses registers that its callers saved, and no rule tells"),
    known("libcrypto.so.3", 0x130260, "mulx4x_internal: uses registers that its callers saved, and no rule tells"),
    known("libgcrypt.so.20", 0x6a7c0, "PadLock code: flags are pushed and popped and no row tells"),
    known("libgcrypt.so.20", 0x6a850, "PadLock code: flags are pushed and popped and no row tells"),
    known(
        "libLLVM-14.so",
        0xde4a90,
        "the frame is given back before a conditional tail jump, and the row follows behind it",
    ),
];

const fn known(file: &'static str, function: u64, what: &'static str) -> Known {
    Known { file, function, what }
}

/// What is known to be wrong in a function of the file with this name.
pub fn what(file: &str, function: u64) -> Option<&'static str> {
    let found = KNOWN.iter().find(|known| known.function == function && file.starts_with(known.file));
    found.map(|known| known.what)
}
