//! A program in assembly whose call chain is known at every label, from reading it.

use object::{Object, ObjectSymbol};
use std::collections::HashMap;
use std::process::Command;
use surestack_oracle::programs;
use surestack_oracle::session::{Begin, Event, Session};
use surestack_oracle::shadow::{Certainty, Landing};

/// In the order in which they are reached: a label, and what will be returned to from there.
const EXPECTED: &[(&str, &[&str])] = &[
    ("at_start", &[]),
    ("at_outer", &["after_outer"]),
    ("at_inner", &["after_inner", "after_outer"]),
    ("below_red_zone", &["after_inner", "after_outer"]),
    ("leaving_inner", &["after_inner", "after_outer"]),
    ("leaving_outer", &["after_outer"]),
    ("after_outer", &[]),
    ("with_pc_on_stack", &["after_next_and_pop"]),
    ("leaving_next_and_pop", &["after_next_and_pop"]),
    ("with_target_on_stack", &["after_push_and_ret"]),
    ("after_push_ret", &["after_push_and_ret"]),
    ("popped", &["after_popped"]),
    ("with_address_in_register", &["after_popped"]),
    ("still_in_register", &["after_popped"]),
    ("after_popped", &[]),
    ("at_tail_target", &["after_tail"]),
    ("on_other_stack", &["after_on_other_stack", "after_switches"]),
    ("at_other_stack", &["after_on_other_stack", "after_switches"]),
    ("after_on_other_stack", &["after_switches"]),
    ("back_on_own_stack", &["after_switches"]),
    ("before_load", &["after_deeper", "landing", "after_jumps_out"]),
    ("in_transfer", &["landing", "after_jumps_out"]),
    ("landed", &["after_jumps_out"]),
    ("at_coroutine", &["planted"]),
    ("after_swap_in", &["after_coroutine"]),
    ("resumed", &["planted"]),
    ("after_swap_again", &["after_coroutine"]),
    ("after_coroutine", &[]),
    ("before_drop", &["after_drops", "after_repairs_return"]),
    ("after_drop", &["after_repairs_return"]),
    ("at_handler", &["restorer", "interrupted", "after_signals"]),
    ("at_nested", &["restorer", "handler_interrupted", "restorer", "interrupted", "after_signals"]),
    ("restorer", &["handler_interrupted", "restorer", "interrupted", "after_signals"]),
    ("leaving_handler", &["restorer", "interrupted", "after_signals"]),
    ("restorer", &["interrupted", "after_signals"]),
    ("after_signal", &["after_signals"]),
    ("at_one_level", &["after_one_level", "after_two_levels"]),
    ("leaving_one_level", &["after_one_level", "after_two_levels"]),
    ("after_one_level", &["after_two_levels"]),
    ("after_two_levels", &[]),
];

fn labels(path: &std::path::Path) -> HashMap<String, u64> {
    let bytes = std::fs::read(path).expect("the program was just built");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.symbols().filter_map(|s| Some((s.name().ok()?.to_owned(), s.address()))).collect()
}

#[test]
fn the_chain_at_every_label_of_a_known_program_is_the_one_read_from_its_source() {
    let program = programs::build("known.S", "known", &["-nostdlib", "-static"]).expect("gcc builds it");
    let labels = labels(&program);
    let address = |label: &str| *labels.get(label).unwrap_or_else(|| panic!("no label {label}"));
    let listed: HashMap<u64, &str> = EXPECTED.iter().map(|(label, _)| (address(label), *label)).collect();

    let mut session = Session::start(&mut Command::new(&program), Begin::Kernel).expect("it starts");
    let mut seen: Vec<(&str, Vec<u64>)> = Vec::new();
    // Places in `seen` that are complete only when the transfer they are in has ended.
    let mut waiting: Vec<usize> = Vec::new();
    while let Event::Stopped { landing, .. } = session.step().expect("a step") {
        let truth = session.truth().expect("a truth");
        if landing == Some(Landing::Arrived) {
            for i in waiting.drain(..) {
                seen[i].1.clone_from(&truth.pcs);
            }
        }
        let Some(label) = truth.pcs.first().and_then(|pc| listed.get(pc)) else {
            continue;
        };
        assert_ne!(truth.certainty, Certainty::Unknown, "at {label}");
        if truth.certainty == Certainty::Landing {
            waiting.push(seen.len());
        }
        seen.push((label, truth.pcs.get(1..).unwrap_or_default().to_vec()));
    }

    let named = |pc: &u64| {
        let name =
            labels.iter().find(|(name, at)| *at == pc && EXPECTED.iter().any(|(_, c)| c.contains(&name.as_str())));
        name.map_or_else(|| format!("{pc:#x}"), |(name, _)| name.clone())
    };
    let seen: Vec<(&str, Vec<String>)> =
        seen.iter().map(|(label, chain)| (*label, chain.iter().map(named).collect())).collect();
    let expected: Vec<(&str, Vec<String>)> =
        EXPECTED.iter().map(|(label, chain)| (*label, chain.iter().map(|&l| l.to_owned()).collect())).collect();
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(seen, expected);
    }
    assert_eq!(seen.len(), expected.len());
}
