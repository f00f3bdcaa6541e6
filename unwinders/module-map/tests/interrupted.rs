//! A handler that interrupts the writer at every instruction of a change, and looks modules up there.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::arch::asm;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use surestack_module_map::{Block, ModuleMap, Record, Slots};

static SHORT: [[Block; 1]; 2] = [const { [const { Block::empty() }; 1] }; 2];
static LONG: [[Block; 3]; 2] = [const { [const { Block::empty() }; 3] }; 2];
static SHORT_LISTS: [Slots; 2] = [Slots(&SHORT[0]), Slots(&SHORT[1])];
static LONG_LISTS: [Slots; 2] = [Slots(&LONG[0]), Slots(&LONG[1])];
static MAP: ModuleMap = ModuleMap::new([&SHORT_LISTS[0], &SHORT_LISTS[1]]);

const fn record(place: u64, generation: u64) -> Record {
    Record { start: place * 0x1000, end: place * 0x1000 + 0x800, bias: generation, ..Record::EMPTY }
}

/// In every list.
static PINNED: Record = record(5, 0);
static BEFORE: [Record; 2] = [record(1, 1), record(7, 1)];
static AFTER: [Record; 3] = [record(1, 2), record(2, 2), record(8, 2)];
/// So many that they do not fit in one block with the others.
static LAST: [Record; 6] = [record(9, 2), record(10, 2), record(11, 2), record(12, 2), record(13, 2), record(14, 2)];

/// Instructions of the writer at which it was interrupted, and what was wrong there.
static STEPS: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);
/// Bits of the generations of the lists that were seen.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Whether the map is whole: the old list or the new one.
fn is_whole() -> bool {
    let bias = |address| match MAP.look_up(address) {
        Ok((found, _)) => Some(found.map(|found| found.record.bias)),
        Err(_) => None,
    };
    let seen = [0x1010, 0x2010, 0x5010, 0x7010, 0x8010, 0x5810, 0xe010].map(bias);
    let (before, after) = (
        [Some(1), None, Some(0), Some(1), None, None, None],
        [Some(2), Some(2), Some(0), None, Some(2), None, Some(2)],
    );
    let is = |list: [Option<u64>; 7]| seen == list.map(Some);
    SEEN.fetch_or(u64::from(is(before)) | u64::from(is(after)) << 1, Ordering::Relaxed);
    is(before) || is(after)
}

extern "C" fn on_trap(_signal: i32) {
    STEPS.fetch_add(1, Ordering::Relaxed);
    if !is_whole() {
        WRONG.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `change` with a trap after each of its instructions. Returns how many there were.
fn stepped(change: impl FnOnce()) -> usize {
    let before = STEPS.load(Ordering::Relaxed);
    // SAFETY: sets the trap flag, for which there is a handler, and takes it back; the stack is as it was.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    change();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    STEPS.load(Ordering::Relaxed) - before
}

#[test]
fn whoever_interrupts_the_writer_at_any_instruction_finds_a_whole_map_at_once() {
    // SAFETY: all of the structure may be zero, and the handler only touches atomics.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()), 0);
    }
    let before = [&BEFORE[0], &PINNED, &BEFORE[1]];
    let [first, second, third] = &AFTER;
    let [fourth, fifth, sixth, seventh, eighth, ninth] = &LAST;
    let after = [first, second, &PINNED, third, fourth, fifth, sixth, seventh, eighth, ninth];
    assert_eq!(MAP.write(&before), 3);
    let mut steps = 0;
    for _ in 0..3 {
        steps += stepped(|| assert_eq!(MAP.write(&after), 10));
        steps += stepped(|| assert_eq!(MAP.write(&before), 3));
    }
    steps += stepped(|| assert_eq!(MAP.write(&after), 10));
    steps += stepped(|| MAP.move_to([&LONG_LISTS[0], &LONG_LISTS[1]]));
    steps += stepped(|| assert_eq!(MAP.write(&before), 3));
    assert_eq!(MAP.room(), 4 * Block::MODULES);
    println!("{steps} instructions");
    assert!(steps > 300, "{steps} instructions");
    assert_eq!(WRONG.load(Ordering::Relaxed), 0, "of {steps} instructions");
    assert_eq!(SEEN.load(Ordering::Relaxed), 3, "both lists were seen");
}
