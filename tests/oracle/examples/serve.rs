//! How fast `surestack serve` answers while a program is single-stepped, and how much memory it takes.
//!
//! `cargo run --release -p surestack-oracle --example serve -- target/release/surestack [docs/serve.md]`
//!
//! `/bin/ls /` is stepped from the kernel's first instruction on, again and again, until a million requests are
//! answered. Every tenth instruction is asked about twice: "stepping" is the first answer, in which code is seen for the
//! first time; "again" is the second, in which everything about the code is known. Each run is a round.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use surestack_oracle::contender::Stop;
use surestack_oracle::document;
use surestack_oracle::session::{Begin, Event, Session};

/// Requests in all.
const REQUESTS: u64 = 1_000_000;
/// Instructions from one stop to the next.
const EVERY: u64 = 10;
/// After how many requests memory is looked at first.
const SETTLED: u64 = 100_000;

/// The server, and this end of its pipes.
struct Server {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What one round took, for the first answers and for the second.
#[derive(Clone, Copy, Default)]
struct Round {
    asked: u64,
    wall: [f64; 2],
    cpu: [f64; 2],
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let binary = words.next().ok_or("where is surestack?")?;
    let mut server = Server::start(&binary)?;
    let (mut rounds, mut answered, mut early) = (Vec::new(), 0, None);
    while answered < REQUESTS {
        let round = server.round(&mut answered, &mut early)?;
        eprintln!("{answered} requests: {:.1} / {:.1} µs CPU", round.per(round.cpu, 0), round.per(round.cpu, 1));
        rounds.push(round);
    }
    let early = early.unwrap_or_default();
    let (late, most) = (server.memory("VmRSS:")?, server.memory("VmHWM:")?);
    let mut text =
        String::from("| `/bin/ls` under single-step | requests a second | CPU µs a request |\n|---|--:|--:|\n");
    for (index, what) in ["stepping, code seen for the first time included", "asked again"].into_iter().enumerate() {
        let rate = median(rounds.iter().map(|round| 1e6 / round.per(round.wall, index)));
        let cpu = median(rounds.iter().map(|round| round.per(round.cpu, index)));
        text += &format!("| {what} | {rate:.0} | {cpu:.1} |\n");
    }
    text += &format!(
        "\nMedians of {} rounds, {answered} requests. Memory: {early:.1} MiB after {SETTLED} requests, {late:.1} MiB after \
         all, never more than {most:.1} MiB.\n",
        rounds.len()
    );
    print!("{text}");
    Ok(words.next().map_or(Ok(()), |path| document::write(&path, "serve", &text))?)
}

impl Round {
    /// Microseconds of each request.
    fn per(&self, taken: [f64; 2], index: usize) -> f64 {
        taken.get(index).copied().unwrap_or(f64::NAN) * 1e6 / self.asked as f64
    }
}

impl Server {
    fn start(binary: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(binary);
        let mut child = command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let pipes = to.zip(from).ok_or("no pipes")?;
        Ok(Self { child, to: pipes.0, from: BufReader::new(pipes.1) })
    }

    /// Steps the program to its end, or until all requests are answered.
    fn round(&mut self, answered: &mut u64, early: &mut Option<f64>) -> Result<Round, Box<dyn Error>> {
        let mut session = Session::start(Command::new("/bin/ls").arg("/").stdout(Stdio::null()), Begin::Kernel)?;
        let mut round = Round::default();
        let mut answer = String::new();
        while *answered < REQUESTS {
            if let Event::Ended(_) = session.step()? {
                break;
            }
            if session.counts().steps % EVERY != 0 {
                continue;
            }
            let asked = request(&session.stop()?);
            for (wall, cpu) in round.wall.iter_mut().zip(&mut round.cpu) {
                let (before, began) = (self.cpu()?, Instant::now());
                self.to.write_all(asked.as_bytes())?;
                answer.clear();
                self.from.read_line(&mut answer)?;
                *wall += began.elapsed().as_secs_f64();
                *cpu += self.cpu()? - before;
                if !answer.contains("\"frames\"") {
                    return Err(format!("{asked}: {answer}").into());
                }
                *answered += 1;
                if *answered == SETTLED {
                    *early = Some(self.memory("VmRSS:")?);
                }
            }
            round.asked += 1;
        }
        Ok(round)
    }

    /// Seconds that it ran.
    fn cpu(&self) -> Result<f64, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        let nanoseconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        nanoseconds.map(|nanoseconds| nanoseconds / 1e9).ok_or("no schedstat".into())
    }

    /// A line of its status, in MiB.
    fn memory(&self, name: &str) -> Result<f64, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).ok_or_else(|| format!("no {name}").into())
    }
}

/// The line that asks about a stop.
fn request(stop: &Stop<'_>) -> String {
    let r = &stop.registers;
    format!(
        "{{\"op\":\"unwind\",\"pid\":{},\"tid\":{},\"maps_gen\":{},\"fs_base\":\"{:#x}\",\"regs\":{{\"rip\":\"{:#x}\",\
         \"rsp\":\"{:#x}\",\"rax\":\"{:#x}\",\"rbx\":\"{:#x}\",\"rcx\":\"{:#x}\",\"rdx\":\"{:#x}\",\"rsi\":\"{:#x}\",\
         \"rdi\":\"{:#x}\",\"rbp\":\"{:#x}\",\"r8\":\"{:#x}\",\"r9\":\"{:#x}\",\"r10\":\"{:#x}\",\"r11\":\"{:#x}\",\
         \"r12\":\"{:#x}\",\"r13\":\"{:#x}\",\"r14\":\"{:#x}\",\"r15\":\"{:#x}\"}}}}\n",
        stop.pid,
        stop.tid,
        stop.maps_generation,
        r.fs_base,
        r.rip,
        r.rsp,
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.rbp,
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
