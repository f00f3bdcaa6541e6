//! Programs that record, and how they are run.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use surestack::recorder::{Full, Options, Value, annotate, event, start};

/// A program that runs.
pub struct Program {
    pub child: Child,
}

impl Program {
    /// Starts one, and waits until it says that it has started its recorder.
    pub fn start(what: &str, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", what]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "started\n");
        Self { child }
    }

    /// Lets it go on, which for most ends it, and waits for that.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program does that this is when it is started as one.
pub fn run(what: &str, path: &Path) {
    let options = if path.as_os_str() == "memory" { Options::memory() } else { Options::file(path) };
    // Who talks is read every now and then, who shouts is not read to the end.
    let ring_size = if what == "talks" { 1 << 20 } else { 32 << 10 };
    let options = options.threads(4).ring_size(ring_size).annotations(8);
    let full = if what == "drops" { Full::DropNewest } else { Full::Overwrite };
    start(options.full(full)).unwrap();
    match what {
        "killed" => killed(),
        "talks" => talks(Duration::from_millis(1)),
        "shouts" => talks(Duration::ZERO),
        "drops" => {
            (0..2000).for_each(|index| event!("one of many", index = index));
            ready();
        }
        _ => unreachable!("{what}"),
    }
}

fn ready() {
    println!("started");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

/// Says all there is to say, and is killed.
fn killed() {
    annotate("version", "4.2.1");
    annotate("connections", 17);
    annotate("connections", 18);
    event!(info: "listening", port = 8080_u16, address = Value::Address(0x7f00_0001), tls = true);
    let worker = thread::Builder::new().name("worker".to_owned());
    let works = || {
        event!(warn: "slow", path = "/index", took = 117.5, delta = -3);
        event!("odd", text = "a\x1b[31m\"b\nc", long = &*"x".repeat(2000));
    };
    worker.spawn(works).unwrap().join().unwrap();
    event!(error: "the end");
    ready();
    // SAFETY: it ends this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Two threads write events of which each says whether it is whole, until it is let go.
fn talks(pause: Duration) {
    for name in ["one", "two"] {
        let talks = move || {
            for index in 0_u64.. {
                let text = "abcdefghijklmnopqrstuvwxyz".repeat((index % 7) as usize);
                event!("said", index = index, again = !index, text = &*text);
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(talks).unwrap();
    }
    ready();
}
