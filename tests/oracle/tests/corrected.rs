//! Programs stopped where unwind information lies: the tables alone lead astray, the corrected walk is the executed chain.

use object::{Object, ObjectSymbol};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use surestack::Verdict;
use surestack::check_cfi;
use surestack::walk::{FoundBy, Stop, Unwinder, Walk};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_oracle::contender::ours::Surestack;
use surestack_oracle::programs;
use surestack_oracle::session::{Begin, Event, Session};
use surestack_oracle::shadow::Certainty;

/// More frames than any of the programs has.
const BUDGET: usize = 64;
/// In glibc, this many instructions of the two functions will do.
const ENOUGH: usize = 80;

/// What became of the walks at one instruction.
#[derive(Debug)]
struct Seen {
    /// The walk by the tables alone is the chain.
    tables: bool,
    /// Ours is.
    right: bool,
    /// And vouched for.
    reliable: bool,
    /// The first step was corrected.
    corrected: bool,
}

/// Steps a program and looks at every instruction for which `asked` holds, the first time that it is executed, until
/// `enough` of them were seen.
fn step(program: &Path, enough: usize, asked: impl Fn(&str, u64) -> bool) -> BTreeMap<u64, Seen> {
    let mut session = Session::start(&mut Command::new(program), Begin::Entry).expect("it starts");
    let (mut ours, mut seen) = (Surestack::default(), BTreeMap::new());
    while let Event::Stopped { first_visit, .. } = session.step().expect("a step") {
        if seen.len() == enough {
            break;
        }
        let stop = session.stop().expect("a stop");
        let pc = stop.registers.rip;
        let module = stop.modules.iter().find(|module| (module.base..module.end).contains(&pc));
        let Some(module) = module.filter(|_| first_visit) else { continue };
        let name = module.name.rsplit('/').next().unwrap_or_default().to_owned();
        let linked = pc.wrapping_sub(module.base);
        if !asked(&name, linked) {
            continue;
        }
        let truth = session.truth().expect("a truth");
        if truth.certainty != Certainty::Known || truth.erased {
            continue;
        }
        let stop = session.stop().expect("a stop");
        let looked = ours.look(&stop, |tracer, thread| {
            let (mut pcs, mut corrected) = (Vec::new(), false);
            let judged = tracer.walk(&thread.regs, thread.stop, |frame| {
                corrected |= frame.index == 1 && frame.found_by == FoundBy::Corrected;
                pcs.push(frame.pc.value());
            });
            let target = tracer.target(Stop::default());
            let tables: [&dyn Unwinder; 1] = [&Cfi(DwarfRows)];
            let mut walk = Walk::new(&target, &tables, thread.regs, BUDGET);
            let mut by_tables = Vec::new();
            while let Some(frame) = walk.next() {
                by_tables.push(frame.pc.value());
            }
            let (tables, right) = (by_tables == truth.pcs, pcs == truth.pcs);
            Seen { tables, right, reliable: judged.verdict == Verdict::Reliable, corrected }
        });
        seen.insert(linked, looked.expect("the process can be read"));
    }
    seen
}

fn labels(program: &Path) -> HashMap<String, u64> {
    let bytes = std::fs::read(program).expect("the program was just built");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.symbols().filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address()))).collect()
}

#[test]
fn every_instruction_of_code_with_wrong_rows_is_walked_right_and_trusted() {
    let program = programs::build("lies.S", "lies", &[]).expect("gcc builds it");
    let labels = labels(&program);
    let (first, last) = (labels["main"], labels["leaf"] + 1);
    let seen = step(&program, usize::MAX, |module, at| module == "lies" && (first..=last).contains(&at));
    assert!(seen.len() > 60, "{}", seen.len());
    // The caller's frame is counted from a register that was put right; that no judge knows.
    let without_rbp = labels["one_register_twice_without_rbp"];
    for (at, seen) in &seen {
        let reliable = !(without_rbp..without_rbp + 2).contains(at);
        assert!(seen.right && seen.reliable == reliable, "{at:#x}: {seen:?}");
    }
    assert!(!seen[&without_rbp].tables);
    let wrong_by_tables = [
        "sign_error_lie",
        "no_rows_for_alignment_lie",
        "flags_on_the_stack_lie",
        "no_rows_for_pushes_lie",
        "released_before_a_branch_lie",
        "one_row_for_all_lie",
    ];
    for label in wrong_by_tables {
        let seen = &seen[&labels[label]];
        assert!(seen.corrected && !seen.tables, "{label}: {seen:?}");
    }
    // Called from code whose row is wrong: the second step is put right.
    assert!(!seen[&labels["leaf"]].tables);
}

#[test]
fn a_program_in_glibcs_assembly_that_pushes_without_rows_is_walked_right_and_trusted() {
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    let contradicted: Vec<u64> = match check_cfi::file(libc) {
        Ok(checked) => checked.contradictions.iter().map(|found| found.address).collect(),
        Err(error) => return println!("skipped: {error}"),
    };
    let program = programs::build("decimal.c", "decimal", &["-O1"]).expect("gcc builds it");
    let seen = step(&program, ENOUGH, |module, at| module == "libc.so.6" && contradicted.contains(&at));
    if seen.is_empty() {
        return println!("skipped: this glibc has no wrong row that the program comes to");
    }
    println!("{} instructions with a wrong row were executed", seen.len());
    for (at, seen) in &seen {
        assert!(seen.right && seen.reliable && seen.corrected && !seen.tables, "{at:#x}: {seen:?}");
    }
}
