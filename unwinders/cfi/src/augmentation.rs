//! Letters of a CIE's augmentation that the parser does not know and that change nothing for us.

/// `B`: return addresses are signed with the B key. `G`: stack memory is tagged. AArch64 DWARF, section 7.
const LETTERS: &[u8] = b"BG";

/// Takes the letters that say nothing about rows out of every CIE of a copy of `.eh_frame`, and returns how many it
/// took. No byte moves but within the CIE: the code alignment factor behind the string is padded to the old length.
///
/// ```text
///   z R B \0 01          z R \0 81 00
/// ```
///
/// Without this the entries are refused as unsupported. For whoever loads a section: once, before it is read.
pub fn drop_key_letters(eh_frame: &mut [u8]) -> usize {
    let mut dropped = 0;
    let mut rest = eh_frame;
    // The terminator, a 64-bit entry (which no compiler writes here) and broken lengths end the section.
    while let Some((length, entries)) = rest.split_first_chunk_mut::<4>() {
        let Some(length) = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length != 0) else {
            break;
        };
        let Some((entry, after)) = entries.split_at_mut_checked(length) else {
            break;
        };
        // A CIE has id 0, and version 1 in every `.eh_frame` seen.
        if let Some((&mut [0, 0, 0, 0, 1], fields)) = entry.split_first_chunk_mut::<5>() {
            while drop_letter(fields).is_some() {
                dropped += 1;
            }
        }
        rest = after;
    }
    dropped
}

/// Takes the first such letter out of the string that `fields` begins with.
fn drop_letter(fields: &mut [u8]) -> Option<()> {
    let end = fields.iter().position(|byte| *byte == 0)?;
    let letter = fields.get(..end)?.iter().position(|byte| LETTERS.contains(byte))?;
    let factor = fields.get(end.checked_add(1)?..)?.iter().position(|byte| *byte < 0x80)?;
    let last = end.checked_add(1)?.checked_add(factor)?;
    fields.get_mut(letter..=last)?.rotate_left(1);
    // The letter is now last: it becomes the padding byte of the number before it.
    *fields.get_mut(last)? = 0;
    *fields.get_mut(last.checked_sub(1)?)? |= 0x80;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_letter_is_taken_out_and_nothing_behind_the_factor_moves() {
        let mut section = [12, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', b'B', 0, 4, 0x78, 30];
        assert_eq!(drop_key_letters(&mut section), 1);
        assert_eq!(section, [12, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 0x84, 0, 0x78, 30]);
        assert_eq!(drop_key_letters(&mut section), 0);
    }

    #[test]
    fn other_entries_and_broken_sections_are_left_alone() {
        for section in [
            &mut [12, 0, 0, 0, 8, 0, 0, 0, 1, b'z', b'R', b'B', 0, 4, 0x78, 30][..], // an FDE
            &mut [12, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'B', 0][..],                    // longer than the section
            &mut [9, 0, 0, 0, 0, 0, 0, 0, 1, b'B', 0, 0x80, 0x80][..],               // a factor without an end
            &mut [0xff; 5][..],
        ] {
            let before: [u8; 16] = core::array::from_fn(|at| section.get(at).copied().unwrap_or_default());
            assert_eq!(drop_key_letters(section), 0);
            assert!(section.iter().zip(before).all(|(now, before)| *now == before));
        }
    }
}
