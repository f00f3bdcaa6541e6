//! Which file is the recorder that was mapped, and what of a core is no gap.

use super::*;
use surestack_recorder::Geometry;
use surestack_recorder::layout::{SMALLEST_RING, VERSION, header, sum};
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
    let same = |size, pid, before| is_the_same(&recording, &mapped(0x1000, 0x1000 + size), pid, before);
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
