//! The flight recorder as text, at signal time: annotations, and the last events of the crashed thread.

use super::copy::{Copying, Slot, Unreadable};
use crate::report::{Report, checked};
use crate::text::Text;
use surestack_recorder::decode::{Annotation, Page, Piece, Record, Seen, Site};
use surestack_recorder::layout::{PAGE, annotation, site};
use surestack_recorder::{Arena, Value};
use surestack_walk::Memory;

/// Events that are shown.
const EVENTS: usize = 8;
/// Annotations that are shown.
const ANNOTATIONS: usize = 16;
/// Bytes of a page, as positions count.
const PAGE_BYTES: u64 = PAGE as u64;
/// Room for the longest description of a site.
const SITE: usize = 2048;

/// Writes what there is. What cannot be read the record says.
pub(crate) fn write(report: &mut Report<'_>, arena: &Arena) {
    let memory = checked();
    let copying = Copying::of(arena, &memory);
    let _ = annotations(&copying, &mut report.text);
    let crashed = u64::from(report.process) << 32 | u64::from(report.thread);
    if let Ok(Some(slot)) = copying.newest(crashed) {
        let _ = events(&copying, &slot, report.began, &mut report.text);
    }
}

fn annotations<M: Memory>(copying: &Copying<'_, M>, text: &mut Text) -> Result<(), Unreadable> {
    let (mut slot, mut shown) = ([0; annotation::SIZE], 0_usize);
    for at in copying.ready_annotations() {
        let at = at?;
        if shown == ANNOTATIONS {
            text.text("  ... and more annotations").end();
            break;
        }
        copying.read(at, &mut slot)?;
        if let Some(Annotation { key, value: Some(seen), .. }) = Annotation::decode(&slot) {
            text.text("  ").text(key).text(": ");
            value(&seen, text);
            text.end();
            shown = shown.saturating_add(1);
        }
    }
    Ok(())
}

fn events<M: Memory>(copying: &Copying<'_, M>, slot: &Slot, now: u64, text: &mut Text) -> Result<(), Unreadable> {
    let Some(last) = copying.last_page(slot)? else { return Ok(()) };
    let (end, mut pages) = (copying.end(slot)?, [[0; PAGE]; 2]);
    let first = last.checked_sub(PAGE_BYTES).filter(|first| first.saturating_add(PAGE_BYTES) > slot.base);
    let places = [first, Some(last)];
    for (page, at) in pages.iter_mut().zip(places) {
        if let Some(at) = at {
            copying.read(copying.ring(slot.index, at), page)?;
        }
    }
    let mut records: [Option<Record<'_>>; EVENTS] = [None; EVENTS];
    for (page, at) in pages.iter().zip(places) {
        let positions = at.map_or(0..0, |at| at.max(slot.base)..at.saturating_add(PAGE_BYTES).min(end));
        for piece in Page::new(page, positions) {
            if let Piece::Record(record) = piece {
                records.rotate_left(1);
                records.last_mut().into_iter().for_each(|place| *place = Some(record));
            }
        }
    }
    text.text("the last events of this thread, by seconds before this report:").end();
    records.iter().flatten().try_for_each(|record| event(copying, record, now, text))
}

/// One event in a line.
fn event<M: Memory>(
    copying: &Copying<'_, M>,
    record: &Record<'_>,
    now: u64,
    text: &mut Text,
) -> Result<(), Unreadable> {
    let before = now.saturating_sub(record.time) / 1000;
    text.text("  ").number(before / 1_000_000).text(".");
    digits(before % 1_000_000, text);
    let mut bytes = [0; SITE];
    let Some(site) = described(copying, record.site, &mut bytes)? else {
        text.text("  site ").number(u64::from(record.site)).end();
        return Ok(());
    };
    let level = site::LEVELS.get(usize::from(site.level)).filter(|level| !level.is_empty());
    text.text("  ").text(level.unwrap_or(&"-")).text("  ").text(site.event);
    for (name, seen) in site.names().zip(site.kinds.fields(record)) {
        text.text("  ").text(name).text("=");
        value(&seen, text);
    }
    text.end();
    Ok(())
}

fn described<'b, M: Memory>(
    copying: &Copying<'_, M>,
    number: u16,
    bytes: &'b mut [u8; SITE],
) -> Result<Option<Site<'b>>, Unreadable> {
    let within = usize::from(number).saturating_mul(8);
    let rest = copying.geometry.sites_size.saturating_sub(within);
    if number == 0 || rest == 0 {
        return Ok(None);
    }
    let at = copying.geometry.sites.saturating_add(within);
    let size = Site::bytes(copying.word(at)?).filter(|size| *size <= rest);
    let Some(room) = size.and_then(|size| bytes.get_mut(..size)) else { return Ok(None) };
    copying.read(at, room)?;
    Ok(Site::decode(room))
}

fn value(seen: &Seen<'_>, text: &mut Text) {
    match seen.value {
        Value::Unsigned(value) => text.number(value),
        Value::Signed(value) => text.text(if value < 0 { "-" } else { "" }).number(value.unsigned_abs()),
        Value::Float(value) => float(value, text),
        Value::Bool(value) => text.text(if value { "true" } else { "false" }),
        Value::Address(value) => text.hex(value, 1),
        Value::Text(value) => {
            let cut = u64::try_from(value.len()).map_or(0, |shown| seen.length.saturating_sub(shown));
            text.text("\"").text(value).text("\"");
            if cut > 0 { text.text("+").number(cut) } else { text }
        }
    };
}

/// A floating-point number to six places; what is too large for that by its bits.
fn float(value: f64, text: &mut Text) -> &mut Text {
    const LARGE: f64 = 1e12;
    let magnitude = value.abs();
    if magnitude.is_nan() || magnitude >= LARGE {
        return text.text("float ").hex(value.to_bits(), 16);
    }
    // It is less than 2^60, so it fits; what is behind six places is cut.
    let millionths = (magnitude * 1e6) as u64;
    text.text(if value.is_sign_negative() { "-" } else { "" }).number(millionths / 1_000_000).text(".");
    digits(millionths % 1_000_000, text)
}

/// Six digits.
fn digits(number: u64, text: &mut Text) -> &mut Text {
    let places = [100_000, 10_000, 1000, 100, 10, 1];
    places.into_iter().fold(text, |text, place| text.number(number / place % 10))
}
