//! Call witnesses in real programs: a complete chain is confirmed call by call, and where one frame is left out the call
//! above it is refuted, whatever form the calls have.

mod waiting;

use std::rc::Rc;
use surestack::evidence::FileEvidence;
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack_walk::{CodeAddress, Evidence, Witness};
use waiting::{Chain, run};

fn check(name: &str, compiler: &str, flags: &[&str]) {
    let waiting = run(name, compiler, flags);
    let process = StoppedProcess::open(waiting.id(), Find::default()).unwrap();
    let evidence = FileEvidence::new(process.snapshot(), Rc::default());
    let chains = waiting.chains();
    assert_eq!(chains.len(), 8);
    for Chain { name: form, in_a, in_b, pc } in &chains {
        let complete =
            [evidence.call(*in_b, CodeAddress::Exact(*pc)), evidence.call(*in_a, CodeAddress::Return(*in_b))];
        assert_eq!(complete, [Witness::Confirmed; 2], "{name}, {form}: {in_a:#x} {in_b:#x} {pc:#x}");
        let missing = evidence.call(*in_a, CodeAddress::Exact(*pc));
        assert!(matches!(missing, Witness::Refuted { .. }), "{name}, {form} without b: {missing:?}");
        // The same chain once more, from what is remembered.
        assert_eq!(evidence.call(*in_a, CodeAddress::Exact(*pc)), missing);
        assert_eq!(evidence.call(*in_a, CodeAddress::Return(*in_b)), Witness::Confirmed);
    }
    // Calls of one chain do not lead into another.
    for (one, other) in chains.iter().zip(chains.iter().skip(1)) {
        let crossed = evidence.call(one.in_a, CodeAddress::Return(other.in_b));
        assert!(matches!(crossed, Witness::Refuted { .. }), "{name}, {} to {}: {crossed:?}", one.name, other.name);
    }
}

#[test]
fn lazily_bound_calls_are_confirmed_and_a_missing_frame_is_refuted() {
    check("lazy", "g++", &["-O2", "-Wl,-z,lazy"]);
}

#[test]
fn calls_bound_at_the_start_are_confirmed_and_a_missing_frame_is_refuted() {
    check("now", "g++", &["-O2", "-Wl,-z,now"]);
}

#[test]
fn calls_through_words_that_stay_writable_are_confirmed_and_a_missing_frame_is_refuted() {
    check("norelro", "g++", &["-O2", "-Wl,-z,norelro"]);
}

#[test]
fn calls_of_a_static_program_are_confirmed_and_a_missing_frame_is_refuted() {
    check("static", "g++", &["-O2", "-static", "-DONE_FILE"]);
}

#[test]
fn calls_without_optimisation_are_confirmed_and_a_missing_frame_is_refuted() {
    // Tail calls are calls then: `second` lies between.
    check(
        "fixed",
        "g++",
        &["-O1", "-foptimize-sibling-calls", "-freorder-blocks-and-partition", "-no-pie", "-fcf-protection"],
    );
}

#[test]
fn calls_as_clang_makes_them_are_confirmed_and_a_missing_frame_is_refuted() {
    check("clang", "clang++", &["-O2", "-Wno-unknown-attributes"]);
}
