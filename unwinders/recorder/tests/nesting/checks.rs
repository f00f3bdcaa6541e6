//! What must hold, whatever happened: I1 to I6 of the protocol. I1 is also checked where words are taken and put.

use crate::choices::Choices;
use crate::reader;
use crate::world::{End, World, payload, site};
use surestack_recorder::layout::{PAGE, mode, record};
use surestack_recorder::ring::{Refused, Word};

/// Most accesses of one write but for those that put its fields, and those of whoever interrupted it not counted: to
/// reserve and to commit in four tries each.
pub const MOST: usize = 41;

/// A check has its sentence; where it does not hold, what was chosen in this run says how to come there.
#[track_caller]
pub fn must(holds: bool, sentence: &str, choices: &Choices) {
    assert!(holds, "{sentence}; choices: {}", choices.said());
}

/// I2, when somebody stores `commit`. A writer that has not reserved yet, or has committed already, is as good as not there.
pub fn before_commit(world: &World<'_>, value: u64) {
    let state = world.state.borrow();
    let commit = state.word(Word::Commit);
    let (_, outer) = state.under_way.split_last().unwrap();
    let outermost = outer.iter().all(|writer| state.writers[*writer].taken.is_none_or(|end| end <= commit));
    must(outermost, "I2: only the outermost writer moves commit", world.choices);
    must(value >= commit, "I2: commit never goes back", world.choices);
    must(value <= state.word(Word::Reserve), "I2: commit never passes reserve", world.choices);
}

/// I3, when a record gets its head.
pub fn at_head(world: &World<'_>, position: u64, head: u64) {
    let state = world.state.borrow();
    let me = *state.under_way.last().unwrap();
    let words = state.writers[me].words;
    let cells = payload(me, words).enumerate();
    let whole = cells
        .into_iter()
        .all(|(at, word)| state.memory[world.setting.shape.cell(position + 8 + at as u64 * 8)] == word);
    must(whole, "I3: a head comes after all that is behind it", world.choices);
    let own = head >> record::SITE_SHIFT == u64::from(site(me)) && reader::length(head, position) == Some(words);
    must(own, "I3: a head says where its record is and how long", world.choices);
    let valid = world.setting.shape.valid(state.word(Word::Reserve), u64::MAX);
    must(valid.contains(&position), "I4: the page of a writer under way does not go", world.choices);
}

/// I3, I4 and I5: what a reader finds when all stops here.
pub fn whoever_is_killed_now(world: &World<'_>) {
    let (state, choices) = (world.state.borrow(), world.choices);
    let shape = world.setting.shape;
    let commit = state.word(Word::Commit);
    let valid = shape.valid(state.word(Word::Reserve), commit);
    let found = reader::read(&shape, &state.memory, valid.clone());
    for (position, words) in &found.records {
        must(
            position + words.len() as u64 * 8 <= valid.end,
            "I3: no record that is shown reaches over commit",
            choices,
        );
        let whole = state.is_record(*position, words);
        must(whole, "I3: each record that is shown is one that its writer finished", choices);
    }
    for hole in &found.holes {
        let left = state.owners[shape.cell(*hole)].is_some_and(|owner| state.writers[owner].end == End::Left);
        must(left, "I3: what is not a record below commit is of a writer that was left", choices);
    }
    let mut shown = found.records.iter().map(|(position, _)| *position).collect::<Vec<u64>>();
    shown.sort_unstable();
    for writer in &state.writers {
        let Some(position) = writer.finished else { continue };
        let outermost_returned = matches!(state.writers[writer.outermost].end, End::Returned(_));
        if outermost_returned && world.setting.always.is_none() {
            let committed = position + writer.words as u64 * 8 <= commit;
            must(committed, "I5: what was written before the writer under way is committed", choices);
        }
        let there = shown.binary_search(&position).is_ok();
        must(
            there || !valid.contains(&position),
            "I5: each record below commit that was not overwritten is there",
            choices,
        );
    }
    let span = state.word(Word::Reserve).saturating_sub(valid.start);
    let kept = state.word(Word::Reserve) - shape.base;
    let least = shape.size - PAGE as u64;
    must(
        shape.mode != mode::OVERWRITE || span >= kept.min(least),
        "I4: what goes on a full ring is the oldest page, and no more",
        choices,
    );
}

/// I5 and I6, when a writer returns.
pub fn at_return(world: &World<'_>, me: usize) {
    let state = world.state.borrow();
    let writer = &state.writers[me];
    must(writer.accesses <= MOST, "I6: a write takes a bounded number of accesses", world.choices);
    if writer.outermost == me {
        // Whoever is interrupted each time it commits leaves it to the next one.
        let given_up = world.setting.always.is_some() && me == world.setting.before.len();
        let all = given_up || state.word(Word::Reserve) == state.word(Word::Commit);
        must(all, "I5: when the outermost writer returns, all that was written is committed", world.choices);
        must(state.word(Word::Nest) == 0, "when the outermost writer returns, nobody is under way", world.choices);
    }
    let expected = match writer.end {
        End::Returned(Ok(())) => writer.finished.is_some(),
        End::Returned(Err(_)) => writer.finished.is_none(),
        _ => false,
    };
    must(expected, "a writer says whether its record is there", world.choices);
}

/// I4: every write is accounted for.
pub fn at_the_end(world: &World<'_>) {
    whoever_is_killed_now(world);
    let state = world.state.borrow();
    let count = |end: End| state.writers.iter().filter(|writer| writer.end == end).count() as u64;
    let full = count(End::Returned(Err(Refused::Full)));
    let nested = count(End::Returned(Err(Refused::Nested)));
    // One that was left may have been counted before.
    let left = count(End::Left);
    let dropped = full..=full + left;
    must(
        dropped.contains(&state.word(Word::Dropped)),
        "I4: each event that a full ring drops is counted",
        world.choices,
    );
    let refused = nested..=nested + left;
    must(refused.contains(&state.word(Word::Refused)), "I4: each event that is refused is counted", world.choices);
    let overwrite = world.setting.shape.mode == mode::OVERWRITE;
    must(!overwrite || full == 0, "I4: a ring that overwrites is never full", world.choices);
    // Once or more: a writer that is left while it finds out about another one is one with it, and a handler that writes
    // while its outer writer finds out counts, too.
    must(
        state.left == 0 || state.word(Word::Left) > 0,
        "a writer that was left before it ended is counted",
        world.choices,
    );
}
