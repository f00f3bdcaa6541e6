//! The short set: real programs, with checks on the truth that need no truth of their own.

use surestack_oracle::contender;
use surestack_oracle::run;
use surestack_oracle::table;
use surestack_oracle::targets::{Set, TARGETS};

/// Functions in which a chain may end: the program's or ld.so's start, the start of a thread, a coroutine's planted
/// return address, and the coroutine that `jumps` starts by hand without one.
const ROOTS: [&str; 6] = ["_start", "_dl_start_user", "clone3", "__start_context", "hand_body", "hand_switch"];

#[test]
fn every_true_chain_of_the_short_set_ends_at_a_root_and_a_peer_agrees_with_nearly_all() {
    let targets: Vec<_> = TARGETS.iter().filter_map(|t| Some((t, t.plan(Set::Short)?))).collect();
    let ran = run::run(&targets, 2, run::measured, |_| {});
    let mut outcomes = Vec::new();
    for (target, outcome) in ran {
        let outcome = outcome.unwrap_or_else(|e| panic!("{}: {e}", target.name));
        for (place, n) in &outcome.roots {
            // Debian strips its programs, and ld.so without libc6-dbg: then only the section is known.
            let (_, function) = place.split_once('!').unwrap_or_default();
            let stripped = function == ".text";
            assert!(stripped || ROOTS.contains(&function), "{}: {n} chains end in {place}", target.name);
        }
        outcomes.push(outcome);
    }
    let names: Vec<String> = contender::all().iter().map(|c| c.name().to_owned()).collect();
    println!("{}", table::table(&names, contender::missing(), &outcomes));
    let pooled = table::pooled(&names, &outcomes);
    let framehop = names.iter().zip(&pooled).find(|(name, _)| *name == "framehop");
    let (_, score) = framehop.expect("framehop is always asked");
    assert!(score.uniform.asked > 40_000 && score.cover.asked > 100_000, "{score:?}");
    // It does not know `_dl_runtime_resolve*`, from where programs call into ld.so.
    let uniform = score.uniform;
    assert!(uniform.right * 100 > uniform.asked * 88, "{uniform:?}");
    let cover = score.cover;
    assert!(cover.right * 100 > cover.asked * 92, "{cover:?}");
}
