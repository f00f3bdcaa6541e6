//! Stacks on which a fast path might go wrong, one by one.

mod world;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use surestack_drawing::cfi::debug_frame;
use surestack_fast::{Cache, Passed, Remembered, Take};
use world::code::{Code, GENERATED, Kind, TRAMPOLINE, function};
use world::machine::{Machine, Random};
use world::{First, Layers, STACKS, Wanted, World, agrees, all_agree, handed};

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

/// Code in which functions take two words, or four.
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

/// A thread of so many calls of these functions in turn, on the first stack.
fn called(kinds: &[Kind], calls: u64) -> (Thread, Machine) {
    called_from(kinds, calls, 1)
}

/// The same from other places.
fn called_from(kinds: &[Kind], calls: u64, places: u64) -> (Thread, Machine) {
    let (mut machine, mut random) = (Machine::new(World::new(Code::of(kinds))), Random(places));
    let count = u64::try_from(kinds.len()).unwrap();
    for call in 0..calls {
        machine.call(1 + call % (count - 1), &mut random);
    }
    (Thread::new(kinds), machine)
}

const MIXED: &[Kind] = &[
    Kind::Outermost,
    Kind::Sp(5, Some(2)),
    Kind::Fp(2, 2),
    Kind::Sp(2, None),
    Kind::Aligned(2),
    Kind::Sp(3, None),
    Kind::Linkage(11),
    Kind::Odd(2),
    Kind::Fp(3, 5),
];

#[test]
fn a_word_that_changed_anywhere_is_seen_and_so_is_that_it_changed_back() {
    for kinds in [MIXED, &MIXED[..7]] {
        let (mut thread, mut machine) = called(kinds, 11);
        let (first, foot) = (machine.now, STACKS[0].end);
        std::mem::swap(&mut thread.world, &mut machine.world);
        let depth = thread.depth(first);
        assert_eq!(depth, 12);
        for address in (first.sp..foot).step_by(8) {
            let callers = machine.callers.iter().flat_map(|caller| [caller.pc, caller.sp, caller.fp]);
            for value in callers.chain([0, 1, address, address + 8, inside(1), inside(4), TRAMPOLINE, u64::MAX]) {
                let old = thread.world.put(address, value);
                thread.again(first);
                thread.world.put(address, old);
                assert_eq!(thread.again(first), depth);
            }
        }
    }
}

#[test]
fn a_budget_ends_the_trace_at_each_frame_and_so_does_a_taker() {
    let (mut thread, machine) = called(MIXED, 12);
    thread.world = machine.world;
    for frames in 0..20 {
        for wanted in [Wanted { budget: frames, ..Wanted::ALL }, Wanted { frames, ..Wanted::ALL }] {
            all_agree(&thread.world, machine.now, wanted, &thread.cache, &mut thread.previous);
            thread.depth(machine.now);
        }
    }
}

#[test]
fn an_entry_of_the_linkage_table_is_interrupted_at_each_byte() {
    let (mut thread, machine) = called(&[Kind::Outermost, Kind::Sp(2, None), Kind::Linkage(11), Kind::Linkage(6)], 4);
    thread.world = machine.world;
    for pc in function(2)..function(4) {
        thread.depth(First { pc, ..machine.now });
        // And is returned to.
        thread.words(SP, &[0, pc + 1, pc + 1, inside(0)]);
        thread.depth(First { pc: inside(1), sp: SP, fp: 0, rbx: 0 });
    }
}

#[test]
fn signals_nest_on_several_stacks_and_deeper_than_the_chase_goes() {
    for signals in [1, 2, 31, 32, 33, 40] {
        let kinds = [Kind::Outermost, Kind::Sp(1, None), Kind::Fp(2, 2)];
        let (mut machine, mut random) = (Machine::new(World::new(Code::of(&kinds))), Random(3));
        machine.call(1, &mut random);
        for signal in 0..signals {
            // The first on a stack above, the last on one below.
            let stack = [2, 0, 1][usize::try_from(3 * signal / signals).unwrap()];
            let stack = if machine.has_room() { stack } else { 0 };
            if !STACKS[stack].contains(&machine.now.sp)
                && machine.callers.iter().any(|caller| STACKS[stack].contains(&caller.sp))
            {
                continue;
            }
            machine.signal(1 + signal % 2, stack, &mut random);
        }
        let mut thread = Thread::new(&kinds);
        thread.world = machine.world;
        assert!(thread.depth(machine.now) > usize::try_from(signals).unwrap(), "{signals}");
    }
}

#[test]
fn a_signal_frame_that_cannot_be_read_whole_is_none() {
    let (mut machine, mut random) = (Machine::new(World::new(Code::of(PLAIN))), Random(3));
    machine.call(1, &mut random);
    machine.signal(2, 0, &mut random);
    let mut thread = Thread::new(PLAIN);
    thread.world = machine.world;
    let depth = thread.depth(machine.now);
    for address in (machine.now.sp..machine.callers[1].sp).step_by(8) {
        thread.world.holes.insert(address);
        assert!(thread.depth(machine.now) <= depth, "{address:#x}");
        thread.world.holes.clear();
    }
}

#[test]
fn nothing_is_read_below_the_first_stack_pointer_whatever_a_signal_frame_says() {
    let (mut machine, mut random) = (Machine::new(World::new(Code::of(PLAIN))), Random(3));
    machine.call(1, &mut random);
    // It interrupted a frame that lies below.
    let sp = machine.now.sp;
    machine.now.sp = sp - 0x1000;
    machine.world.put(sp - 0x1000 + 8, inside(1));
    let interrupted = machine.now;
    machine.now.sp = sp;
    machine.signal(2, 0, &mut random);
    for address in (machine.now.sp..sp).step_by(8) {
        if machine.world.at(address) == sp {
            machine.world.put(address, interrupted.sp);
        }
    }
    let mut thread = Thread::new(PLAIN);
    thread.world = machine.world;
    assert!(thread.depth(machine.now) > 3);
}

#[test]
fn another_stack_at_the_same_addresses_has_its_own_frames() {
    let (mut thread, machine) = called(MIXED, 11);
    let (_, other) = called_from(MIXED, 11, 2);
    let worlds = [machine, other].map(|machine| (machine.world.words, machine.now));
    for _ in 0..3 {
        for (words, first) in &worlds {
            thread.world.words = words.clone();
            thread.again(*first);
        }
    }
}

#[test]
fn frames_of_debug_frame_say_so() {
    let (mut thread, machine) = called(PLAIN, 5);
    thread.world = machine.world;
    thread.world.debug_frame = Some(debug_frame(&Code::entries(PLAIN)));
    (thread.world.code.eh_frame, thread.world.code.eh_frame_hdr) = (None, None);
    assert_eq!(thread.depth(machine.now), 6);
}

#[test]
fn a_trampoline_of_no_module_is_forgotten_when_it_goes() {
    for trampoline in [GENERATED.start, GENERATED.start + 16] {
        let mut thread = Thread::new(PLAIN);
        thread.world.code.generated = Some(trampoline);
        thread.words(SP, &[0, trampoline]);
        let (context, above) = (SP + 16, SP + 16 + 304);
        for (offset, value) in [(168, inside(1)), (160, above), (120, 0), (184, 0x33)] {
            thread.words(context + offset, &[value]);
        }
        thread.words(above, &[0, inside(0)]);
        let first = First { pc: inside(1), sp: SP, fp: above + 32, rbx: 0 };
        assert_eq!(thread.depth(first), 4);
        thread.world.code.generated = None;
        assert_ne!(thread.depth(first), 4);
    }
}

#[test]
fn frames_may_be_as_large_as_a_rule_can_say_and_larger() {
    for words in [1, 2, 255, 1000, 2046, 2047] {
        let kinds = [Kind::Outermost, Kind::Large(words), Kind::Sp(1, None)];
        let mut thread = Thread::new(&kinds);
        let sp = STACKS[0].end - 8 * 2047;
        let slot = sp + 8 * (u64::from(words) - 1);
        thread.words(slot, &[inside(0)]);
        let first = First { pc: inside(1), sp, fp: 0, rbx: 0 };
        assert_eq!(thread.depth(first), 2, "{words}");
        // One word less, and its end is not on the stack.
        thread.depth(First { sp: STACKS[0].end - 8 * u64::from(words) + 8, ..first });
    }
    let mut thread = Thread::new(&[Kind::Outermost, Kind::Large(2048), Kind::Large(2100)]);
    for function in [1, 2] {
        thread.depth(First { pc: inside(function), sp: STACKS[0].start, fp: 0, rbx: 0 });
    }
}

#[test]
fn a_frame_pointer_that_was_saved_below_the_stack_pointer_is_not_read_there() {
    for kind in [Kind::Fp(2, 9), Kind::Sp(2, Some(5))] {
        let mut thread = Thread::new(&[Kind::Outermost, kind]);
        thread.words(SP - 0x40, &[7; 16]);
        thread.words(SP + 8, &[inside(0)]);
        assert_eq!(thread.depth(First { pc: inside(1), sp: SP, fp: SP, rbx: 0 }), 2);
    }
}

#[test]
fn steps_to_lower_stacks_count_together_with_signals_towards_the_limit() {
    let (upper, lower) = (STACKS[0].start, STACKS[1].start);
    for (hops, signals) in [(3, 4), (20, 31), (33, 31), (40, 20), (40, 30), (62, 1), (62, 3), (0, 63), (0, 70)] {
        let mut thread = Thread::new(&[Kind::Outermost, Kind::Hop]);
        // Frames that lead up and down between two stacks, as those of coroutines do,
        let mut at = lower;
        for hop in 1..=hops {
            let (up, down) = (upper + 64 * hop, lower + 64 * hop);
            thread.words(at, &[up]);
            thread.words(up - 8, &[inside(1), down]);
            thread.words(down - 8, &[inside(1)]);
            at = down;
        }
        // and then signals, each of which interrupted a frame below.
        // so that no word of one that is looked at is another's,
        const NEXT: u64 = 72;
        let mut context = STACKS[2].end - 320;
        thread.words(at, &[context]);
        thread.words(context - 8, &[TRAMPOLINE]);
        for signal in 1..=signals {
            let pc = if signal == signals { inside(0) } else { TRAMPOLINE };
            for (offset, value) in [(168, pc), (160, context - NEXT), (120, 0), (184, 0x33)] {
                thread.words(context + offset, &[value]);
            }
            context -= NEXT;
        }
        let depth = thread.depth(First { pc: inside(1), sp: lower, fp: 0, rbx: 0 });
        let all = usize::try_from(2 * hops + signals).unwrap() + 2;
        assert_eq!(depth == all, hops + signals < 64, "{hops} {signals}: {depth}");
    }
}

/// Has enough of it after some frames, and says so in the worst way.
struct Impatient(usize);

impl Take for Impatient {
    fn take(&mut self, _frame: Passed) -> ControlFlow<()> {
        self.0 = self.0.checked_sub(1).unwrap_or_else(|| resume_unwind(Box::new(())));
        ControlFlow::Continue(())
    }
}

#[test]
fn a_trace_that_is_left_in_the_middle_leaves_nothing_behind() {
    let (mut thread, machine) = called(MIXED, 400);
    let (first, words) = (machine.now, machine.world.words);
    let other = called_from(MIXED, 400, 2).1;
    let wanted = Wanted { budget: 4096, ..Wanted::ALL };
    for frames in (0..400).step_by(13) {
        let (cache, previous) = (&thread.cache, &mut thread.previous);
        thread.world.words = words.clone();
        agrees(&thread.world, first, wanted, Layers::Memory(cache, previous));
        thread.world.words = other.world.words.clone();
        let left = catch_unwind(AssertUnwindSafe(|| {
            handed(&thread.world, other.now, wanted, Layers::Memory(cache, previous), &mut Impatient(frames))
        }));
        assert!(left.is_err());
        agrees(&thread.world, other.now, wanted, Layers::Memory(cache, previous));
    }
}

#[test]
fn nothing_is_read_beyond_the_stack_as_it_is_now() {
    for kinds in [&MIXED[..4], MIXED] {
        let (mut thread, machine) = called(kinds, 11);
        thread.world.words = machine.world.words;
        for caller in machine.callers {
            thread.depth(machine.now);
            // It ends in the middle of what was seen before.
            thread.world.high = caller.sp - 8;
            thread.depth(machine.now);
            thread.world.high = STACKS[0].end;
        }
    }
}

#[test]
fn a_stack_of_more_frames_than_are_remembered_is_traced_to_its_end() {
    let kinds = [
        Kind::Outermost,
        Kind::Sp(1, None),
        Kind::Sp(1, None),
        Kind::Sp(3, Some(2)),
        Kind::Sp(1, None),
        Kind::Fp(2, 2),
    ];
    let (mut thread, machine) = called(&kinds, 1000);
    thread.world = machine.world;
    let wanted = Wanted { budget: 4096, ..Wanted::ALL };
    let mut random = Random(5);
    for round in 0..120 {
        // Some frames more or less than the last time.
        let first = machine.callers[machine.callers.len() - 1 - 7 * (round % 5)];
        let caller = machine.callers[usize::try_from(random.below(999)).unwrap()];
        let address = caller.sp - 8 * (1 + random.below(2));
        let value = random.one(&[inside(1), inside(5), first.sp, 0, thread.world.at(address)]);
        let old = thread.world.put(address, value);
        agrees(&thread.world, first, wanted, Layers::Memory(&thread.cache, &mut thread.previous));
        thread.world.put(address, old);
        let all = agrees(&thread.world, first, wanted, Layers::Memory(&thread.cache, &mut thread.previous));
        assert!(all.frames.len() > 900);
    }
}
