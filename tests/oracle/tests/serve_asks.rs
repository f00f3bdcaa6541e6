//! What may be asked of `surestack serve`, and what is refused.

mod server;
#[path = "../../skip/mod.rs"]
mod skip;

use serde_json::{Value, json};
use server::{Server, at, frames};
use skip::skipped;
use std::process::{Child, Command, Stdio};
use surestack_oracle::memory::Memory;
use surestack_oracle::tracee;

/// A line that is about nothing that is there, with one member changed.
fn line(name: &str, value: Value) -> Vec<u8> {
    let mut line = json!({
        "op": "unwind", "pid": 4_194_305, "tid": 4_194_305, "maps_gen": 0, "regs": {"rip": 1, "rsp": 2},
    });
    line[name] = value;
    line.to_string().into_bytes()
}

#[test]
fn each_malformed_line_gets_one_error_that_says_what_is_wrong_and_the_next_line_is_read() {
    let mut server = Server::start();
    let mut session = at("/bin/true", 100);
    let truth = session.truth().expect("a truth").pcs;
    let long = [vec![b'{'; 10 << 20], b"}".to_vec()].concat();
    let lines: [(&str, Vec<u8>); 30] = [
        ("no JSON", b"{".to_vec()),
        ("empty", b"".to_vec()),
        ("blank", b" \t\r".to_vec()),
        ("not UTF-8", b"\xff\xfe{}".to_vec()),
        ("not UTF-8 in a string", b"{\"op\":\"\xff\"}".to_vec()),
        ("a zero byte", b"\0".to_vec()),
        ("no object", b"null".to_vec()),
        ("an array", b"[{\"op\":\"unwind\"}]".to_vec()),
        ("two objects", b"{} {}".to_vec()),
        ("deeply nested", "[".repeat(60_000).into_bytes()),
        ("deeply nested objects", "{\"a\":".repeat(12_000).into_bytes()),
        ("long", long),
        ("no op", b"{}".to_vec()),
        ("another op", line("op", json!("rewind"))),
        ("op of another type", line("op", json!(1))),
        ("no such process", line("pid", json!(4_194_305))),
        ("pid that is no number", line("pid", json!("one"))),
        ("pid that is no whole number", line("pid", json!(1.5))),
        ("negative pid", line("pid", json!(-1))),
        ("huge pid", line("pid", json!(u64::MAX))),
        ("pid of another type", line("pid", json!([1]))),
        ("huge tid", line("tid", json!("0x1ffffffffffffffff"))),
        ("no generation", line("maps_gen", Value::Null)),
        ("registers of another type", line("regs", json!([1, 2]))),
        ("no registers", line("regs", json!({}))),
        ("no stack pointer", line("regs", json!({"rip": 1}))),
        ("a register of another type", line("regs", json!({"rip": {}, "rsp": 1}))),
        ("a register that is no whole number", b"{\"op\":\"unwind\",\"regs\":{\"rip\":1e400}}".to_vec()),
        ("a huge signal", line("signal", json!(1u64 << 40))),
        ("a signal of another type", line("signal", json!({}))),
    ];
    for (what, line) in lines {
        assert!(!line.contains(&b'\n'));
        let answer = server.line(&line);
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{what}: {answer}");
        assert!(answer.get("frames").is_none() && answer.get("verdict").is_none(), "{what}: {answer}");
        assert_eq!(frames(&server.unwind(&session.stop().expect("a stop"))), truth, "behind {what}");
    }
    // What is wrong with the registers is said about a process that is there.
    let mut request = server.request(&session.stop().expect("a stop"));
    request["regs"] = json!({"rip": 1});
    assert_eq!(server.line(request.to_string().as_bytes())["error"], "regs has no rsp");
    request["regs"] = json!({"rip": 1, "rsp": "0x1ffffffffffffffff"});
    assert_eq!(server.line(request.to_string().as_bytes())["error"], "rsp is not a 64-bit number");
}

/// A process that nobody traces; killed with this.
struct Sleeping(Child);

impl Sleeping {
    fn start() -> Self {
        Self(Command::new("/bin/sleep").arg("1000").stdout(Stdio::null()).spawn().expect("it starts"))
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        // SAFETY: takes no pointers; the child was not waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until its state has this letter.
    fn comes_to(&self, letter: char) {
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it is there");
        while !stat().contains(&format!(") {letter} ")) {
            std::thread::yield_now();
        }
    }

    /// Where it is, as the kernel says.
    fn request(&self) -> Value {
        let said = std::fs::read_to_string(format!("/proc/{}/syscall", self.0.id())).expect("ours to read");
        let words: Vec<&str> = said.split_whitespace().collect();
        let regs = json!({"rsp": words[words.len() - 2], "rip": words[words.len() - 1]});
        json!({"op": "unwind", "pid": self.0.id(), "tid": self.0.id(), "maps_gen": 0, "regs": regs})
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_thread_that_nobody_keeps_stopped_is_refused_until_it_is() {
    let mut server = Server::start();
    let sleeping = Sleeping::start();
    sleeping.comes_to('S');
    let mut ask = |sleeping: &Sleeping| server.line(sleeping.request().to_string().as_bytes());
    let error = |answer: Value| answer["error"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert!(error(ask(&sleeping)).contains("is not stopped (its state is S)"));
    sleeping.signal(libc::SIGSTOP);
    sleeping.comes_to('T');
    let stopped = ask(&sleeping);
    assert!(frames(&stopped).len() > 2, "{stopped}");
    sleeping.signal(libc::SIGCONT);
    sleeping.comes_to('S');
    assert!(error(ask(&sleeping)).contains("is not stopped"), "though it was");
    let other = Sleeping::start();
    other.comes_to('S');
    let mut request = other.request();
    request["tid"] = json!(sleeping.0.id());
    assert!(error(server.line(request.to_string().as_bytes())).contains("no thread"), "of another process");
    let dead = Sleeping::start();
    dead.comes_to('S');
    let request = dead.request();
    dead.signal(libc::SIGKILL);
    dead.comes_to('Z');
    assert!(error(server.line(request.to_string().as_bytes())).contains("has exited"));
}

#[test]
fn a_thread_of_the_kernel_has_no_stack() {
    let kthreadd = json!({"op": "unwind", "pid": 2, "tid": 2, "maps_gen": 0, "regs": {"rip": 1, "rsp": 2}});
    let name = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if name.trim() != "kthreadd" {
        skipped("a thread of the kernel: none is seen here");
        return;
    }
    let answer = Server::start().line(kthreadd.to_string().as_bytes());
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("thread of the kernel")), "{answer}");
}

#[test]
fn a_trap_that_is_said_to_be_a_planted_breakpoint_is_at_the_instruction_under_it() {
    let mut server = Server::start();
    let mut session = at("/bin/ls", 20_000);
    let pc = session.registers().expect("registers").rip;
    let truth = session.truth().expect("a truth").pcs;
    let word = Memory::of(session.pid()).word(pc).expect("code");
    tracee::poke(session.pid(), pc, word & !0xff | 0xcc).expect("it is stopped");
    let mut request = server.request(&session.stop().expect("a stop"));
    request["regs"]["rip"] = json!(pc + 1);
    let mut ask = |request: &Value| server.line(request.to_string().as_bytes());
    let unsaid = ask(&request);
    assert_eq!(frames(&unsaid)[0], pc + 1, "{unsaid}");
    for code in [1, 0x80] {
        (request["signal"], request["si_code"]) = (json!(libc::SIGTRAP), json!(code));
        let said = ask(&request);
        assert_eq!(frames(&said), truth, "{said}");
        assert_eq!(said["verdict"], "reliable", "{said}");
    }
    // What single-stepping reports is no breakpoint, and no other signal is.
    for (signal, code) in [(libc::SIGTRAP, 2), (libc::SIGTRAP, -6), (libc::SIGUSR1, 0x80)] {
        (request["signal"], request["si_code"]) = (json!(signal), json!(code));
        assert_eq!(frames(&ask(&request))[0], pc + 1, "{signal} {code}");
    }
}

#[test]
fn an_alternate_stack_in_any_form_is_accepted_and_changes_nothing() {
    let mut server = Server::start();
    let mut session = at("/bin/ls", 20_000);
    let truth = session.truth().expect("a truth").pcs;
    let mut request = server.request(&session.stop().expect("a stop"));
    for form in [json!(null), json!({"sp": "0x7000", "size": 8192}), json!(["0x7000", "0x9000"]), json!("none")] {
        request["altstack"] = form;
        let answer = server.line(request.to_string().as_bytes());
        assert_eq!((frames(&answer), &answer["verdict"]), (truth.clone(), &json!("reliable")), "{answer}");
    }
}

#[test]
fn the_foot_of_a_threads_stack_is_proven_with_its_fs_base_and_doubted_without() {
    let program = surestack_oracle::programs::build("threads.c", "serve-threads", &["-O2"]).expect("it compiles");
    let mut server = Server::start();
    let mut session = at(program.to_str().expect("a path of letters"), 1_000);
    while session.tid() == session.pid() || session.truth().expect("a truth").pcs.len() < 4 {
        session.step().expect("a step");
    }
    let truth = session.truth().expect("a truth").pcs;
    let mut request = server.request(&session.stop().expect("a stop"));
    let with = server.line(request.to_string().as_bytes());
    assert_eq!((frames(&with), &with["verdict"]), (truth.clone(), &json!("reliable")), "{with}");
    request["regs"]["fs_base"] = request["fs_base"].take();
    let inside = server.line(request.to_string().as_bytes());
    assert_eq!(inside["verdict"], "reliable", "among the registers it is the same: {inside}");
    request["regs"]["fs_base"].take();
    let without = server.line(request.to_string().as_bytes());
    assert_eq!((frames(&without), &without["verdict"]), (truth, &json!("unreliable")), "{without}");
}

#[test]
fn another_process_with_the_same_number_is_not_taken_for_the_first() {
    let mut server = Server::told_that_nothing_changes();
    let mut first = at("/bin/true", 3_000);
    let pid = first.pid();
    assert_eq!(frames(&server.unwind(&first.stop().expect("a stop"))), first.truth().expect("a truth").pcs);
    drop(first);
    // The kernel gives out numbers in order, from behind the last one; somebody else may be faster.
    for _ in 0..200 {
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_err() {
            skipped("a number given to another process: only root may choose it");
            return;
        }
        let mut second = at("/bin/ls", 0);
        if second.pid() != pid {
            continue;
        }
        for _ in 0..3_000 {
            second.step().expect("a step");
        }
        for _ in 0..100 {
            second.step().expect("a step");
            let truth = second.truth().expect("a truth").pcs;
            let answer = server.unwind(&second.stop().expect("a stop"));
            assert_eq!(frames(&answer), truth, "{answer}");
        }
        return;
    }
    panic!("the number {pid} was never given out again");
}
