//! Events of a recorder that is still written, as they come.
//!
//! Threads are looked at one after the other, so what one wrote can be found after what another wrote later. Events are
//! therefore held back for one round, and come in order as long as no thread is stopped in the middle of an event for
//! longer than that. Processes are known by their ids in this process's namespace: one in another container is taken for
//! gone, and whoever has the id of a forked child that has ended is taken for it.

use super::reader::{self, Reader};
use super::{Event, Source, ThreadEvents};
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use surestack_recorder::decode::{Header, Refused, Slot};
use surestack_recorder::layout::PAGE;

/// Goes on reading.
pub struct Follow<'s> {
    reader: Reader<'s>,
    places: HashMap<u64, Place>,
    held: Vec<Followed>,
}

/// How far a slot was read.
struct Place {
    slot: Slot,
    next: u64,
    thread: Arc<ThreadEvents>,
    /// How many events were read.
    events: u64,
    /// How many bytes those take.
    read: u64,
}

/// What came.
#[derive(Clone, Debug)]
pub enum Followed {
    /// An event.
    Event(Arc<ThreadEvents>, Event),
    /// So many bytes of a thread's events were overwritten before they were read: by the size of those that were, about so
    /// many events.
    Missed(Arc<ThreadEvents>, u64, u64),
}

impl<'s> Follow<'s> {
    /// Begins with what is there.
    ///
    /// # Errors
    /// Where no copy of the header holds.
    pub fn new(source: &'s dyn Source) -> Result<Self, Refused> {
        let (header, damage) = reader::header(source)?;
        Ok(Self { reader: Reader::new(source, header, damage), places: HashMap::new(), held: Vec::new() })
    }

    /// What has come since the last call, oldest first, but for what is held back; the first of it is what was there.
    pub fn come(&mut self) -> Vec<Followed> {
        let before = self.held.iter().filter_map(Followed::time).max();
        self.reader.taken().into_iter().for_each(|index| self.slot(index));
        self.reader.again();
        self.held.sort_by_key(|followed| (followed.time(), followed.place()));
        let ready = self.held.iter().take_while(|followed| followed.time() <= before).count();
        self.held.drain(..ready).collect()
    }

    /// All that is held back: nothing more comes.
    pub fn rest(&mut self) -> Vec<Followed> {
        std::mem::take(&mut self.held)
    }

    /// Whether a process that has written is there still.
    pub fn is_written(&self) -> bool {
        let header = &self.reader.header;
        let mut others: Vec<u32> = self.places.values().map(|place| place.slot.pid).collect();
        others.sort_unstable();
        others.dedup();
        is_there(header.process, Some(header.process_started))
            || others.into_iter().any(|pid| pid != header.process && is_there(pid, None))
    }

    /// The header of what is followed.
    pub fn header(&self) -> &Header {
        &self.reader.header
    }

    fn slot(&mut self, index: u64) {
        let place = self.places.get(&index);
        let known = place.map(|place| (place.slot, place.next));
        if let Some((slot, next)) = known.filter(|(slot, _)| self.reader.slot(index) == Some(*slot)) {
            // What it has not committed is shown once it has ended.
            let is_open = next < slot.uncommitted(&self.reader.header).end;
            if !is_open || !self.reader.has_ended(&slot) {
                return;
            }
        }
        let from = |slot: &Slot| known.filter(|(known, _)| known.is_of(slot)).map_or(slot.base, |(_, next)| next);
        let Some((mut thread, slot, next)) = self.reader.thread(index, from) else { return };
        let events = std::mem::take(&mut thread.events);
        let same = known.is_some_and(|(known, _)| known.is_of(&slot));
        if let Some(place) = place.filter(|_| !same) {
            // What the thread before wrote at its end is gone, if it wrote.
            self.held.extend(place.missed(slot.base.saturating_sub(place.next) & !(PAGE as u64 - 1)));
        }
        let before = if same { self.places.remove(&index) } else { None };
        let (missed, first) = (thread.overwritten, before.is_none());
        let (at, count) = (from(&slot), events.len() as u64);
        let next = next.max(at);
        let place = Place {
            slot,
            next,
            events: before.as_ref().map_or(0, |place| place.events).saturating_add(count),
            read: before
                .as_ref()
                .map_or(0, |place| place.read)
                .saturating_add(next.saturating_sub(at).saturating_sub(missed)),
            thread: before.map_or_else(|| Arc::new(thread), |place| place.thread),
        };
        // What was overwritten before the first look was not missed.
        if !first {
            self.held.extend(place.missed(missed));
        }
        self.held.extend(events.into_iter().map(|event| Followed::Event(Arc::clone(&place.thread), event)));
        self.places.insert(index, place);
    }
}

impl Place {
    fn missed(&self, bytes: u64) -> Option<Followed> {
        let about = u128::from(bytes) * u128::from(self.events) / u128::from(self.read.max(1));
        let about = u64::try_from(about).unwrap_or(u64::MAX).max(1);
        (bytes > 0).then(|| Followed::Missed(Arc::clone(&self.thread), bytes, about))
    }
}

impl Followed {
    /// When it was; what was missed comes first.
    fn time(&self) -> Option<u64> {
        match self {
            Self::Event(_, event) => Some(event.time),
            Self::Missed(..) => None,
        }
    }

    fn place(&self) -> (u64, u64) {
        match self {
            Self::Event(thread, event) => (thread.slot, event.position),
            Self::Missed(thread, ..) => (thread.slot, 0),
        }
    }
}

/// Whether a process is there and no zombie, and began at this tick where one is named: none began at 0.
pub(super) fn is_there(pid: u32, started: Option<u64>) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let fields: Vec<_> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let is_alive = fields.first().is_some_and(|state| !matches!(*state, "Z" | "X"));
    // Field 22, counted from the third.
    let began = fields.get(19).and_then(|ticks| ticks.parse::<u64>().ok());
    is_alive && started.is_none_or(|started| started != 0 && began == Some(started))
}
