//! An event: time, site and fields into the thread's ring.

use crate::arena::{Arena, started};
use crate::claim::now;
use crate::layout::{header, kind, record};
use crate::local;
use crate::pack::{cut, words};
use crate::ring;
use crate::site::Site;
use crate::value::Value;

/// Why an event is not in the recorder, now or later. All but the first are counted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There is no recorder.
    NotStarted,
    /// There is no slot for this thread, or no room for its ring.
    NoSlot,
    /// There is no room to say what it means.
    NoSite,
    /// The thread's ring refused it.
    Ring(ring::Refused),
}

/// Writes an event with the values of its site's fields, in their order; of more than twelve the first twelve. Text that makes
/// it longer than 1 KiB is cut.
///
/// From anywhere, signal handlers included. The first event of a thread, and of a site, takes longer; both may have been seen
/// to ([`prepare_this_thread`]).
///
/// # Errors
/// Where it is dropped.
#[inline]
pub fn write(site: &Site, values: &[Value<'_>]) -> Result<(), Dropped> {
    match started() {
        Some(arena) => arena.write(site, values),
        None => Err(Dropped::NotStarted),
    }
}

/// Takes a slot for this thread, so that its first event finds one.
///
/// # Errors
/// Where there is none.
pub fn prepare_this_thread() -> Result<(), Dropped> {
    started().ok_or(Dropped::NotStarted)?.own_ring().map(|_| ()).ok_or(Dropped::NoSlot)
}

impl Arena {
    fn write(&'static self, site: &Site, values: &[Value<'_>]) -> Result<(), Dropped> {
        let values = values.get(..record::FIELDS).unwrap_or(values);
        let mut kinds = kind::NONE;
        let mut room = record::LONGEST - 2;
        let mut length = 2_usize;
        for (index, value) in values.iter().enumerate() {
            kinds |= value.kind() << (index * 4);
            room = room.wrapping_sub(1);
            length = length.wrapping_add(1);
        }
        for value in values {
            if let Value::Text(text) = value {
                let words = text.len().div_ceil(8).min(room);
                room = room.wrapping_sub(words);
                length = length.wrapping_add(words);
            }
        }

        let Some(number) = site.number(self, kinds) else {
            self.count(header::UNDESCRIBED);
            return Err(Dropped::NoSite);
        };
        let Some(own) = self.own_ring() else {
            self.count(header::UNPLACED);
            return Err(Dropped::NoSlot);
        };
        // Before its place is taken: what interrupts it from now on is later.
        let time = now();
        let mut room = record::LONGEST.wrapping_sub(2).wrapping_sub(values.len());
        let written = ring::write(&own, local::stack_pointer(), number, length, |filler| {
            filler.put(time);
            for value in values {
                match value {
                    Value::Text(text) => {
                        let most = text.len().div_ceil(8).min(room);
                        room = room.wrapping_sub(most);
                        let kept = cut(text, most.wrapping_mul(8));
                        filler.put(text.len().min(u32::MAX as usize) as u64 | (kept.len() as u64) << 32);
                        words(kept.as_bytes())
                            .chain(core::iter::repeat(0))
                            .take(most)
                            .for_each(|word| filler.put(word));
                    }
                    value => filler.put(value.word().unwrap_or_default()),
                }
            }
        });
        written.map_err(Dropped::Ring)
    }
}
