//! The analysis against the unwind information of a whole library: two ways to know the same thing.

mod code;

use code::Library;
use std::collections::BTreeSet;
use std::time::Instant;
use surestack::analysis::{Text, agrees, each_state};
use surestack_cfi::{CfaRule, DwarfRows, Entry, Lookup, Row, Rows};
use surestack_walk::{CodeAddress, NoEvidence, Proof, Registry, Stack, Stop, Target, X86_64};

/// Functions of one library in which the two may disagree. glibc 2.36 has two: multi-precision routines in assembly that
/// push rbx and rbp without a word of it in their unwind information. libcrypto 3 has three of the same kind
/// (`bn_gather5`, `x25519_fe51_sqr`, `x25519_fe64_sqr`). libstdc++ has one, in which it was not looked at who is right.
const MOST_CONTRADICTED: usize = 3;

#[derive(Debug, Default)]
struct Counts {
    functions: usize,
    agreed: usize,
    contradicted: usize,
    /// Functions with a contradicted instruction.
    wrong: BTreeSet<u64>,
    undecided: usize,
    expressions: usize,
}

/// Compares every `step`th function.
fn compare(library: &Library, step: usize) -> Counts {
    let registry = Registry::default();
    let stacks: [Stack; 0] = [];
    let target = Target {
        arch: &X86_64,
        memory: library,
        modules: library,
        stacks: &stacks,
        registry: &registry,
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let text = Text::new(library);
    let mut counts = Counts::default();
    for (start, end) in library.functions().step_by(step) {
        // A part of a function that was split off begins in the middle of a frame.
        let at_entry = CfaRule::Register(X86_64.sp, 8);
        let begins = |row: &Row<'_>| row.cfa == at_entry && row.entry == Entry::Called;
        if !matches!(DwarfRows.row(&target, CodeAddress::Exact(start), begins), Ok(Lookup::Row(true))) {
            continue;
        }
        counts.functions += 1;
        each_state(&text, start, &|at| (start..end).contains(&at), |at, state| {
            let proof = |row: &Row<'_>| (agrees(row, state), matches!(row.cfa, CfaRule::Expression(_)));
            let Ok(Lookup::Row(found)) = DwarfRows.row(&target, CodeAddress::Exact(at), proof) else { return };
            match found {
                (Proof::Proven, _) => counts.agreed += 1,
                (Proof::Refuted, _) => {
                    counts.contradicted += 1;
                    counts.wrong.insert(start);
                }
                (Proof::Unknown, true) => counts.expressions += 1,
                (Proof::Unknown, false) => counts.undecided += 1,
            }
        });
    }
    counts
}

fn print(name: &str, counts: &Counts, began: Instant) {
    let decided = counts.agreed + counts.contradicted;
    println!("{name}: {} functions in {:?}", counts.functions, began.elapsed());
    println!(
        "  decided {decided}, agreed {} ({:.3} %), contradicted {}, undecided {}, expressions {}",
        counts.agreed,
        100.0 * counts.agreed as f64 / decided as f64,
        counts.contradicted,
        counts.undecided,
        counts.expressions
    );
    println!("  contradicted in the functions at {:x?}", counts.wrong);
}

/// Asserts what must hold of any library: 97 of 100 decided instructions agree.
fn assert_agreement(counts: &Counts) {
    let decided = counts.agreed + counts.contradicted;
    assert!(decided > 1_000, "next to nothing was decided");
    assert!(counts.agreed * 100 >= decided * 97, "contradicted too often");
    assert!(counts.undecided * 20 <= decided, "undecided too often");
    assert!(counts.wrong.len() <= MOST_CONTRADICTED);
}

#[test]
fn the_analysis_agrees_with_unwind_information() {
    let Some(libc) = Library::open() else { return };
    let began = Instant::now();
    let counts = compare(&libc, 8);
    print("libc, every eighth function", &counts, began);
    assert_agreement(&counts);
}

#[test]
#[ignore = "takes seconds: cargo test --release --test analysis_library -- --ignored --nocapture"]
fn the_analysis_agrees_with_unwind_information_in_every_function() {
    for path in ["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libstdc++.so.6", "libcrypto.so.3"] {
        let Some(library) = Library::read(&format!("/lib/x86_64-linux-gnu/{path}"))
            .or_else(|| Library::read(&format!("/usr/lib/x86_64-linux-gnu/{path}")))
        else {
            continue;
        };
        let began = Instant::now();
        let counts = compare(&library, 1);
        print(path, &counts, began);
        assert_agreement(&counts);
    }
}
