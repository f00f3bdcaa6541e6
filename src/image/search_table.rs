//! A search table over FDEs for sections that have none, in the form of `.eh_frame_hdr`.

use gimli::{BaseAddresses, CieOrFde, LittleEndian, UnwindSection};
use surestack_walk::Section;

/// Version, `.eh_frame` pointer pcrel sdata4, count udata4, pairs datarel sdata4.
const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// The table for a `.eh_frame`. Its own address is the section's.
pub(super) fn of_eh_frame(section: Section<'_>, text: Option<u64>, got: Option<u64>) -> Option<Vec<u8>> {
    let mut frame = gimli::EhFrame::new(section.bytes, LittleEndian);
    frame.set_address_size(8);
    table(&frame, section, text, got)
}

/// The table for a `.debug_frame`. Its own address is the section's.
pub(super) fn of_debug_frame(section: Section<'_>) -> Option<Vec<u8>> {
    let mut frame = gimli::DebugFrame::new(section.bytes, LittleEndian);
    frame.set_address_size(8);
    table(&frame, section, None, None)
}

/// None when an entry does not parse or lies too far away for the table's form: the section is then searched entry by
/// entry, and the entry that does not parse is reported for what it is.
fn table<'a, S>(frame: &S, section: Section<'a>, text: Option<u64>, got: Option<u64>) -> Option<Vec<u8>>
where
    S: UnwindSection<gimli::EndianSlice<'a, LittleEndian>>,
    S::Offset: gimli::UnwindOffset<usize>,
{
    let mut bases = BaseAddresses::default().set_eh_frame(section.address);
    bases = text.map_or(bases.clone(), |text| bases.clone().set_text(text));
    bases = got.map_or(bases.clone(), |got| bases.clone().set_got(got));
    let relative = |address: u64| i32::try_from(address.wrapping_sub(section.address).cast_signed()).ok();

    let mut pairs: Vec<(i32, i32)> = vec![];
    let mut entries = frame.entries(&bases);
    while let Some(entry) = entries.next().ok()? {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(S::cie_from_offset).ok()?;
        // Functions that the linker dropped keep an entry at 0.
        if fde.len() == 0 || fde.initial_address() == 0 {
            continue;
        }
        pairs.push((relative(fde.initial_address())?, i32::try_from(fde.offset()).ok()?));
    }
    pairs.sort_unstable();

    let mut table = ENCODINGS.to_vec();
    table.extend((-4i32).to_le_bytes());
    table.extend(u32::try_from(pairs.len()).ok()?.to_le_bytes());
    for (start, fde) in pairs {
        table.extend(start.to_le_bytes());
        table.extend(fde.to_le_bytes());
    }
    Some(table)
}
