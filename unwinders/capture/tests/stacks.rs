//! The table of threads and their stacks, written and read at once.

use std::sync::atomic::{AtomicBool, Ordering};
use surestack_capture::Range;
use surestack_capture::stacks::{Chunk, ThreadStack, ThreadStacks};

fn table() -> &'static ThreadStacks {
    Box::leak(Box::default())
}

/// A thread whose four numbers all follow from its id and `turn`.
fn thread(id: u32, turn: u64) -> ThreadStack {
    let base = (u64::from(id) << 32) | (turn << 12);
    let range = |low| Range { low, high: low + 0x400 };
    ThreadStack { thread: id, stack: range(base), alternate: range(base + 0x800) }
}

#[test]
fn an_address_on_either_stack_leads_to_its_thread() {
    let table = table();
    let (seven, eight) = (thread(7, 0), thread(8, 0));
    table.claim(&seven).unwrap();
    table.claim(&eight).unwrap();
    assert_eq!(table.find(seven.stack.low), Some(seven));
    assert_eq!(table.find(seven.alternate.high - 1), Some(seven));
    assert_eq!(table.find(seven.stack.high), None);
    assert_eq!(table.find(eight.alternate.low), Some(eight));
    assert_eq!(table.of(8), Some(eight));
    assert_eq!(table.of(0), None);
}

#[test]
fn a_place_that_was_cleared_is_used_again_and_no_place_means_none() {
    let table = table();
    let places: Vec<_> = (1..=64).map(|id| table.claim(&thread(id, 0)).unwrap()).collect();
    assert!(table.claim(&thread(65, 0)).is_none(), "there is room for 64");
    places[10].clear();
    assert_eq!(table.of(11), None);
    let again = table.claim(&thread(66, 0)).unwrap();
    places[10].clear();
    assert_eq!(table.of(66), Some(thread(66, 0)), "only what one has written is cleared");
    table.add(Box::leak(Box::default()));
    table.add(Box::leak(Box::new(Chunk::new())));
    for id in 100..228 {
        assert!(table.claim(&thread(id, 0)).is_some(), "{id}");
    }
    assert!(table.claim(&thread(300, 0)).is_none());
    assert_eq!(table.threads().count(), 64 + 128);
    again.clear();
    table.retire(Range { low: thread(20, 0).stack.low + 8, high: thread(21, 0).stack.low });
    assert_eq!((table.of(20), table.of(21)), (None, Some(thread(21, 0))));
    assert_eq!(table.threads().count(), 62 + 128);
}

#[test]
fn what_is_read_belongs_together_while_places_change_hands() {
    let table = table();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 1..=3_u32 {
            let stop = &stop;
            scope.spawn(move || {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    table.claim(&thread(writer, turn % 0x1000)).unwrap().clear();
                    turn += 1;
                }
            });
        }
        for _ in 0..300_000 {
            for read in table.threads() {
                let turn = (read.stack.low & 0xffff_ffff) >> 12;
                assert_eq!(read, thread(read.thread, turn));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
