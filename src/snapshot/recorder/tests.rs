//! Which file is the recorder that was mapped, and what of a core is no gap.

use super::super::{AddressSpace, Process};
use super::*;
use std::cell::RefCell;
use std::rc::Rc;
use surestack_recorder::Geometry;
use surestack_recorder::layout::{SMALLEST_RING, VERSION, header, slot, state, sum};
use surestack_walk::Bytes;

/// A recorder that a process began at a moment, and that nobody wrote into.
fn drawn(process: u64, realtime: u64) -> (Vec<u8>, Recording) {
    let geometry = Geometry::new(1, SMALLEST_RING, 4096, 1).unwrap();
    let mut bytes = vec![0; geometry.size];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    let word = |number: usize| number as u64;
    for (at, value) in [
        (header::VERSION, u64::from(VERSION)),
        (header::FILE_SIZE, word(geometry.size)),
        (header::ANNOTATIONS, word(geometry.annotations)),
        (header::ANNOTATION_SLOTS, word(geometry.annotation_slots)),
        (header::SITES, word(geometry.sites)),
        (header::SITES_SIZE, word(geometry.sites_size)),
        (header::THREADS, word(geometry.threads)),
        (header::THREAD_SLOTS, word(geometry.thread_slots)),
        (header::RINGS, word(geometry.rings)),
        (header::RING_SIZE, word(geometry.ring_size)),
        (header::PROCESS, process),
        (header::REALTIME, realtime),
    ] {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let sum = sum(&bytes[..header::SUM]).to_le_bytes();
    bytes[header::SUM..header::SIZE].copy_from_slice(&sum);
    let recording = Recording::read(&InMemory { memory: &Bytes { address: 0, bytes: &bytes }, begin: 0 }).unwrap();
    (bytes, recording)
}

fn mapped(start: u64, end: u64) -> Mapped {
    let file = Some((PathBuf::from("/var/flight"), 0));
    Mapped { start, end, executable: Some(false), writable: Some(true), file, probe: None }
}

#[test]
fn another_process_a_later_beginning_and_a_larger_mapping_tell_a_recorder_from_the_one_that_was_mapped() {
    let (bytes, recording) = drawn(7, 5_000_000_000);
    let moment = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let size = bytes.len() as u64;
    let candidate = Candidate { begin: 0x1000, file: None, header: recording.header, source: Box::new(&*bytes) };
    let same = |size, pid, before| {
        let mut slots = SLOTS;
        is_the_same(&candidate, &mapped(0x1000, 0x1000 + size), pid, before, &mut slots)
    };
    assert_eq!(same(size, Some(7), moment(5)), Ok(()));
    assert_eq!(same(4096, None, None), Ok(()));
    assert!(same(size, Some(8), None).unwrap_err().contains("process 7 began it, and 8 wrote nothing"));
    assert!(same(size, Some(7), moment(2)).unwrap_err().contains("later"));
    assert!(same(size + 1, Some(7), None).unwrap_err().contains("more was mapped"));
}

#[test]
fn a_file_is_looked_for_under_its_name_and_aside_in_other_roots_first() {
    let find = Find { sysroots: vec![PathBuf::from("/srv")], ..Find::default() };
    let names = |mapped: &str| {
        let (was_one, paths) = candidates(Path::new(mapped), &find);
        (was_one, paths.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
    };
    let expected = |last: &str| {
        let names = ["/var/flight", "/var/flight.previous", last];
        names.iter().flat_map(|name| [format!("/srv{name}"), (*name).to_owned()]).collect::<Vec<_>>()
    };
    assert_eq!(names("/var/flight.4711.new (deleted)"), (true, expected("/var/flight.4711.new")));
    assert_eq!(names("/var/flight"), (false, expected("/var/flight")));
    assert!(!names("/var/flight.abc.new").0);
}

#[test]
fn what_is_left_out_of_a_recorder_is_no_gap_and_what_is_around_it_stays_one() {
    let (bytes, recording) = drawn(7, 0);
    let (low, high) = (0x10_0000, 0x10_0000 + bytes.len() as u64);
    let found = FoundRecorder { place: RecorderPlace::Memory(low), recording };
    let gap = |start, end| Gap::Filtered { start, end };
    let gaps = vec![gap(0x1000, low), gap(low - 64, low + 64), gap(low + 64, high), gap(high - 64, high + 64)];
    let left = vec![gap(0x1000, low), gap(low - 64, low), gap(high, high + 64)];
    assert_eq!(without_its_gaps(gaps.clone(), &found), left);
    let in_record = FoundRecorder { place: RecorderPlace::Record, ..found };
    assert_eq!(without_its_gaps(gaps.clone(), &in_record), gaps);
}

/// How far apart recorders are mapped here.
const APART: u64 = 1 << 20;

/// Recorders one behind the other, and where each was read: which it was, and at what offset.
struct Many {
    recorders: Vec<Vec<u8>>,
    reads: Rc<RefCell<Vec<(u64, u64)>>>,
}

impl Memory for Many {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), surestack_walk::Error> {
        let (which, offset) = (address / APART, address % APART);
        self.reads.borrow_mut().push((which, offset));
        let bytes = usize::try_from(which).ok().and_then(|which| self.recorders.get(which));
        Bytes { address: 0, bytes: bytes.map_or(&[], |bytes| bytes) }.read(offset, into)
    }
}

/// A recorder that one process began, and in which another filled a ring.
fn written(process: u64, by: u64) -> Vec<u8> {
    let (mut bytes, recording) = drawn(process, 0);
    let at = usize::try_from(recording.header.threads).unwrap();
    for (within, value) in [
        (slot::STATE, state::USED),
        (slot::OWNER, by << 32 | by),
        (slot::RESERVE, recording.header.ring_size),
        (slot::COMMIT, recording.header.ring_size),
    ] {
        bytes[at + within..at + within + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// What process 7 is found to have had of these, where all was read, and in which of them rings were.
fn of_many(recorders: Vec<Vec<u8>>) -> (FoundRecorder, Vec<(u64, u64)>, Vec<u64>) {
    let rings = drawn(7, 0).1.header.rings;
    let mapping = |(which, bytes): (u64, &Vec<u8>)| Mapped {
        file: None,
        ..mapped(which * APART, which * APART + bytes.len() as u64)
    };
    let mappings = (0..).zip(&recorders).map(mapping).collect();
    let reads = Rc::default();
    let snapshot = Snapshot {
        arch: &surestack_walk::X86_64,
        process: Process { pid: Some(7), ..Process::default() },
        threads: Vec::new(),
        absent: Vec::new(),
        space: AddressSpace { mappings, ..AddressSpace::default() },
        memory: Box::new(Many { recorders, reads: Rc::clone(&reads) }),
        gaps: Vec::new(),
        signed_bits: 0,
    };
    let found = find(&snapshot, &Find::default(), None).unwrap().unwrap();
    let reads = reads.take();
    let mut decoded: Vec<_> = reads.iter().filter(|(_, at)| *at >= rings).map(|(which, _)| *which).collect();
    decoded.dedup();
    (found, reads, decoded)
}

#[test]
fn of_three_hundred_recorders_of_other_processes_one_is_read_and_few_are_looked_at() {
    let (_, alone, _) = of_many(vec![written(9, 9)]);
    let (found, reads, decoded) = of_many(vec![written(9, 9); 300]);
    assert_eq!((found.place, decoded), (RecorderPlace::Memory(0), vec![0]));
    // What it begins with, two copies of the header, and a slot.
    let most = alone.len() + 64 * 4;
    assert!(reads.len() <= most, "{} reads, and {} of one alone", reads.len(), alone.len());
    assert!(found.recording.damage.iter().any(|said| said.contains("the first 64 ")), "{:?}", found.recording.damage);
}

#[test]
fn a_process_s_own_recorder_comes_first_then_one_that_it_wrote_into_then_any() {
    let recorders = [written(9, 9), written(9, 9), written(9, 7), written(8, 7), written(7, 9), written(7, 7)];
    for (which, among) in [(4, 6), (2, 4), (0, 2)] {
        let (found, _, decoded) = of_many(recorders[..among].to_vec());
        assert_eq!((found.place, decoded), (RecorderPlace::Memory(which * APART), vec![which]));
        assert!(!found.recording.damage.iter().any(|said| said.contains("looked at")), "{:?}", found.recording.damage);
    }
}
