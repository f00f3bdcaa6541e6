//! Reads slots, rings and sites of a source, within budgets.

use super::{Event, FieldValue, Source, ThreadEvents};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use surestack_recorder::decode::{Header, Kinds, Page, Piece, Record, Refused, Site, Slot};
use surestack_recorder::layout::record::FIELDS;
use surestack_recorder::layout::{PAGE, header, site, slot, state};

/// Most slots of threads that are looked at: no recorder has more.
const MOST_THREADS: u64 = 1 << 20;
/// Most pages that are read: 2 GiB, and pages that are full come to [`MOST_KEPT`] before.
const MOST_PAGES: u64 = 1 << 19;
/// Most bytes that the events that are kept may take, more or less.
const MOST_KEPT: usize = 512 << 20;
/// Bytes that keeping one more thing takes beside its own.
const APIECE: usize = 16;
/// Slots that are looked at together: most are free.
const SOME: usize = 32;
/// Most sentences about damage.
const MOST_DAMAGE: usize = 64;
/// How often a slot is read anew because its thread changed meanwhile.
const TRIES: usize = 4;
/// Bytes of a page, as positions count.
const PAGE_BYTES: u64 = PAGE as u64;

/// What goes through a source.
pub(super) struct Reader<'s> {
    pub source: &'s dyn Source,
    pub header: Header,
    pub damage: Damage,
    /// By number; nothing where there is no description.
    sites: HashMap<u16, Option<Arc<Described>>>,
    /// What stands for names that nobody knows.
    nothing: Arc<str>,
    unnamed: HashMap<u16, Arc<str>>,
    words: Vec<Arc<str>>,
    /// The last process that was seen to have ended.
    ended: Option<u32>,
    pages: u64,
    /// Bytes of events.
    kept: usize,
}

/// Sentences about what is wrong, of which the first are kept.
#[derive(Default)]
pub(super) struct Damage {
    sentences: Vec<String>,
    more: usize,
}

/// What a site says of its events.
struct Described {
    name: Arc<str>,
    target: Arc<str>,
    file: Arc<str>,
    line: u32,
    level: Option<&'static str>,
    names: Vec<Arc<str>>,
    kinds: Kinds,
}

impl Damage {
    pub fn say(&mut self, sentence: impl FnOnce() -> String) {
        if self.sentences.len() >= MOST_DAMAGE {
            self.more = self.more.saturating_add(1);
            return;
        }
        // Whoever follows a recorder comes by the same again.
        let sentence = sentence();
        if !self.sentences.contains(&sentence) {
            self.sentences.push(sentence);
        }
    }

    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("and {} more of the kind", self.more));
        }
        self.sentences
    }
}

/// The header, and what is wrong with either copy of it.
pub(super) fn header(source: &dyn Source) -> Result<(Header, Damage), Refused> {
    let mut copies = [const { Vec::new() }; 2];
    for (copy, at) in copies.iter_mut().zip(header::COPIES) {
        let size = source.size().map_or(header::SIZE as u64, |size| size.saturating_sub(at as u64));
        copy.resize(header::SIZE.min(usize::try_from(size).unwrap_or(header::SIZE)), 0);
        if !source.read(at as u64, copy) {
            copy.clear();
        }
    }
    let [first, second] = &copies;
    let found = Header::first_of([first, second])?;
    let mut damage = Damage::default();
    for (copy, which) in [(first, "first"), (second, "second")] {
        match Header::decode(copy) {
            Err(why) => damage.say(|| format!("the {which} copy of the header does not hold: {why}")),
            Ok(other) if other != found => {
                damage.say(|| "the second copy of the header is another recorder's".to_owned())
            }
            Ok(_) => {}
        }
    }
    Ok((found, damage))
}

impl<'s> Reader<'s> {
    pub fn new(source: &'s dyn Source, header: Header, damage: Damage) -> Self {
        let words = (0..FIELDS).map(|index| format!("word{index}").into()).collect();
        let (sites, unnamed) = (HashMap::new(), HashMap::new());
        Self { source, header, damage, sites, nothing: "".into(), unnamed, words, ended: None, pages: 0, kept: 0 }
    }

    /// Begins another round over a recorder that is still written.
    pub fn again(&mut self) {
        (self.pages, self.kept) = (0, 0);
        self.sites.retain(|_, described| described.is_some());
    }

    /// Slots that somebody has or had.
    pub fn taken(&mut self) -> Vec<u64> {
        let (mut all, slots) = (Vec::new(), self.slots());
        let mut some = [0; SOME * slot::SIZE];
        for first in (0..slots).step_by(SOME) {
            // What cannot be read is no free slot.
            if !self.header.slot(first).is_some_and(|at| self.source.read(at, &mut some)) {
                some.fill(u8::MAX);
            }
            let states = some.chunks_exact(slot::SIZE).map(|slot| slot.first_chunk());
            let taken = (first..slots).zip(states).filter(|(_, state)| *state != Some(&state::FREE.to_le_bytes()));
            all.extend(taken.map(|(index, _)| index));
        }
        all
    }

    /// How many slots of threads are to be looked at: those that are there.
    fn slots(&mut self) -> u64 {
        if self.header.thread_slots > MOST_THREADS {
            self.damage.say(|| format!("only the first {MOST_THREADS} slots of threads are looked at"));
        }
        let room = self.source.size().map_or(u64::MAX, |size| size.saturating_sub(self.header.threads));
        self.header.thread_slots.min(MOST_THREADS).min(room / slot::SIZE as u64)
    }

    /// A thread's slot, as it is now. Its thread may move on while it is copied, so that what is committed is beyond what was
    /// taken: then it is copied anew.
    pub fn slot(&self, index: u64) -> Option<Slot> {
        let at = self.header.slot(index)?;
        let copied = || {
            let mut bytes = [0; slot::SIZE];
            self.source.read(at, &mut bytes).then(|| Slot::decode(&bytes))?
        };
        let mut slot = copied()?;
        for _ in 1..TRIES {
            if slot.shown(&self.header).is_ok() {
                break;
            }
            slot = copied()?;
        }
        Some(slot)
    }

    /// Whether the process of a slot does not write any more.
    pub fn has_ended(&mut self, slot: &Slot) -> bool {
        let started = (slot.pid == self.header.process).then_some(self.header.process_started);
        let has_ended = self.ended == Some(slot.pid) || self.source.has_ended(slot.pid, started);
        self.ended = if has_ended { Some(slot.pid) } else { self.ended };
        has_ended
    }

    /// What the thread of a slot has written from a position on, and where that ends; nothing where the slot is nobody's.
    pub fn thread(&mut self, index: u64, from: impl Fn(&Slot) -> u64) -> Option<(ThreadEvents, Slot, u64)> {
        let mut before = self.slot(index)?;
        let mut has_ended = before.is_used() && self.has_ended(&before);
        if has_ended {
            // It may have committed until then.
            let now = self.slot(index)?;
            has_ended = now.is_of(&before);
            before = now;
        }
        for _ in 0..TRIES {
            let shown = match before.shown(&self.header) {
                Ok(shown) if before.is_used() => shown,
                Ok(_) => return None,
                // It is being taken over.
                Err(_) if before.state == state::CLAIMED => return None,
                Err(why) => {
                    self.damage.say(|| format!("slot {index} of the threads cannot be: {why}"));
                    return before.is_used().then(|| (said(index, &before), before, 0));
                }
            };
            let (kept, damage) = (self.kept, self.damage.sentences.len());
            let mut thread = said(index, &before);
            thread.open = before.open(&self.header);
            let from = from(&before).max(before.base);
            thread.overwritten = shown.start.saturating_sub(from);
            let mut end = shown.end;
            let hole = self.ring(&mut thread, &before, from.max(shown.start).min(end)..end);
            if let Some(first) = hole.filter(|_| thread.left == 0) {
                let bytes = thread.holes;
                self.damage.say(|| format!("{bytes} bytes of slot {index} are no record, from position {first:#x} on"));
            }
            if has_ended {
                let open = before.uncommitted(&self.header);
                end = end.max(open.end);
                self.uncommitted(&mut thread, &before, from.max(open.start).min(open.end)..open.end);
            }
            let Some(after) = self.slot(index).filter(|after| !after.is_of(&before)) else {
                thread.events.sort_by_key(|event| (event.time, event.position));
                return Some((thread, before, end));
            };
            // Another thread took the slot over meanwhile, and what was read may be anybody's.
            has_ended = false;
            self.kept = kept;
            self.damage.sentences.truncate(damage);
            before = after;
        }
        None
    }

    /// Adds what is whole of what a thread that has ended did not commit.
    fn uncommitted(&mut self, thread: &mut ThreadEvents, slot: &Slot, positions: Range<u64>) {
        let mut above = said(thread.slot, slot);
        self.ring(&mut above, slot, positions);
        thread.open = above.holes.saturating_add(above.missing);
        thread.events.extend(above.events.into_iter().map(|event| Event { uncommitted: true, ..event }));
    }

    /// Reads these positions of a thread's ring. Says where the first hole is.
    fn ring(&mut self, thread: &mut ThreadEvents, slot: &Slot, positions: Range<u64>) -> Option<u64> {
        let mut buffer = [0; PAGE];
        let mut at = positions.start;
        let mut holes = None;
        while at < positions.end {
            if self.pages >= MOST_PAGES || self.kept >= MOST_KEPT {
                let left = positions.end.saturating_sub(at);
                thread.missing = thread.missing.saturating_add(left);
                self.damage.say(|| "not all events were read: there are too many".to_owned());
                break;
            }
            self.pages = self.pages.saturating_add(1);
            let there = self.page(thread.slot, at, &mut buffer);
            // Where a file has ended, what is behind is not there either, up to the end of the ring.
            let step = if there == 0 && self.source.size().is_some() { self.header.ring_size } else { PAGE_BYTES };
            let next = (at & !step.wrapping_sub(1)).saturating_add(step).min(positions.end);
            let oldest = self.slot(thread.slot).filter(|now| now.is_of(slot)).map_or(0, |now| now.oldest(&self.header));
            if at < oldest {
                // It is being overwritten: part of what was read may be newer.
                thread.overwritten = thread.overwritten.saturating_add(next.saturating_sub(at));
                at = next;
                continue;
            }
            let known = buffer.get(..there).unwrap_or_default();
            let known_to = (at & !(PAGE_BYTES - 1)).saturating_add(there as u64).clamp(at, next);
            thread.missing = thread.missing.saturating_add(next.saturating_sub(known_to));
            if known == [0; PAGE].get(..there).unwrap_or_default() {
                if known_to > at {
                    holes.get_or_insert(at);
                    thread.holes = thread.holes.saturating_add(known_to.saturating_sub(at));
                }
                at = next;
                continue;
            }
            for piece in Page::new(known, at..next) {
                match piece {
                    Piece::Record(record) => {
                        let event = self.event(thread.slot, &record);
                        self.kept = self.kept.saturating_add(size(&event));
                        thread.events.push(event);
                    }
                    Piece::Hole { position, bytes } => {
                        holes.get_or_insert(position);
                        thread.holes = thread.holes.saturating_add(bytes);
                    }
                }
            }
            at = next;
        }
        holes
    }

    /// Reads the page of a position; says how many bytes of it there are.
    fn page(&self, index: u64, position: u64, into: &mut [u8; PAGE]) -> usize {
        let Some(at) = self.header.page(index, position) else { return 0 };
        if self.source.read(at, into) {
            return PAGE;
        }
        let rest = self.source.size().and_then(|size| usize::try_from(size.checked_sub(at)?).ok()).unwrap_or(0);
        let there = into.get_mut(..rest.min(PAGE)).unwrap_or_default();
        if self.source.read(at, there) { there.len() } else { 0 }
    }

    fn event(&mut self, slot: u64, record: &Record<'_>) -> Event {
        let (time, position) = (record.time, record.position);
        let Some(described) = self.site(record.site) else {
            self.damage
                .say(|| format!("slot {slot}, position {position:#x}: the site {} is not described", record.site));
            return self.unexplained(record);
        };
        let mut fields = described.kinds.fields(record);
        let values = fields.by_ref().map(|seen| FieldValue::of(&seen));
        let mut read: Vec<_> = described.names.iter().map(Arc::clone).zip(values).collect();
        if !fields.rest().is_empty() {
            self.damage
                .say(|| format!("slot {slot}, position {position:#x}: `{}` is not what its site says", described.name));
            read.extend(self.words(fields.rest()));
        }
        let Described { name, target, file, line, level, .. } = &*described;
        let (name, target, file) = (Arc::clone(name), Arc::clone(target), Arc::clone(file));
        Event { time, position, uncommitted: false, name, target, file, line: *line, level: *level, fields: read }
    }

    fn site(&mut self, number: u16) -> Option<Arc<Described>> {
        if let Some(known) = self.sites.get(&number) {
            return known.clone();
        }
        let described = self.described(number).map(Arc::new);
        self.sites.insert(number, described.clone());
        described
    }

    fn described(&self, number: u16) -> Option<Described> {
        let (at, rest) = self.header.site(number)?;
        let mut head = [0; 8];
        let read = self.source.read(at, &mut head);
        let size = Site::bytes(u64::from_le_bytes(head)).filter(|size| read && *size as u64 <= rest)?;
        let mut bytes = vec![0; size];
        let site = self.source.read(at, &mut bytes).then(|| Site::decode(&bytes))??;
        Some(Described {
            name: site.event.into(),
            target: site.target.into(),
            file: site.file.into(),
            line: site.line,
            level: level(site.level),
            names: site.names().map(Arc::from).collect(),
            kinds: site.kinds,
        })
    }

    /// An event of which only the time is known, and words of its fields.
    fn unexplained(&mut self, record: &Record<'_>) -> Event {
        let name = self.unnamed.entry(record.site).or_insert_with(|| format!("site {}", record.site).into());
        let (name, target, file) = (Arc::clone(name), Arc::clone(&self.nothing), Arc::clone(&self.nothing));
        let (time, position, fields) = (record.time, record.position, self.words(record.fields));
        Event { time, position, uncommitted: false, name, target, file, line: 0, level: None, fields }
    }

    /// The first of the words that nothing explains: no more than an event has fields.
    fn words(&self, bytes: &[u8]) -> Vec<(Arc<str>, FieldValue)> {
        let each = bytes.as_chunks().0.iter().map(|word| FieldValue::Address(u64::from_le_bytes(*word)));
        self.words.iter().map(Arc::clone).zip(each).collect()
    }
}

fn level(index: u8) -> Option<&'static str> {
    (index != site::NO_LEVEL).then(|| site::LEVELS.get(usize::from(index)).copied())?
}

/// Bytes that keeping an event takes, more or less.
fn size(event: &Event) -> usize {
    let text = |value: &FieldValue| match value {
        FieldValue::Text { text, .. } => text.len().saturating_add(APIECE),
        _ => 0,
    };
    let fields = size_of_val(&*event.fields).saturating_add(event.fields.iter().map(|(_, value)| text(value)).sum());
    size_of::<Event>().saturating_add(fields).saturating_add(APIECE)
}

/// What a slot itself says.
fn said(index: u64, slot: &Slot) -> ThreadEvents {
    ThreadEvents {
        slot: index,
        pid: slot.pid,
        tid: slot.tid,
        name: slot.name().map(str::to_owned),
        began: slot.began,
        dropped: slot.dropped,
        refused: slot.refused,
        left: slot.left,
        ..ThreadEvents::default()
    }
}
