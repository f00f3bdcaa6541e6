//! Every order in which a reader of the module map and its writer can run, with at most three preemptions; and of the
//! recorder's ring.
#![cfg(all(test, loom))]

mod recorder;

use loom::sync::Arc;
use loom::thread;
use surestack_module_map::{Block, ModuleMap, Race, Record, Slots};

/// Modules at 0x1000, 0x2000 and so on; the number in the bias says which generation of the list it belongs to.
fn record(place: u64, generation: u64) -> &'static Record {
    let (start, end) = (place * 0x1000, place * 0x1000 + 0x800);
    Box::leak(Box::new(Record { start, end, bias: generation, ..Record::EMPTY }))
}

/// Lists of so many blocks, beside the one that lies in the map. Each has room for two modules here.
fn lists(more: usize) -> [&'static Slots; 2] {
    [(), ()].map(|()| {
        let blocks: Vec<Block> = (0..more).map(|_| Block::empty()).collect();
        &*Box::leak(Box::new(Slots(Box::leak(blocks.into_boxed_slice()))))
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
        let map = Arc::new(ModuleMap::new(lists(0)));
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
        let map = Arc::new(ModuleMap::new(lists(0)));
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
fn a_module_moves_to_another_block_while_it_is_looked_up() {
    model(|| {
        let map = Arc::new(ModuleMap::new(lists(1)));
        let moves = record(3, 0);
        map.write(&[record(1, 1), moves]);
        let writer = {
            let map = Arc::clone(&map);
            thread::spawn(move || map.write(&[record(1, 2), record(2, 2), moves]))
        };
        check(&map, 0x3010, &[Some(0)]);
        writer.join().unwrap();
        check(&map, 0x3010, &[Some(0)]);
    });
}

#[test]
fn what_a_longer_list_takes_over_is_there_all_the_time() {
    model(|| {
        let map = Arc::new(ModuleMap::new(lists(1)));
        map.write(&[record(1, 0), record(2, 0), record(3, 0)]);
        let writer = {
            let map = Arc::clone(&map);
            thread::spawn(move || map.move_to(lists(2)))
        };
        check(&map, 0x3010, &[Some(0)]);
        writer.join().unwrap();
        assert_eq!(map.room(), 6);
    });
}
