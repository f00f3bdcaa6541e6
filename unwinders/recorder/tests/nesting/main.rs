//! The protocol of a ring, over the code that runs, in every order of writers that interrupt each other.

mod beside;
mod checks;
mod choices;
mod reader;
mod redo;
mod world;

use beside::{Design, Film};
use choices::{Choices, every_run};
use reader::Shape;
use surestack_recorder::layout::{DEEPEST, PAGE, SMALLEST_RING, mode, record::LONGEST};
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
        storm: None,
        always: None,
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
fn writers_nested_as_deep_as_can_be_that_take_all_they_can_leave_the_outermost_its_record() {
    let mut deepest = 0;
    for (mode, at) in MODES.into_iter().flat_map(|mode| (1..checks::MOST).map(move |at| (mode, at))) {
        for before in [1, 3, 60, 128, 300] {
            let program = vec![LONGEST, 4];
            let setting = Setting { storm: Some(at), interruptions: 0, deep: 99, program, ..new(mode, before) };
            let choices = Choices::default();
            let world = World::new(&setting, &choices);
            world.run();
            deepest = deepest.max(world.state.borrow().storms);
        }
    }
    println!("{deepest} deep");
    assert_eq!(deepest as u64, DEEPEST);
}

#[test]
fn a_writer_interrupted_at_each_of_its_accesses_ends_after_a_bounded_number_of_them() {
    let mut most = 0;
    for (mode, words) in MODES.into_iter().flat_map(|mode| (2..=LONGEST).step_by(13).map(move |words| (mode, words))) {
        for (before, own) in (1..=128).step_by(18).flat_map(|before| [4, 60, LONGEST].map(|own| (before, own))) {
            let setting = Setting { always: Some(words), interruptions: 0, program: vec![own, 4], ..new(mode, before) };
            let choices = Choices::default();
            let world = World::new(&setting, &choices);
            world.run();
            most = most.max(world.state.borrow().writers[0].accesses);
        }
    }
    println!("{most} accesses at most, but for fields");
    assert!(most > checks::MOST / 2, "{most}");
}

#[test]
fn a_writer_left_at_any_access_takes_nothing_with_it_but_its_own_record() {
    all([(mode::OVERWRITE, 2), (mode::DROP_NEWEST, 100)].map(|(mode, before)| Setting {
        jumps: 1,
        program: vec![4, 4],
        ..new(mode, before)
    }));
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

/// What readers of this design take for a record that is none, in how many runs, and how many they take in all. The ring is
/// full of short records, and the page that is overwritten first is the next one.
fn wrongly_taken(design: Design, settings: &[Setting]) -> (Vec<String>, usize) {
    let (mut wrong, mut all) = (vec![], 0);
    for setting in settings {
        let begin = World::new(setting, &Choices::default()).state.into_inner();
        every_run(|choices| {
            let world = World::new(setting, choices);
            world.run();
            let taken = Film::of(&world, &begin).everything_taken(design);
            all += taken.len();
            let state = world.state.borrow();
            wrong.extend(
                taken
                    .iter()
                    .filter(|taken| !state.is_record(taken.position, &taken.words))
                    .map(|taken| format!("at {:#x}, with choices {}: {}", taken.position, choices.said(), taken.story)),
            );
        });
    }
    (wrong, all)
}

/// Rings full of short records. Those of the page that goes are of this length.
fn short(jumps: usize) -> Vec<Setting> {
    // Twelve pages but for less than one record, so that the first that is written crosses an edge.
    let before = |words: usize| vec![words; 12 * (PAGE / 8 / words) - usize::from(words == 4)];
    let setting = |mode, words| {
        let shape = Shape { size: RING, mode, base: 3 * EDGE };
        let program = vec![5, 4, 3];
        Setting { before: before(words), program, interruptions: 1, jumps, ..Setting { shape, ..new(mode, 0) } }
    };
    vec![setting(mode::OVERWRITE, 5), setting(mode::OVERWRITE, 4), setting(mode::OVERWRITE, 3)]
}

#[test]
fn a_reader_that_takes_commit_first_and_reserve_last_never_takes_what_is_no_record() {
    let (wrong, all) = wrongly_taken(Design::CommitFirstReserveLast, &short(0));
    println!("{all} records taken");
    assert!(all > 4_000 && wrong.is_empty(), "{} of {all}: {:#?}", wrong.len(), wrong.first());
}

#[test]
fn where_writers_were_left_their_sums_keep_a_reader_from_taking_what_is_no_record() {
    let (wrong, all) = wrongly_taken(Design::AndSums, &short(1));
    println!("{all} records taken");
    assert!(all > 4_000 && wrong.is_empty(), "{} of {all}: {:#?}", wrong.len(), wrong.first());
}

#[test]
fn a_reader_that_checks_a_flag_at_its_entry_takes_records_that_are_none() {
    let (wrong, all) = wrongly_taken(Design::FlagAtEntry, &short(0));
    println!("{} of {all} are none, the first {}", wrong.len(), wrong.first().expect("the enumeration finds one"));
}

#[test]
fn a_handler_that_checks_a_flag_at_its_entry_runs_code_half_old_half_new() {
    let mut torn = vec![];
    let runs = every_run(|choices| {
        let (ran, story) = redo::run(choices);
        if ran[0] != ran[1] {
            torn.push(story);
        }
    });
    println!("{} of {runs} orders, the first{}", torn.len(), torn.first().expect("the enumeration finds it"));
}
