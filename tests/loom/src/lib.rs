//! Every order in which a reader of the module map and its writer can run, with at most three preemptions.
#![cfg(all(test, loom))]

use loom::sync::Arc;
use loom::thread;
use surestack_module_map::{ModuleMap, Race, Record, Slot, Slots};

/// Modules at 0x1000, 0x2000 and so on; the number in the bias says which generation of the list it belongs to.
fn record(place: u64, generation: u64) -> &'static Record {
    Box::leak(Box::new(Record {
        start: place * 0x1000,
        end: place * 0x1000 + 0x800,
        bias: generation,
        unwind: Default::default(),
        code: &[],
        path: &[],
        build_id: &[],
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

/// What a look-up may say of an address while the list changes.
fn check(map: &ModuleMap, address: u64, allowed: &[Option<u64>]) {
    match map.look_up(address) {
        Ok((found, _)) => {
            let said = found.map(|found| {
                assert!((found.record.start..found.record.end).contains(&address), "a record of another place");
                found.record.bias
            });
            assert!(allowed.contains(&said), "{said:?}");
        }
        // Two changes during each of three tries.
        Err(Race) => {}
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn a_look_up_during_a_change_says_what_was_before_or_what_is_after() {
    model(|| {
        let map = Arc::new(ModuleMap::new(lists(2)));
        map.write(&[record(1, 1), record(3, 1)]);
        let writer = {
            let map = Arc::clone(&map);
            thread::spawn(move || map.write(&[record(1, 2), record(2, 2)]))
        };
        check(&map, 0x2010, &[None, Some(2)]);
        assert_eq!(writer.join().unwrap(), 2);
        check(&map, 0x2010, &[Some(2)]);
    });
}

#[test]
fn a_module_that_stays_is_found_whatever_changes_around_it() {
    model(|| {
        let map = Arc::new(ModuleMap::new(lists(2)));
        let stays = record(2, 0);
        map.write(&[record(1, 1), stays]);
        let writer = {
            let map = Arc::clone(&map);
            thread::spawn(move || map.write(&[stays]))
        };
        check(&map, 0x2010, &[Some(0)]);
        writer.join().unwrap();
    });
}

#[test]
fn what_a_longer_list_takes_over_is_there_all_the_time() {
    model(|| {
        let map = Arc::new(ModuleMap::new(lists(1)));
        map.write(&[record(1, 0)]);
        let writer = {
            let map = Arc::clone(&map);
            thread::spawn(move || map.move_to(lists(2)))
        };
        check(&map, 0x1010, &[Some(0)]);
        writer.join().unwrap();
        assert_eq!(map.room(), 2);
    });
}
