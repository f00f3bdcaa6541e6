//! A recorder that was read, whole or in part.

use super::reader::{self, Reader};
use super::{Event, FieldValue, Live, Losses, Source, ThreadEvents, merged};
use crate::error::Error;
use std::path::Path;
use surestack_recorder::decode::{Annotation as Slot, Counters, Header, Refused};
use surestack_recorder::layout::{annotation, header};

/// Most annotations that are looked at: no recorder has more.
const MOST_ANNOTATIONS: u64 = 1 << 16;

/// What a recorder holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Where everything lies, and whose it is.
    pub header: Header,
    /// What held for the whole process when it ended, by key.
    pub annotations: Vec<Annotation>,
    /// The threads that have a slot, with their events.
    pub threads: Vec<ThreadEvents>,
    /// What is wrong, and where: the first of it, and how much more there is. Nothing here is a loss of events that was
    /// meant to be.
    pub damage: Vec<String>,
    /// What is not here, by name.
    pub losses: Losses,
}

/// Something that held for the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// What.
    pub key: String,
    /// Its newest value that is whole; nothing where the first was never finished.
    pub value: Option<FieldValue>,
}

impl Recording {
    /// Reads a recorder's file.
    ///
    /// # Errors
    /// Where it cannot be read, or is no recorder. What is damaged in part is read in part.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let source = Live::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::read(&source).map_err(|refused| not_one(path, &source, refused))
    }

    /// The header alone of a recorder, by which it is told from others.
    pub(crate) fn header_of(source: &dyn Source) -> Result<Header, Refused> {
        reader::header(source).map(|(header, _)| header)
    }

    /// Reads a recorder of which a source has the bytes, or pieces of them. It may be written meanwhile.
    ///
    /// # Errors
    /// Where no copy of its header holds.
    pub fn read(source: &dyn Source) -> Result<Self, Refused> {
        let (header, mut damage) = reader::header(source)?;
        if let Some(size) = source.size().filter(|size| *size < header.file_size) {
            damage.say(|| format!("the file ends after {size} bytes, and had {}", header.file_size));
        }
        let mut reader = Reader::new(source, header, damage);
        let annotations = annotations(source, &header);
        let taken = reader.taken().into_iter();
        let threads: Vec<_> =
            taken.filter_map(|index| reader.thread(index, |slot| slot.base)).map(|(thread, ..)| thread).collect();
        let mut first_page = [0; header::END];
        let counters =
            source.read(0, &mut first_page).then(|| Counters::decode(&first_page)).flatten().unwrap_or_default();
        let losses = Losses::of(&counters, &threads);
        Ok(Self { header, annotations, threads, damage: reader.damage.into_sentences(), losses })
    }

    /// All events of all threads, oldest first.
    pub fn merged(&self) -> Vec<(&ThreadEvents, &Event)> {
        merged(&self.threads)
    }

    /// The last events, of one thread or of all, oldest first.
    pub fn last(&self, tid: Option<u32>, count: usize) -> Vec<(&ThreadEvents, &Event)> {
        let mut all = self.merged();
        all.retain(|(thread, _)| tid.is_none_or(|tid| tid == thread.tid));
        all.split_off(all.len().saturating_sub(count))
    }
}

fn annotations(source: &dyn Source, header: &Header) -> Vec<Annotation> {
    let mut bytes = [0; annotation::SIZE];
    let mut all = Vec::new();
    let slots = header.annotation_slots;
    let room = source.size().map_or(u64::MAX, |size| size.saturating_sub(header.annotations));
    for index in 0..slots.min(MOST_ANNOTATIONS).min(room / annotation::SIZE as u64) {
        let read = header.annotation(index).is_some_and(|at| source.read(at, &mut bytes));
        let Some(slot) = Slot::decode(&bytes).filter(|_| read) else { continue };
        // Of several with one key the first from where it belongs counts, but not before it has a value.
        let away = index.checked_sub(slot.belongs(slots)).unwrap_or_else(|| index.saturating_add(slots));
        let value = slot.value.as_ref().map(FieldValue::of);
        all.push((away, Annotation { key: slot.key.to_owned(), value }));
    }
    all.sort_by(|(away, one), (further, other)| {
        let order = |away: u64, one: &Annotation| (one.value.is_none(), away);
        one.key.cmp(&other.key).then(order(*away, one).cmp(&order(*further, other)))
    });
    all.dedup_by(|(_, other), (_, one)| one.key == other.key);
    all.into_iter().map(|(_, one)| one).collect()
}

/// That a file is no recorder, and what it is instead where that is known.
pub fn not_one(path: &Path, source: &dyn Source, refused: Refused) -> Error {
    let mut begin = [0; 8];
    let is_known = source.read(0, &mut begin);
    let why = match refused {
        _ if source.size() == Some(0) => "it is empty".to_owned(),
        Refused::Magic if is_known && begin.starts_with(b"\x7fELF") => {
            "it is an ELF file (`surestack core` shows what a core has of a recorder)".to_owned()
        }
        Refused::Magic if begin == surestack_capture::record::MAGIC => {
            "it is what a crash handler recorded (`surestack report` shows it)".to_owned()
        }
        Refused::Sum => "both copies of its header are damaged".to_owned(),
        _ => refused.to_string(),
    };
    Error::NotRecorder { path: path.into(), why }
}
