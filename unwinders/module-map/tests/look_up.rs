//! What is found where, and what readers find while another thread changes the map all the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use surestack_module_map::{Block, ModuleMap, Race, Record, Slots};
use surestack_walk::{Mapping, Modules};

fn record(start: u64, end: u64, bias: u64) -> &'static Record {
    let code: &'static [(u64, u64)] = Box::leak(Box::new([(start + 0x10, start + 0x20)]));
    Box::leak(Box::new(Record { start, end, bias, code, ..Record::EMPTY }))
}

/// Lists of so many blocks, beside the one that lies in the map.
fn lists(more: usize) -> [&'static Slots; 2] {
    [(), ()].map(|()| {
        let blocks: Vec<Block> = (0..more).map(|_| Block::empty()).collect();
        &*Box::leak(Box::new(Slots(Box::leak(blocks.into_boxed_slice()))))
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
fn each_address_is_found_in_the_module_that_covers_it_however_many_modules_there_are() {
    let map = ModuleMap::new(lists(16));
    let all: Vec<&Record> = (0..17 * Block::MODULES as u64)
        // Some touch the next one, some do not.
        .map(|place| record(0x10_0000 + place * 0x1000, 0x10_0000 + place * 0x1000 + 0x800 * (1 + place % 2), place))
        .collect();
    // More and fewer again: nothing of longer lists is left.
    for count in (0..=all.len()).chain((0..all.len()).rev()) {
        let list = &all[..count];
        assert_eq!((map.write(list), map.count()), (count, Ok(count)));
        for (place, record) in (0u64..).zip(&all) {
            let found = |address| map.look_up(address).unwrap().0.map(|found| (found.index as u64, found.record.bias));
            let there = (place < count as u64).then_some((place, place));
            let before = place.checked_sub(1).filter(|before| before % 2 == 1 && place <= count as u64);
            assert_eq!(found(record.start - 1), before.map(|before| (before, before)), "{place} of {count}");
            assert_eq!(
                [record.start, record.start + 0x400, record.end - 1].map(found),
                [there; 3],
                "{place} of {count}"
            );
            let at = map.at(place as usize).unwrap();
            assert_eq!(at.map(|record| record.bias), there.map(|(_, bias)| bias), "{place} of {count}");
        }
    }
}

#[test]
fn what_there_is_no_room_for_is_said_and_a_longer_list_has_room() {
    let map = ModuleMap::new(lists(0));
    let most = Block::MODULES;
    let all: Vec<&Record> = (1..=most as u64 + 1).map(|place| record(place << 12, (place + 1) << 12, place)).collect();
    assert_eq!((map.write(&all), map.count(), map.room()), (most, Ok(most), most));
    map.move_to(lists(1));
    assert_eq!((map.count(), map.room()), (Ok(most), 2 * most), "they moved with it");
    assert_eq!(map.write(&all), most + 1);
    let last = all[most];
    assert_eq!(map.find(last.start + 0x800).map(|module| module.bias), Some(last.bias));
    map.move_to(lists(3));
    assert_eq!((map.count(), map.room()), (Ok(most + 1), 4 * most), "they moved with it");
    assert_eq!(map.find(last.start + 0x800).map(|module| module.bias), Some(last.bias));
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

/// Tells the writer to stop, also where the reader failed.
struct Told<'d>(&'d AtomicBool);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn ten_million_look_ups_while_the_map_changes_find_no_wrong_module() {
    const LOOK_UPS: u64 = 10_000_000;
    const CHANGES: u64 = 1_000;
    let map = ModuleMap::new(lists(3));
    let stays: Vec<&Record> =
        (0..16).map(|place| record(0x10_0000 * (2 * place + 1), 0x10_0000 * (2 * place + 2), place)).collect();
    let mut comes = stays.clone();
    comes.extend((0..16).map(|place| record(0x10_0000 * 2 * place, 0x10_0000 * (2 * place + 1), 100)));
    comes.sort_by_key(|record| record.start);
    map.write(&stays);
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (looked_up, races) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                map.write(&comes);
                map.write(&stays);
                changes.fetch_add(2, Ordering::Relaxed);
                // No loader changes anything so often; a reader that finds no time in between gives up.
                std::thread::yield_now();
            }
        });
        let _told = Told(&done);
        let (mut looked_up, mut races) = (0u64, 0u64);
        while looked_up < LOOK_UPS || changes.load(Ordering::Relaxed) < CHANGES {
            for place in 0..16 {
                let address = 0x10_0000 * (2 * place + 1) + looked_up % 0x10_0000;
                match map.look_up(address) {
                    Ok((found, _)) => {
                        let record = found.expect("it stays").record;
                        assert_eq!((record.bias, record.start), (place, address & !0xf_ffff));
                    }
                    Err(Race) => races += 1,
                }
                looked_up += 1;
            }
        }
        (looked_up, races)
    });
    println!("{races} of {looked_up} gave up during {} changes", changes.into_inner());
    assert!(races < looked_up, "some were answered");
}
