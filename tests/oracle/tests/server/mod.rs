//! A server that is asked over a pipe about threads that are stopped here.
#![allow(dead_code, reason = "each test uses its part")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use surestack_oracle::contender::{Answer, Contender, Stop};
use surestack_oracle::measure::{Outcome, Plan, measure};
use surestack_oracle::session::{Begin, Event, Session};

/// A server on a thread of its own, and this end of the pipe to it.
pub struct Server {
    to: UnixStream,
    from: BufReader<UnixStream>,
    asked: u64,
    /// What is said of the mappings, where that is not the truth.
    generation: Option<u64>,
}

impl Server {
    pub fn start() -> Self {
        let (here, there) = UnixStream::pair().expect("a pipe");
        std::thread::spawn(move || {
            let input = BufReader::new(there.try_clone().expect("a second handle"));
            surestack::serve::serve(input, there)
        });
        Self { from: BufReader::new(here.try_clone().expect("a second handle")), to: here, asked: 0, generation: None }
    }

    /// The same, told that nothing is ever mapped.
    pub fn told_that_nothing_changes() -> Self {
        Self { generation: Some(0), ..Self::start() }
    }

    /// The answer to a line.
    pub fn line(&mut self, line: &[u8]) -> Value {
        self.to.write_all(line).expect("the server reads");
        self.to.write_all(b"\n").expect("the server reads");
        let mut answer = String::new();
        self.from.read_line(&mut answer).expect("the server answers");
        serde_json::from_str(&answer).expect("in JSON")
    }

    /// The answer about a stop.
    pub fn unwind(&mut self, stop: &Stop<'_>) -> Value {
        let request = self.request(stop);
        let answer = self.line(request.to_string().as_bytes());
        assert_eq!(answer["id"], request["id"]);
        answer
    }

    /// What asks about a stop.
    pub fn request(&mut self, stop: &Stop<'_>) -> Value {
        self.asked += 1;
        let asked = self.asked;
        let r = &stop.registers;
        let registers = [
            ("rip", r.rip),
            ("rsp", r.rsp),
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rbp", r.rbp),
            ("r8", r.r8),
            ("r9", r.r9),
            ("r10", r.r10),
            ("r11", r.r11),
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
        ];
        let regs: serde_json::Map<String, Value> =
            registers.iter().map(|(name, value)| ((*name).to_owned(), json!(format!("{value:#x}")))).collect();
        let generation = self.generation.unwrap_or(stop.maps_generation);
        json!({
            "op": "unwind", "id": asked, "pid": stop.pid, "tid": stop.tid, "maps_gen": generation,
            "fs_base": r.fs_base, "regs": regs,
        })
    }
}

/// The pcs of an answer.
pub fn frames(answer: &Value) -> Vec<u64> {
    let address = |frame: &Value| u64::from_str_radix(frame.as_str()?.strip_prefix("0x")?, 16).ok();
    let frames = answer["frames"].as_array().unwrap_or_else(|| panic!("{answer}"));
    frames.iter().map(|frame| address(frame).expect("a hexadecimal string")).collect()
}

impl Contender for Server {
    fn name(&self) -> &str {
        "serve"
    }

    fn ask(&mut self, stop: &Stop<'_>) -> Answer {
        let answer = self.unwind(stop);
        let trusted = answer["verdict"] == "reliable";
        assert_eq!(
            trusted,
            answer["doubts"].as_array().is_some_and(Vec::is_empty)
                && answer["reason"].as_str().is_some_and(|reason| reason.starts_with("every")),
            "{answer}"
        );
        Answer { pcs: frames(&answer), trusted, why: answer["reason"].to_string() }
    }
}

/// What a server says about every `every`th stop of the first `steps` instructions.
pub fn asked(server: Server, command: &mut Command, begin: Begin, every: u64, steps: u64) -> Outcome {
    let plan = Plan { begin, every, peers_every: 1, max_steps: steps, inject: None };
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(server)];
    measure("serve", command.stdout(Stdio::null()), &plan, &mut contenders).expect("it can be stepped")
}

/// The first stop of a program at or behind `steps` instructions.
pub fn at(program: &str, steps: u64) -> Session {
    let mut session = Session::start(Command::new(program).stdout(Stdio::null()), Begin::Kernel).expect("it starts");
    while session.counts().steps < steps {
        assert!(matches!(session.step().expect("a step"), Event::Stopped { .. }));
    }
    session
}
