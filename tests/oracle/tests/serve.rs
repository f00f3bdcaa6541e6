//! `surestack serve`, asked over a pipe about threads that are stopped here.

mod server;

use serde_json::json;
use server::{Server, at, frames};
use std::process::{Command, Stdio};
use surestack_oracle::contender::Contender;
use surestack_oracle::measure::{Plan, measure};
use surestack_oracle::programs;
use surestack_oracle::session::Begin;

/// Every `every`th stop of the first `steps` instructions, from the kernel's first on. Returns how many answers were asked
/// for and how many were not the true chain, which none of them may say of itself.
fn stepped(command: &mut Command, every: u64, steps: u64, inject: Option<(i32, u64)>) -> [(u64, u64); 2] {
    let plan = Plan { begin: Begin::Kernel, every, peers_every: 1, max_steps: steps, inject };
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(Server::start())];
    let outcome = measure("serve", command.stdout(Stdio::null()), &plan, &mut contenders).expect("it can be stepped");
    [outcome.scores[0].uniform, outcome.scores[0].cover].map(|tally| {
        assert!(tally.asked > 400, "{tally:?}");
        assert_eq!(tally.false_trust, 0, "{tally:?}");
        assert!(tally.right_trusted * 1000 >= tally.asked * 998, "{tally:?}");
        (tally.asked, tally.asked - tally.right)
    })
}

#[test]
fn at_every_fiftieth_instruction_of_ls_the_answer_is_the_true_chain_and_reliable() {
    let wrong = stepped(Command::new("/bin/ls").arg("/"), 50, 200_000, None).map(|(_, wrong)| wrong);
    assert_eq!(wrong, [0, 0]);
}

#[test]
fn threads_that_are_created_and_signals_that_are_handled_meanwhile_make_no_difference() {
    let program = programs::build("signals.c", "serve-signals", &["-O2"]).expect("it compiles");
    for (asked, wrong) in stepped(&mut Command::new(program), 50, 200_000, Some((libc::SIGUSR1, 5_000))) {
        // `siglongjmp` half-way: the stack pointer is that of setjmp's caller already.
        assert!(wrong * 1000 <= asked, "{wrong} of {asked}");
    }
}

#[test]
fn two_processes_can_be_asked_about_in_turn_and_one_may_end() {
    let mut server = Server::start();
    let (mut one, mut other) = (at("/bin/true", 3_000), at("/bin/ls", 5_000));
    for _ in 0..3 {
        for session in [&mut one, &mut other] {
            session.step().expect("a step");
            let truth = session.truth().expect("a truth").pcs;
            assert_eq!(frames(&server.unwind(&session.stop().expect("a stop"))), truth);
        }
    }
    let stop = one.stop().expect("a stop");
    let (pid, registers) = (stop.pid, stop.registers);
    drop(one);
    let gone = json!({"op": "unwind", "pid": pid, "tid": pid, "maps_gen": 0, "regs": {"rip": registers.rip, "rsp": registers.rsp}});
    let answer = server.line(gone.to_string().as_bytes());
    assert!(answer["error"].as_str().is_some_and(|error| error.contains(&pid.to_string())), "{answer}");
    let truth = other.truth().expect("a truth").pcs;
    assert_eq!(frames(&server.unwind(&other.stop().expect("a stop"))), truth);
}
