//! What is found where, and what readers find while another thread changes the map all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use surestack_module_map::{ModuleMap, Race, Record, Slot, Slots};
use surestack_walk::{Mapping, Modules};

fn record(start: u64, end: u64, bias: u64) -> &'static Record {
    let code: &'static [(u64, u64)] = Box::leak(Box::new([(start + 0x10, start + 0x20)]));
    Box::leak(Box::new(Record {
        start,
        end,
        bias,
        unwind: Default::default(),
        code,
        path: b"",
        build_id: b"",
        symbols: None,
        table: None,
    }))
}

fn lists(length: usize) -> [&'static Slots; 2] {
    [(), ()].map(|()| {
        let slots: Vec<Slot> = (0..length).map(|_| Slot::empty()).collect();
        &*Box::leak(Box::new(Slots(Box::leak(slots.into_boxed_slice()))))
    })
}

#[test]
fn a_module_is_found_from_its_first_byte_to_its_last_and_not_beside() {
    let map = ModuleMap::new(lists(4));
    assert!(map.find(0x1000).is_none(), "nothing is in it yet");
    assert_eq!(map.write(&[record(0x1000, 0x2000, 1), record(0x3000, 0x3001, 2), record(0x8000, u64::MAX, 3)]), 3);
    let bias = |address| map.find(address).map(|module| module.bias);
    let found = [0, 0xfff, 0x1000, 0x1fff, 0x2000, 0x3000, 0x3001, 0x7fff, 0x8000, u64::MAX - 1, u64::MAX].map(bias);
    assert_eq!(found, [None, None, Some(1), Some(1), None, Some(2), None, None, Some(3), Some(3), None]);
    assert_eq!([0x100f, 0x1010, 0x101f, 0x1020].map(|address| map.mapping(address)), {
        use Mapping::{Code, Data};
        [Data, Code, Code, Data]
    });
    assert_eq!(map.mapping(0x2000), Mapping::Unknown, "it knows of modules alone");
}

#[test]
fn what_there_is_no_room_for_is_said_and_a_longer_list_has_room() {
    let map = ModuleMap::new(lists(2));
    let three = [record(0x1000, 0x2000, 1), record(0x2000, 0x3000, 2), record(0x3000, 0x4000, 3)];
    assert_eq!((map.write(&three), map.count(), map.room()), (2, Ok(2), 2));
    map.move_to(lists(8));
    assert_eq!((map.count(), map.room()), (Ok(2), 8), "they moved with it");
    assert_eq!(map.write(&three), 3);
    assert_eq!(map.find(0x3800).map(|module| module.bias), Some(3));
}

#[test]
fn every_change_is_another_generation() {
    let map = ModuleMap::new(lists(2));
    let mut seen = vec![map.generation()];
    map.write(&[record(0x1000, 0x2000, 1)]);
    seen.push(map.generation());
    map.move_to(lists(4));
    seen.push(map.generation());
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn ten_million_look_ups_while_the_map_changes_find_no_wrong_module() {
    const LOOK_UPS: u64 = 10_000_000;
    let map = ModuleMap::new(lists(64));
    let stays: Vec<&Record> =
        (0..16).map(|place| record(0x10_0000 * (2 * place + 1), 0x10_0000 * (2 * place + 2), place)).collect();
    let mut comes = stays.clone();
    comes.extend((0..16).map(|place| record(0x10_0000 * 2 * place, 0x10_0000 * (2 * place + 1), 100)));
    comes.sort_by_key(|record| record.start);
    map.write(&stays);
    let done = AtomicBool::new(false);
    let (changes, races) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut changes = 0u64;
            while !done.load(Ordering::Relaxed) {
                map.write(&comes);
                map.write(&stays);
                changes += 2;
                // No loader changes anything so often; a reader that finds no time in between gives up.
                std::thread::yield_now();
            }
            changes
        });
        let mut races = 0u64;
        for number in 0..LOOK_UPS {
            let (place, address) = (number % 16, 0x10_0000 * (2 * (number % 16) + 1) + number % 0x10_0000);
            match map.look_up(address) {
                Ok((found, _)) => {
                    let record = found.expect("it stays").record;
                    assert_eq!((record.bias, record.start), (place, address & !0xf_ffff));
                }
                Err(Race) => races += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), races)
    });
    println!("{races} of {LOOK_UPS} gave up during {changes} changes");
    assert!(changes > 1_000, "{changes}");
    assert!(races < LOOK_UPS, "some were answered");
}
