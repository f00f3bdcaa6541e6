//! Files that are no recorder, or not all of one.

use crate::{killed, stdout, surestack, temporary, text};
use std::fs;
use std::path::Path;
use surestack::recorder::Recording;
use surestack_recorder::layout::{VERSION, header, sum};

pub const TESTS: [(&str, fn()); 4] = [
    ("what_is_no_recorder_is_named", what_is_no_recorder_is_named),
    ("a_header_is_read_from_either_copy", a_header_is_read_from_either_copy),
    ("a_truncated_file_shows_what_is_there", a_truncated_file_shows_what_is_there),
    ("a_damaged_record_is_said_and_the_others_are_shown", a_damaged_record_is_said_and_the_others_are_shown),
];

/// What is said of a file of these bytes, which cannot be read.
fn refused(name: &str, bytes: &[u8]) -> String {
    let path = temporary::path(name);
    fs::write(&path, bytes).unwrap();
    refused_at(&path)
}

fn refused_at(path: &Path) -> String {
    for more in [&[][..], &["--json"], &["--follow"]] {
        let output = surestack(&[more, &[text(path)]].concat());
        assert_eq!((output.status.code(), stdout(&output)), (Some(3), String::new()));
    }
    String::from_utf8(surestack(&[text(path)]).stderr).unwrap()
}

fn what_is_no_recorder_is_named() {
    let whole = fs::read(killed("named")).unwrap();
    assert!(refused("empty", b"").contains("is not a flight recorder: it is empty; give the file"));
    assert!(refused("short", &whole[..100]).contains("it has 100 bytes, and the header alone takes 512"));
    assert!(refused("other", &[b'x'; 9000]).contains("it does not begin as a recorder does"));
    assert!(refused("elf", &fs::read("/bin/sh").unwrap()).contains("it is an ELF file (`surestack core`"));
    assert!(refused("record", b"\x89SURESTK and more").contains("(`surestack report` shows it)"));
    let mut other = whole.clone();
    for copy in header::COPIES {
        other[copy + header::VERSION] = 7;
        let found = sum(&other[copy..copy + header::SUM]);
        other[copy + header::SUM..copy + header::SIZE].copy_from_slice(&found.to_le_bytes());
    }
    let expected = format!("its format has version 7, and only {VERSION} can be read");
    assert!(refused("version", &other).contains(&expected));
    let mut damaged = whole;
    header::COPIES.iter().for_each(|copy| damaged[copy + header::RINGS] ^= 1);
    assert!(refused("header", &damaged).contains("both copies of its header are damaged"));
    assert!(refused_at(&std::env::temp_dir()).contains("it is no regular file"));
    assert!(refused_at(Path::new("/nowhere/at/all")).contains("cannot read /nowhere/at/all"));
}

fn a_header_is_read_from_either_copy() {
    let path = killed("copies");
    let (whole, expected) = (fs::read(&path).unwrap(), Recording::open(&path).unwrap());
    for (copy, which) in header::COPIES.into_iter().zip(["first", "second"]) {
        let mut damaged = whole.clone();
        damaged[copy + header::SITES] ^= 4;
        fs::write(&path, damaged).unwrap();
        let found = Recording::open(&path).unwrap();
        assert_eq!((&found.threads, found.damage.len()), (&expected.threads, 1));
        assert!(found.damage[0].contains(which), "{:?}", found.damage);
        let output = surestack(&[text(&path)]);
        assert_eq!(output.status.code(), Some(4));
        assert!(stdout(&output).contains("\ndamaged\n  the "), "{}", stdout(&output));
    }
}

fn a_truncated_file_shows_what_is_there() {
    let path = killed("truncated");
    let (whole, expected) = (fs::read(&path).unwrap(), Recording::open(&path).unwrap());
    // The second thread's ring is not there any more, but for its first record's first half.
    let second = expected.header.page(1, 0).unwrap() as usize + 24;
    fs::write(&path, &whole[..second]).unwrap();
    let found = Recording::open(&path).unwrap();
    assert_eq!(found.threads[0], expected.threads[0]);
    assert_eq!((found.threads[1].events.len(), found.threads[1].missing > 0), (0, true));
    assert_eq!(found.damage[0], format!("the file ends after {second} bytes, and had {}", whole.len()));
    let output = surestack(&[text(&path)]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stdout(&output).contains("bytes of events are not here"), "{}", stdout(&output));
    for size in [header::SIZE, 4096, 5000, 30_000] {
        fs::write(&path, &whole[..size]).unwrap();
        assert_eq!(surestack(&[text(&path)]).status.code(), Some(4), "{size} bytes");
    }
}

fn a_damaged_record_is_said_and_the_others_are_shown() {
    let path = killed("record-damaged");
    let (mut bytes, expected) = (fs::read(&path).unwrap(), Recording::open(&path).unwrap());
    let worker = &expected.threads[1];
    let at = expected.header.page(1, worker.events[0].position).unwrap() + worker.events[0].position % 4096;
    bytes[at as usize + 16] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = Recording::open(&path).unwrap();
    assert_eq!(found.threads[0], expected.threads[0]);
    assert_eq!(found.threads[1].events, worker.events[1..]);
    let size = worker.events[1].position - worker.events[0].position;
    let position = worker.events[0].position;
    assert_eq!(found.damage, [format!("{size} bytes of slot 1 are no record, from position {position:#x} on")]);
    assert_eq!(surestack(&[text(&path)]).status.code(), Some(4));
}
