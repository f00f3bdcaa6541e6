//! Stacks on which a fast path might go wrong, one by one.

mod world;

use surestack_fast::{Cache, Remembered};
use world::code::{Code, Kind, function};
use world::{First, Layers, STACKS, Wanted, World, agrees, all_agree};

/// Where stacks are drawn: some words below the foot.
const SP: u64 = STACKS[0].end - 0x800;

/// A world, and what is kept from one trace of it to the next.
struct Thread {
    world: World,
    cache: Box<Cache>,
    previous: Remembered,
}

impl Thread {
    fn new(kinds: &[Kind]) -> Self {
        Self { world: World::new(Code::of(kinds)), cache: Box::new(Cache::new()), previous: Remembered::new() }
    }

    /// Writes words from an address on.
    fn words(&mut self, address: u64, words: &[u64]) {
        (address..).step_by(8).zip(words).for_each(|(address, word)| {
            self.world.put(address, *word);
        });
    }

    /// How many frames the full walk sees, and a chase with the previous trace.
    fn again(&mut self, first: First) -> usize {
        agrees(&self.world, first, Wanted::ALL, Layers::Memory(&self.cache, &mut self.previous)).frames.len()
    }

    /// How many frames everybody sees.
    fn depth(&mut self, first: First) -> usize {
        all_agree(&self.world, first, Wanted::ALL, &self.cache, &mut self.previous).frames.len()
    }
}

/// In the middle of a function.
fn inside(index: u64) -> u64 {
    function(index) + 8
}

#[test]
fn a_frame_pointer_that_a_new_outer_frame_needs_is_the_one_of_that_trace() {
    let mut thread = Thread::new(&[Kind::Outermost, Kind::Sp(2, None), Kind::Fp(2, 2)]);
    let (near, far) = (SP + 0x40, SP + 0x80);
    thread.words(SP, &[0, inside(1), 0, inside(0)]);
    thread.words(near, &[0, inside(0)]);
    thread.words(far, &[0, inside(1), 0, inside(0)]);
    let first = |fp| First { pc: inside(1), sp: SP, fp, rbx: 0 };
    assert_eq!(thread.again(first(near)), 3);
    // Its caller is another now, and counts from the frame pointer.
    thread.world.put(SP + 24, inside(2));
    assert_eq!(thread.again(first(far)), 5);
    assert_eq!(thread.again(first(near)), 4);
}

#[test]
fn a_saved_frame_pointer_that_a_new_outer_frame_needs_is_the_one_of_that_trace() {
    let mut thread = Thread::new(&[Kind::Outermost, Kind::Sp(2, None), Kind::Fp(2, 2), Kind::Sp(3, Some(2))]);
    let (near, far) = (SP + 0x40, SP + 0x80);
    // The second frame's caller was saved its frame pointer at SP + 24.
    thread.words(SP, &[0, inside(3), 0, near, inside(1), 0, inside(0)]);
    thread.words(near, &[0, inside(0)]);
    thread.words(far, &[0, inside(1), 0, inside(0)]);
    let first = First { pc: inside(1), sp: SP, fp: 0, rbx: 0 };
    assert_eq!(thread.again(first), 4);
    thread.words(SP + 24, &[far]);
    thread.words(SP + 48, &[inside(2)]);
    assert_eq!(thread.again(first), 6);
    thread.words(SP + 24, &[near]);
    assert_eq!(thread.again(first), 5);
}

/// Code in which every function takes two words.
const PLAIN: &[Kind] = &[Kind::Outermost, Kind::Sp(2, None), Kind::Sp(4, None), Kind::Sp(2, None)];

#[test]
fn a_thread_that_slept_while_modules_changed_remembers_none_of_their_frames() {
    let mut thread = Thread::new(PLAIN);
    // What the second function's caller is depends on how much it takes.
    thread.words(SP, &[0, inside(2), 0, inside(1), 0, inside(0), inside(0)]);
    let first = First { pc: inside(1), sp: SP, fp: 0, rbx: 0 };
    let before = thread.again(first);
    for changes in [1 << 10, 1 << 11, 1 << 16, 1 << 32] {
        thread.world.code = Code::of(&[Kind::Outermost, Kind::Sp(2, None), Kind::Sp(2, None), Kind::Sp(4, None)]);
        thread.world.generation = Some(2 * changes);
        thread.cache.clear();
        assert_ne!(thread.again(first), before, "{changes}");
        thread.world.code = Code::of(PLAIN);
        thread.world.generation = Some(0);
        thread.cache.clear();
        assert_eq!(thread.again(first), before, "{changes}");
    }
}

#[test]
fn nothing_is_remembered_while_nobody_can_say_which_modules_there_are() {
    let mut thread = Thread::new(PLAIN);
    thread.words(SP, &[0, inside(2), 0, inside(1), 0, inside(0), inside(0)]);
    let first = First { pc: inside(1), sp: SP, fp: 0, rbx: 0 };
    thread.world.generation = None;
    let before = thread.depth(first);
    thread.world.code = Code::of(&[Kind::Outermost, Kind::Sp(2, None), Kind::Sp(2, None), Kind::Sp(4, None)]);
    assert_ne!(thread.depth(first), before);
}
