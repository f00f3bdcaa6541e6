//! Finding `.eh_frame` where nothing points at it: static programs have no `.eh_frame_hdr`, and in a core there are no
//! section headers either.

use std::ops::Range;

/// Where the first run of call frame entries in `bytes` lies: a CIE with `z` augmentation, entries one after the other
/// that each belong to a CIE of the run, and a terminator or the end of `bytes`.
///
/// A run of fewer than two entries is not believed.
pub(super) fn eh_frame(bytes: &[u8]) -> Option<Range<usize>> {
    let (words, _) = bytes.as_chunks::<4>();
    let heads = words.windows(3).enumerate().filter(|(_, window)| {
        // length, 0 for "CIE", version 1 and the augmentation string
        matches!(window, [[length, 0, 0, 0], [0, 0, 0, 0], [1, b'z', ..]] if *length >= 0x10)
    });
    heads.filter_map(|(word, _)| run(bytes, word.checked_mul(4)?)).next()
}

/// The run of entries from `start`, if it is one.
fn run(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    let (mut at, mut entries) = (start, 0usize);
    loop {
        let length = match word(at) {
            None => break,
            Some(0) => {
                at = at.checked_add(4)?;
                break;
            }
            Some(length) => usize::try_from(length).ok()?,
        };
        let id_at = at.checked_add(4)?;
        let id = usize::try_from(word(id_at)?).ok()?;
        let owner = id_at.checked_sub(id)?;
        let end = id_at.checked_add(length)?;
        // An FDE points back at its CIE, which is in the run and a CIE.
        let belongs = id == 0 || owner >= start && word(owner.checked_add(4)?) == Some(0);
        if !belongs || length < 4 || end > bytes.len() {
            return None;
        }
        (at, entries) = (end, entries.checked_add(1)?);
    }
    (entries >= 2).then_some(start..at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CIE of 24 bytes, an FDE of 20 that belongs to it, the terminator.
    fn frame() -> Vec<u8> {
        let mut bytes = vec![0x14, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0];
        bytes.resize(24, 0);
        bytes.extend([0x10, 0, 0, 0, 28, 0, 0, 0]);
        bytes.resize(44, 7);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn a_run_between_other_bytes_is_found_with_its_terminator() {
        let mut bytes = vec![0x55; 40];
        bytes.extend(frame());
        bytes.extend([0x66; 40]);
        assert_eq!(eh_frame(&bytes), Some(40..88));
    }

    #[test]
    fn an_entry_that_belongs_to_nobody_makes_it_no_run() {
        let mut bytes = frame();
        bytes[28] = 24;
        assert_eq!(eh_frame(&bytes), None);
        assert_eq!(eh_frame(&frame()[..40]), None, "cut in the middle of an entry");
        assert_eq!(eh_frame(&[]), None);
    }
}
