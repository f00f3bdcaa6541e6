//! Stacks as programs leave them, and as nobody should: the fast path sees in them what the full walk sees.

mod world;

use surestack_fast::{Cache, Remembered};
use world::code::{Code, Kind, function};
use world::machine::{Machine, Random};
use world::{Layers, Wanted, World, agrees, all_agree, pcs_agree};

const KINDS: &[Kind] = &[
    Kind::Outermost,
    Kind::Sp(2, None),
    Kind::Sp(1, None),
    Kind::Sp(5, Some(2)),
    Kind::Sp(9, Some(6)),
    Kind::Fp(2, 2),
    Kind::Fp(2, 2),
    Kind::Fp(3, 5),
    Kind::Aligned(1),
    Kind::Aligned(3),
    Kind::Linkage(11),
    Kind::Linkage(6),
    Kind::Two(3, 1),
    Kind::Sp(3, None),
];

const ODD: &[Kind] =
    &[Kind::Odd(3), Kind::Below(3), Kind::Lost(3), Kind::Broken(3), Kind::Rbx, Kind::Silent, Kind::Sp(4, Some(2))];

/// One thread: so many rounds of calls, returns, signals, and words that somebody changed.
fn thread(seed: u64, rounds: usize, kinds: &[Kind]) -> usize {
    let mut random = Random(seed);
    let mut machine = Machine::new(World::new(Code::of(kinds)));
    let (cache, mut previous) = (Box::new(Cache::new()), Remembered::new());
    let count = u64::try_from(kinds.len()).unwrap();
    let mut changed: Vec<(u64, u64)> = Vec::new();
    let mut frames = 0;
    for _ in 0..rounds {
        for _ in 0..random.below(6) {
            match random.below(12) {
                0..5 if machine.has_room() => machine.call(1 + random.below(count - 1), &mut random),
                5 if machine.has_room() => {
                    let stack = random.one(&[0, 1, 2]);
                    let on_it = world::STACKS[stack].contains(&machine.now.sp);
                    let below = machine.callers.iter().any(|caller| world::STACKS[stack].contains(&caller.sp));
                    if on_it || !below {
                        machine.signal(1 + random.below(count - 1), stack, &mut random);
                    }
                }
                6..10 => machine.back(),
                10 => machine.now.pc = (machine.now.pc & !15) | (machine.now.pc & 15),
                _ => {}
            }
        }
        // Few frames behind, so that something is left to be found again.
        while machine.callers.len() > 40 {
            machine.back();
        }
        match random.below(6) {
            0..2 => {
                let address = machine.somewhere(&mut random);
                let value = machine.plausible(&mut random);
                changed.push((address, machine.world.put(address, value)));
            }
            2 | 3 => {
                for (address, value) in changed.drain(..).rev() {
                    machine.world.put(address, value);
                }
            }
            _ => {}
        }
        let mut first = machine.now;
        match random.below(8) {
            0 => first.fp = machine.plausible(&mut random),
            1 => first.pc = function(random.below(count)) + random.below(64),
            2 if random.one_in(4) => first.sp |= random.below(8),
            _ => {}
        }
        let depth = usize::try_from(random.below(24)).unwrap();
        let wanted = match random.below(8) {
            0 => Wanted { budget: depth, ..Wanted::ALL },
            1 => Wanted { frames: depth, ..Wanted::ALL },
            _ => Wanted::ALL,
        };
        let seen = if random.one_in(4) {
            all_agree(&machine.world, first, wanted, &cache, &mut previous)
        } else {
            agrees(&machine.world, first, wanted, Layers::Memory(&cache, &mut previous))
        };
        frames += seen.frames.len();
        if random.one_in(8) {
            pcs_agree(&machine.world, first, wanted, Layers::Memory(&cache, &mut previous));
        }
        if random.one_in(200) {
            // Other functions at the same addresses.
            let mut kinds = kinds.to_vec();
            let (one, other) = (random.below(count - 1), random.below(count - 1));
            kinds.swap(1 + usize::try_from(one).unwrap(), 1 + usize::try_from(other).unwrap());
            machine.world.code = Code::of(&kinds);
            let count = machine.world.generation.unwrap() + 2;
            machine.world.generation = Some(count);
            cache.changed(count);
        }
    }
    frames
}

#[test]
fn the_fast_path_sees_what_the_full_walk_sees() {
    let frames: usize = (0..24).map(|seed| thread(seed, 500, KINDS)).sum();
    assert!(frames > 24 * 500 * 5, "{frames}");
}

#[test]
fn so_it_does_where_rows_are_odd() {
    let kinds = [KINDS, ODD].concat();
    (100..116).for_each(|seed| {
        thread(seed, 500, &kinds);
    });
}

/// Minutes of it, for whoever changes the chase or its memory.
#[test]
#[ignore = "minutes"]
fn so_it_does_for_minutes() {
    let kinds = [KINDS, ODD].concat();
    (1000..4000).for_each(|seed| {
        thread(seed, 2000, if seed % 3 == 0 { &kinds } else { KINDS });
    });
}
