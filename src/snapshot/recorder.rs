//! The flight recorder of a snapshot: in its memory, by what it begins with, or in the file that was mapped there.
//!
//! A core holds the memory of a recorder that has no file. A file's is left out of cores unless the user asks for it
//! (`/proc/PID/coredump_filter`, bit 3): then the file itself is read, if it still is the same recorder.

use super::{Gap, Mapped, Snapshot};
use crate::image::Find;
use crate::recorder::{Header, Live, Recording, Refused, Source};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use surestack_recorder::decode::Slot;
use surestack_recorder::layout::{MAGIC, slot};
use surestack_walk::Memory;

/// Most files that are opened for a mapping.
const FILES: usize = 64;
/// Most mappings that begin as a recorder does and are looked at: a process has its own, and those of its forebears.
const CANDIDATES: usize = 64;
/// Most slots of threads that are looked at to choose among them, in all: no recorder has more.
const SLOTS: u64 = 1 << 20;
/// By how much a core's time may lie before its end: file systems and archives keep whole seconds, or two.
const COARSE: Duration = Duration::from_secs(2);
/// What a recorder without a file is called where mappings are listed.
const IN_MEMORY: &[u8] = b"/memfd:surestack-recorder";

/// A recorder that was found.
#[derive(Clone, Debug)]
pub struct FoundRecorder {
    /// Where.
    pub place: RecorderPlace,
    /// What it says.
    pub recording: Recording,
}

/// Where a recorder was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecorderPlace {
    /// In the record of a crash: pieces of it.
    Record,
    /// In a process that lives, by way of its mapping.
    Process,
    /// In the process's memory, at this address.
    Memory(u64),
    /// In the file that was mapped at this address, whose bytes the core leaves out.
    File(PathBuf, u64),
}

/// The recorder of a process that lives. It is read as it is written.
pub fn of_process(pid: u32) -> Option<FoundRecorder> {
    let recording = Recording::read(&crate::recorder::of_process(pid).ok()?).ok()?;
    Some(FoundRecorder { place: RecorderPlace::Process, recording })
}

/// The recorder's memory, as a snapshot has it.
struct InMemory<'s> {
    memory: &'s dyn Memory,
    begin: u64,
}

impl Source for InMemory<'_> {
    fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        self.begin.checked_add(offset).is_some_and(|at| self.memory.read(at, into).is_ok())
    }

    fn size(&self) -> Option<u64> {
        None
    }
}

/// A recorder of which the header was read, and is kept, and nothing else.
struct Candidate<'s> {
    /// Where it was mapped.
    begin: u64,
    /// The file that is read instead.
    file: Option<PathBuf>,
    header: Header,
    source: Box<dyn Source + 's>,
}

impl Candidate<'_> {
    /// Whether a process has a slot in it, among so many as are left to look at.
    fn has_slot_of(&self, pid: u32, left: &mut u64) -> bool {
        let mut bytes = [0; slot::SIZE];
        (0..self.header.thread_slots.min(*left)).any(|index| {
            *left = left.saturating_sub(1);
            let read = self.header.slot(index).is_some_and(|at| self.source.read(at, &mut bytes));
            read && Slot::decode(&bytes).is_some_and(|slot| slot.is_used() && slot.pid == pid)
        })
    }

    fn is_own(&self, pid: Option<u32>) -> bool {
        pid.is_none_or(|pid| self.header.process == pid)
    }

    /// All that it says.
    fn read(self) -> Result<FoundRecorder, String> {
        let recording = Recording::read(&*self.source).map_err(|why| unreadable(self.begin, why))?;
        let begin = self.begin;
        let place = self.file.map_or(RecorderPlace::Memory(begin), |path| RecorderPlace::File(path, begin));
        Ok(FoundRecorder { place, recording })
    }
}

/// The recorder that the process had mapped: the one that it began itself, or else the first in which it wrote, or else the
/// first. They are told apart by their headers and slots, and one alone is read. Files are looked for as `find` says, and are
/// not it if they were begun after `before`.
///
/// A core can be made to hold any number of them. What begins like one behind the first 64 is passed over, and what is read
/// instead of the process's own says so.
///
/// # Errors
/// A sentence, where there is one whose contents cannot be had.
pub fn find(snapshot: &Snapshot, find: &Find, before: Option<SystemTime>) -> Result<Option<FoundRecorder>, String> {
    let pid = snapshot.process.pid;
    let (mut written, mut first, mut why) = (None, None, None);
    let (mut tried, mut only, mut slots) = (0, None, SLOTS);
    for mapped in snapshot.space.mappings.iter().filter(|mapped| may_begin(mapped)) {
        if tried >= CANDIDATES {
            only = Some(format!("only the first {CANDIDATES} mappings that begin as a recorder does were looked at"));
            break;
        }
        let source = InMemory { memory: &*snapshot.memory, begin: mapped.start };
        let mut magic = [0; MAGIC.len()];
        let candidate = match source.read(0, &mut magic) {
            true if magic != MAGIC => continue,
            true => in_memory(source).map(Some),
            false => in_file(mapped, pid, find, before, &mut slots),
        };
        match candidate {
            Ok(None) => continue,
            Ok(Some(own)) if own.is_own(pid) => return own.read().map(Some),
            Ok(Some(other)) => match pid {
                Some(pid) if written.is_none() && other.has_slot_of(pid, &mut slots) => written = Some(other),
                _ => first = first.or(Some(other)),
            },
            Err(refused) => why = why.or(Some(refused)),
        }
        tried += 1;
    }
    match (written.or(first), why) {
        (Some(chosen), _) => {
            let mut found = chosen.read()?;
            found.recording.damage.extend(only);
            Ok(Some(found))
        }
        (None, Some(why)) => Err([Some(why), only].into_iter().flatten().collect::<Vec<_>>().join("; ")),
        (None, None) => Ok(None),
    }
}

/// Takes out of the gaps what a recorder's memory lacks: rings that nobody has had are left out of cores, and what is missing
/// of those that somebody had the recorder says itself.
pub fn without_its_gaps(gaps: Vec<Gap>, recorder: &FoundRecorder) -> Vec<Gap> {
    let (RecorderPlace::Memory(low) | RecorderPlace::File(_, low)) = recorder.place else { return gaps };
    let high = low.saturating_add(recorder.recording.header.file_size);
    let parts = |gap| match gap {
        Gap::Filtered { start, end } if start < high && low < end => {
            let around = [(start, end.min(low)), (start.max(high), end)];
            let parts = around.into_iter().filter(|(start, end)| start < end);
            parts.map(|(start, end)| Gap::Filtered { start, end }).collect()
        }
        other => vec![other],
    };
    gaps.into_iter().flat_map(parts).collect()
}

/// Whether a recorder may begin here: it is writable, no code, and a file's beginning if it is of a file.
fn may_begin(mapped: &Mapped) -> bool {
    let begins = mapped.file.as_ref().is_none_or(|(_, offset)| *offset == 0);
    begins && mapped.writable != Some(false) && mapped.executable != Some(true)
}

fn unreadable(begin: u64, why: Refused) -> String {
    format!("all of the flight recorder at {begin:#x}: {why}")
}

fn in_memory(source: InMemory<'_>) -> Result<Candidate<'_>, String> {
    let begin = source.begin;
    let header = Recording::header_of(&source).map_err(|why| unreadable(begin, why))?;
    Ok(Candidate { begin, file: None, header, source: Box::new(source) })
}

/// The recorder in the file that is mapped here and not in the snapshot, if it is one; why not, if it was one.
fn in_file(
    mapped: &Mapped,
    pid: Option<u32>,
    find: &Find,
    before: Option<SystemTime>,
    slots: &mut u64,
) -> Result<Option<Candidate<'static>>, String> {
    let Some((path, _)) = &mapped.file else { return Ok(None) };
    let missing = |why: String| {
        let at = mapped.start;
        Err(format!("all of the flight recorder at {at:#x}, which was left out (/proc/PID/coredump_filter): {why}"))
    };
    if path.as_os_str().as_bytes().starts_with(IN_MEMORY) {
        return missing("it had no file".to_owned());
    }
    let (was_one, paths) = candidates(path, find);
    let mut refused = None;
    for path in paths {
        let Ok(live) = Live::open(&path) else { continue };
        let Ok(header) = Recording::header_of(&live) else { continue };
        let candidate = Candidate { begin: mapped.start, file: Some(path.clone()), header, source: Box::new(live) };
        match is_the_same(&candidate, mapped, pid, before, slots) {
            Ok(()) => return Ok(Some(candidate)),
            Err(why) => refused = refused.or_else(|| Some(format!("{} is another one: {why}", path.display()))),
        }
    }
    match refused {
        Some(why) => missing(why),
        None if was_one => missing(format!("{} is not there any more", path.display())),
        None => Ok(None),
    }
}

/// Where a recorder's file may be by now that was mapped by this name, and whether the name alone says that it was one. It is
/// made under a name of its own (`PATH.PID.new`), and a later run puts it aside (`PATH.previous`).
fn candidates(mapped: &Path, find: &Find) -> (bool, Vec<PathBuf>) {
    let bytes = mapped.as_os_str().as_bytes();
    let name = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    let made = name.strip_suffix(b".new").and_then(|name| {
        let dot = name.iter().rposition(|byte| *byte == b'.')?;
        let (path, number) = name.split_at_checked(dot)?;
        number.iter().skip(1).all(u8::is_ascii_digit).then_some(path)
    });
    let path = made.unwrap_or(name);
    let names = [path.to_vec(), [path, b".previous"].concat(), name.to_vec()];
    let paths = names.iter().map(|name| Path::new(OsStr::from_bytes(name)));
    (made.is_some(), paths.flat_map(|path| find.anywhere(path)).take(FILES).collect())
}

/// Whether a file's recorder is the one that was mapped.
fn is_the_same(
    candidate: &Candidate<'_>,
    mapped: &Mapped,
    pid: Option<u32>,
    before: Option<SystemTime>,
    slots: &mut u64,
) -> Result<(), String> {
    let header = &candidate.header;
    let mut wrote = |pid: u32| header.process == pid || candidate.has_slot_of(pid, slots);
    if let Some(pid) = pid.filter(|pid| !wrote(*pid)) {
        return Err(format!("process {} began it, and {pid} wrote nothing into it", header.process));
    }
    if mapped.end.saturating_sub(mapped.start) > header.file_size {
        return Err(format!("it has {} bytes, and more was mapped", header.file_size));
    }
    let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(header.realtime));
    let latest = before.and_then(|before| before.checked_add(COARSE));
    if began.zip(latest).is_some_and(|(began, latest)| began > latest) {
        return Err("it was begun later".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
