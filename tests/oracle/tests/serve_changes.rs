//! `surestack serve` about processes that change under it: nothing that it remembered is believed for longer than it is true.

mod server;

use server::{Server, asked, at, frames};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use surestack_oracle::measure::Outcome;
use surestack_oracle::programs;
use surestack_oracle::session::{Begin, Event, Session};

/// Never wrong and vouched for; right in at least so many of a thousand asks, and vouched for in so many.
fn check(outcome: &Outcome, least: u64, right: u64, trusted: u64) {
    let tally = outcome.scores[0].uniform;
    assert_eq!(tally.false_trust, 0, "{tally:?}");
    assert!(tally.asked > least, "{tally:?}");
    assert!(tally.right * 1000 >= tally.asked * right, "{tally:?}");
    assert!(tally.right_trusted * 1000 >= tally.asked * trusted, "{tally:?}");
}

fn changes(what: &str) -> Command {
    let program = programs::build("changes.c", "serve-changes", &["-O1", "-Wl,-z,lazy"]).expect("it compiles");
    let mut command = Command::new(program);
    command.arg(what);
    command
}

/// The program with two libraries to load one after the other, the first twice.
fn loads() -> Command {
    let library =
        |name, which| programs::build("changes.c", name, &["-O1", "-shared", "-fPIC", which]).expect("it compiles");
    let (one, two) = (library("serve-one.so", "-DLIBRARY=1"), library("serve-two.so", "-DLIBRARY=4"));
    let mut command = changes("load");
    command.args([&one, &two, &one]);
    command
}

#[test]
fn a_library_in_the_place_of_another_is_known_by_its_own_file() {
    check(&asked(Server::start(), &mut loads(), Begin::Entry, 7, 400_000), 1_000, 998, 998);
}

#[test]
fn who_is_told_that_nothing_was_mapped_when_libraries_came_and_went_vouches_for_nothing_wrong() {
    let outcome = asked(Server::told_that_nothing_changes(), &mut loads(), Begin::Entry, 7, 400_000);
    check(&outcome, 1_000, 0, 0);
}

#[test]
fn another_program_in_the_process_is_noticed_whatever_is_said_of_the_mappings() {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec /bin/ls /"]).stdout(Stdio::null());
    let mut session = Session::start(&mut shell, Begin::Kernel).expect("it starts");
    let mut told = [Server::start(), Server::told_that_nothing_changes()];
    let mut ask = |session: &mut Session| {
        let truth = session.truth().expect("a truth").pcs;
        for server in &mut told {
            let answer = server.unwind(&session.stop().expect("a stop"));
            assert_eq!((frames(&answer), &answer["verdict"]), (truth.clone(), &"reliable".into()), "{answer}");
        }
    };
    ask(&mut session);
    while session.counts().execs == 0 {
        assert!(matches!(session.step().expect("a step"), Event::Stopped { .. }));
    }
    // From the kernel's first instruction of the new program on.
    for _ in 0..300 {
        ask(&mut session);
        (0..7).for_each(|_| assert!(matches!(session.step().expect("a step"), Event::Stopped { .. })));
    }
}

#[test]
fn code_that_was_written_over_is_read_anew_at_each_stop() {
    // Code of no file is never vouched for; what lies outside of it is.
    check(&asked(Server::start(), &mut changes("jit"), Begin::Entry, 1, 400_000), 1_000, 998, 900);
}

#[test]
fn words_that_the_loader_binds_meanwhile_change_no_answer() {
    check(&asked(Server::told_that_nothing_changes(), &mut changes("bind"), Begin::Entry, 1, 400_000), 1_000, 998, 998);
}

#[test]
fn a_stack_that_the_kernel_made_larger_is_known_without_being_told() {
    let server = Server::told_that_nothing_changes();
    check(&asked(server, &mut changes("grow"), Begin::Entry, 997, 400_000), 40, 1000, 1000);
}

#[test]
fn a_function_on_the_stack_that_somebody_patched_is_not_vouched_for_until_it_is_as_it_was() {
    let mut server = Server::start();
    let mut session = at("/bin/ls", 20_000);
    while session.truth().expect("a truth").pcs.len() < 6 {
        session.step().expect("a step");
    }
    let truth = session.truth().expect("a truth").pcs;
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", session.pid())).expect("ours");
    for _ in 0..2 {
        // Nothing says where the loader's start begins and ends: its whole page has to be the file's.
        let outermost = truth[truth.len() - 1] >> 12;
        for return_address in truth[1..].iter().filter(|address| *address >> 12 != outermost) {
            let mut verdict = |bytes: &[u8]| {
                memory.write_all_at(bytes, *return_address).expect("it is mapped");
                let answer = server.unwind(&session.stop().expect("a stop"));
                assert_eq!(frames(&answer), truth, "{answer}");
                (answer["verdict"] == "reliable", answer["reason"].to_string())
            };
            let mut original = [0; 2];
            memory.read_exact_at(&mut original, *return_address).expect("it is mapped");
            assert!(verdict(&original).0);
            // A breakpoint that a debugger planted is none of the code's.
            let (reliable, why) = verdict(&[0xcc, original[1]]);
            assert!(reliable, "{return_address:#x}: {why}");
            let (reliable, why) = verdict(&[0xeb, 0xfe]);
            assert!(!reliable, "{return_address:#x}: {why}");
            assert!(verdict(&original).0);
        }
    }
}
