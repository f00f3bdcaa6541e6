//! The protocol of a ring, over the code that runs, in every order of writers that interrupt each other.

mod checks;
mod choices;
mod reader;
mod world;

use choices::every_run;
use reader::Shape;
use surestack_recorder::layout::{PAGE, SMALLEST_RING, mode, record::LONGEST};
use world::{Add, Setting, World};

const RING: u64 = SMALLEST_RING as u64;
const EDGE: u64 = PAGE as u64;

/// A ring of which nothing was used, whose first record lies so many words before the end of a page.
fn new(mode: u64, words_before_edge: u64) -> Setting {
    Setting {
        shape: Shape { size: RING, mode, base: 5 * EDGE - words_before_edge * 8 },
        before: vec![],
        program: vec![4],
        handlers: &[3],
        interruptions: 3,
        deep: 4,
        jumps: 0,
        add: Add::Once,
    }
}

/// A ring that was gone round once and a half, or that is full but for a few words; the next record lies so many words
/// before the end of a page, and the oldest page is the next one.
fn full(mode: u64, words_before_edge: u64) -> Setting {
    let pages = if mode == mode::OVERWRITE { 12 } else { 8 };
    let page = PAGE / 8;
    let mut before = vec![LONGEST; pages * page / LONGEST - 1];
    let mut rest = LONGEST - words_before_edge as usize;
    while rest > 0 {
        before.push(rest.min(31));
        rest -= rest.min(31);
    }
    Setting { shape: Shape { size: RING, mode, base: 3 * EDGE }, before, ..new(mode, 0) }
}

/// Tries all, and says how many runs that were.
fn all(settings: impl IntoIterator<Item = Setting>) {
    let runs: usize =
        settings.into_iter().map(|setting| every_run(|choices| World::new(&setting, choices).run())).sum();
    println!("{runs} runs");
}

const MODES: [u64; 2] = [mode::OVERWRITE, mode::DROP_NEWEST];

#[test]
fn writers_that_interrupt_each_other_three_deep_at_every_access_keep_i1_to_i6() {
    all(MODES.into_iter().flat_map(|mode| [100, 4, 2].map(|before| new(mode, before))));
}

#[test]
fn records_that_fit_touch_and_cross_the_edges_of_pages_keep_i1_to_i6() {
    all(MODES.into_iter().flat_map(|mode| {
        [12, 9, 8, 7, 5, 4, 3, 1].map(|before| Setting {
            handlers: &[2, 4, 5],
            interruptions: 2,
            program: vec![4, 3],
            ..new(mode, before)
        })
    }));
}

#[test]
fn rings_that_go_round_and_rings_that_are_full_keep_i1_to_i6() {
    all(MODES.into_iter().flat_map(|mode| {
        [11, 8, 6, 4, 1].map(|before| Setting { interruptions: 2, handlers: &[3, 5], ..full(mode, before) })
    }));
}

#[test]
fn the_longest_records_across_pages_keep_i1_to_i6() {
    all(MODES.into_iter().flat_map(|mode| {
        [200, 127, 3].map(|before| Setting {
            handlers: &[LONGEST],
            program: vec![LONGEST],
            interruptions: 2,
            ..if before == 3 { full(mode, before) } else { new(mode, before) }
        })
    }));
}

#[test]
fn a_writer_left_at_any_access_takes_nothing_with_it_but_its_own_record() {
    all(MODES
        .into_iter()
        .flat_map(|mode| [100, 2].map(|before| Setting { jumps: 1, program: vec![4, 4], ..new(mode, before) })));
}

#[test]
fn writers_left_twice_on_a_ring_that_is_full_take_nothing_with_them() {
    all(MODES.into_iter().flat_map(|mode| {
        [9, 2].map(|before| Setting { jumps: 2, interruptions: 2, program: vec![4, 4], ..full(mode, before) })
    }));
}

#[test]
#[should_panic(expected = "I1: ")]
fn a_reserve_that_is_two_instructions_is_found_out() {
    all([Setting { add: Add::Twice, interruptions: 1, ..new(mode::OVERWRITE, 100) }]);
}
