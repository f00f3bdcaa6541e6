//! Everything that can be written comes back, and nothing that cannot have been written does harm.

use super::check::head;
use super::codes::{Coded, Variants};
use super::fields::{Fields, Payload};
use super::*;
use std::format;
use std::string::String;
use std::vec::Vec;
use surestack_reliable::Doubt;
use surestack_walk::{FoundBy, X86_64};

/// A file in memory that refuses what `refused` says.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    writes: usize,
    refuse: bool,
}

impl Sink for &mut File {
    type Error = ();

    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.writes += 1;
        if self.refuse {
            return Err(());
        }
        self.bytes.extend(bytes);
        Ok(())
    }
}

fn written(items: &[Item<'_>]) -> Vec<u8> {
    let mut file = File::default();
    let mut writer = Writer::new(&mut file);
    writer.begin(&X86_64).unwrap();
    items.iter().for_each(|item| writer.put(item).unwrap());
    writer.flush().unwrap();
    file.bytes
}

/// Items as text, since not all that is in them can be compared.
fn said(bytes: &[u8]) -> Vec<String> {
    Items::new(bytes).map(|item| format!("{item:?}")).collect()
}

fn expected(items: &[Item<'_>]) -> Vec<String> {
    items.iter().map(|item| format!("Ok({item:?})")).collect()
}

fn done(ns: u64) -> Item<'static> {
    Item::Done { ns }
}

#[test]
fn every_variant_of_everything_comes_back_as_it_was() {
    let items = Item::all();
    assert!(items.len() > 100, "{} items", items.len());
    assert_eq!(said(&written(&items)), expected(&items));
    // What stands deep in items, each by itself and to the last byte.
    fn alone<T: for<'a> Coded<'a> + core::fmt::Debug>() -> usize {
        let samples = T::samples();
        for sample in &samples {
            let mut fields = Fields::new();
            sample.put(&mut fields);
            let bytes = fields.pieces().flatten().copied().collect::<Vec<u8>>();
            let mut payload = Payload::new(&bytes);
            assert_eq!(format!("{:?}", T::take(&mut payload)), format!("Some({sample:?})"));
            assert_eq!(payload.number::<1>(), None, "{sample:?} leaves bytes behind");
        }
        samples.len()
    }
    assert!(alone::<Doubt>() >= 18 + 13 + 40 && alone::<FoundBy>() >= 11 && alone::<surestack_reliable::Noted>() > 11);
    alone::<surestack_walk::End>();
    alone::<surestack_reliable::Verdict>();
}

#[test]
fn no_two_variants_have_the_same_number() {
    let mut codes = Item::all().iter().map(Variants::code).collect::<Vec<_>>();
    codes.dedup();
    assert!(codes.is_sorted());
    assert_eq!(codes, (1..=19).collect::<Vec<_>>());
    assert!((0..=u8::MAX).all(|code| Item::knows(code) == codes.contains(&code)));
}

#[test]
fn a_record_says_of_which_machine_it_is() {
    let bytes = written(&[]);
    assert_eq!((bytes.len(), Items::new(&bytes).machine()), (HEAD, Some(X86_64.machine)));
    assert_eq!(said(&bytes), expected(&[]));
}

#[test]
fn items_begin_at_multiples_of_eight_and_go_out_together() {
    let names: [&[u8]; 9] = [b"", b"1", b"12", b"123", b"1234", b"12345", b"123456", b"1234567", b"12345678"];
    let mut file = File::default();
    let mut writer = Writer::new(&mut file);
    for text in names {
        writer.put(&Item::Message { kind: MessageKind::Panic, text }).unwrap();
    }
    writer.flush().unwrap();
    writer.flush().unwrap();
    assert_eq!((file.writes, file.bytes.len()), (1, 4 * 16 + 5 * 24));
    assert_eq!(said(&file.bytes).len(), 1 + names.len());
}

#[test]
fn what_is_longer_than_the_buffer_is_written_whole_and_what_is_too_long_is_cut() {
    let long = [b'x'; LONGEST + 1];
    let message = |length| Item::Message { kind: MessageKind::Assert, text: &long[..length] };
    let bytes = written(&[message(5000), done(1), message(LONGEST + 1), done(2)]);
    assert_eq!(said(&bytes), expected(&[message(5000), done(1), message(LONGEST), done(2)]));
}

#[test]
fn an_item_that_is_not_whole_says_how_much_is_missing() {
    let bytes = written(&[done(1), done(2)]);
    for missing in 1..16 {
        let got = said(&bytes[..bytes.len() - missing]);
        // Of the second item, 16 bytes; how long it is says its eighth.
        let cut = Damage::Cut { offset: 32, missing: if missing > 8 { missing - 8 } else { missing } };
        assert_eq!(got, [format!("Ok({:?})", done(1)), format!("Err({cut:?})")], "{missing} bytes are missing");
    }
}

#[test]
fn behind_broken_bytes_the_next_whole_item_is_found_wherever_it_begins() {
    let mut bytes = written(&[done(1), done(2)]);
    bytes.truncate(bytes.len() - 3);
    bytes.extend(&written(&[done(3)])[HEAD..]);
    let broken = format!("Err({:?})", Damage::Broken { offset: 32, length: 13 });
    assert_eq!(said(&bytes), [format!("Ok({:?})", done(1)), broken, format!("Ok({:?})", done(3))]);
}

#[test]
fn a_changed_byte_is_seen() {
    let good = written(&[done(1), done(2), done(3)]);
    for at in HEAD..HEAD + 16 {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let got = said(&bytes);
        let last = expected(&[done(2), done(3)]);
        // A kind that is not known is skipped only if the sum is right.
        assert_eq!(got[1..], last[..], "byte {at}");
        assert!(got[0].starts_with("Err(Broken"), "byte {at}: {}", got[0]);
    }
}

#[test]
fn unknown_items_are_skipped_and_counted_and_unknown_numbers_at_the_end_left_alone() {
    let mut bytes = written(&[done(1)]);
    let mut fields = Fields::new();
    fields.number(&7u64.to_le_bytes());
    let append = |bytes: &mut Vec<u8>, kind, fields: &Fields<'_>| {
        bytes.extend(head(kind, fields));
        bytes.extend(fields.pieces().flatten());
    };
    append(&mut bytes, 200, &fields);
    // An item of a later writer, with a number more than this one knows.
    fields.number(&8u64.to_le_bytes());
    append(&mut bytes, done(0).code(), &fields);
    let mut items = Items::new(&bytes);
    let got: Vec<_> = items.by_ref().map(|item| format!("{item:?}")).collect();
    assert_eq!((got, items.unknown()), (expected(&[done(1), done(7)]), 1));
}

#[test]
fn a_whole_item_with_an_unknown_variant_is_strange() {
    let mut bytes = written(&[]);
    let mut fields = Fields::new();
    fields.number(&[99]);
    bytes.extend(head(Item::Occasion(Occasion::Panic).code(), &fields));
    bytes.extend([99, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(&written(&[done(1)])[HEAD..]);
    let strange = format!("Err({:?})", Damage::Strange { offset: HEAD });
    assert_eq!(said(&bytes), [strange, format!("Ok({:?})", done(1))]);
}

#[test]
fn a_later_version_is_said_and_read_as_far_as_it_is_known() {
    let mut bytes = written(&[done(1)]);
    bytes[MAGIC.len()] = 9;
    let version = format!("Err({:?})", Damage::Version { version: 9 });
    assert_eq!(said(&bytes), [version, format!("Ok({:?})", done(1))]);
}

#[test]
fn a_storm_is_one_item_of_64_bytes_that_is_found_alone_and_behind_half_an_item() {
    let storm = Storm { pid: 1, tid: 2, signal: 11, code: 1, address: 3, pc: 4, sp: 5, count: 6, realtime: 7 };
    let bytes = storm.to_bytes();
    assert_eq!(written(&[Item::Storm(storm)])[HEAD..], bytes);
    let found = expected(&[Item::Storm(storm)]);
    assert_eq!(said(&bytes)[1..], found[..]);
    let mut half = written(&[done(1)]);
    half.truncate(half.len() - 5);
    half.extend(bytes);
    assert_eq!(said(&half)[1..], found[..]);
}

#[test]
fn what_a_sink_refuses_is_counted_and_the_rest_goes_on() {
    let mut file = File { refuse: true, ..File::default() };
    let mut writer = Writer::new(&mut file);
    writer.put(&done(1)).unwrap();
    assert_eq!((writer.flush(), writer.lost()), (Err(()), 16));
    writer.sink().refuse = false;
    writer.put(&done(2)).unwrap();
    writer.flush().unwrap();
    assert_eq!(said(&file.bytes)[1..], expected(&[done(2)])[..]);
}

#[test]
fn hundred_thousand_damaged_records_are_read_to_their_end() {
    let items = Item::all();
    let (mut state, mut ok, mut bad) = (1u64, 0u64, 0u64);
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..100_000 {
        let mut bytes = if random(8) == 0 { Vec::new() } else { written(&[]) };
        for _ in 0..=random(4) {
            // What an item holds may be anything, its sum right or not.
            let item = &items[random(items.len())];
            let mut fields = Fields::new();
            item.put_fields(&mut fields);
            let mut payload: Vec<u8> = fields.pieces().flatten().copied().collect();
            if !payload.is_empty() {
                for _ in 0..random(3) {
                    let at = random(payload.len());
                    payload[at] = u8::try_from(random(256)).unwrap();
                }
                if random(8) == 0 {
                    payload.truncate(1 + random(payload.len()));
                }
            }
            let mut forged = Fields::new();
            forged.number(&payload);
            bytes.extend(head(item.code(), &forged));
            bytes.extend(payload);
            while bytes.len() % 8 != 0 {
                bytes.push(0);
            }
        }
        for _ in 0..random(3) {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        let read = Items::new(&bytes).map(|item| u64::from(item.is_ok())).collect::<Vec<_>>();
        assert!(read.len() <= bytes.len() + 1);
        ok += read.iter().sum::<u64>();
        bad += u64::try_from(read.len()).unwrap();
    }
    assert!(ok > 100_000 && bad - ok > 100_000, "{ok} of {bad}");
}
