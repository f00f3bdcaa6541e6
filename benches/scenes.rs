//! What gdb, libunwind, glibc's backtrace() and surestack answer about the same scenes: real probes and breakpoints of the
//! kernel, in functions that are on the stack.
//!
//! `cargo bench --bench scenes -- --write README.md` puts the table between its markers.

#[path = "../tests/kernel/bed.rs"]
mod bed;
#[path = "scenes/tools.rs"]
mod tools;

use bed::{BUILDS, Kind, Probe, Program};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use tools::{Said, TOOLS, Tool, may_replace};

/// A scene: what is shown, how it is made, and who is on the stack.
struct Scene {
    what: &'static str,
    /// With frame pointers, or without.
    build: (&'static str, &'static str),
    /// What the program does.
    runs: &'static str,
    probe: Option<(Kind, &'static str)>,
    asked: Asked,
}

enum Asked {
    /// Which of the program's functions are on the stack? Asked so often.
    Chain(&'static [&'static str], usize),
    /// May this one, which is on the stack, be replaced?
    Replace(&'static str),
}

const FP: (&str, &str) = BUILDS[0];
const NO_FP: (&str, &str) = BUILDS[1];
const WAITING: [&str; 4] = ["leaf", "mid", "outer", "main"];

const SCENES: [Scene; 6] = [
    Scene {
        what: "D1: a breakpoint over the first `push` of a function, seen from its handler",
        build: NO_FP,
        runs: "handled",
        probe: None,
        asked: Asked::Chain(&["victim", "caller1", "caller2", "main"], 1),
    },
    Scene {
        what: "D2: `mid` has a uretprobe; no frame pointers",
        build: NO_FP,
        runs: "wait",
        probe: Some((Kind::Return, "mid")),
        asked: Asked::Chain(&WAITING, 1),
    },
    Scene {
        what: "D3: `mid` has a uretprobe; frame pointers",
        build: FP,
        runs: "wait",
        probe: Some((Kind::Return, "mid")),
        asked: Asked::Chain(&WAITING, 1),
    },
    Scene {
        what: "D4: may `mid` be replaced, which `leaf` will return to? `leaf` has a uretprobe; frame pointers",
        build: FP,
        runs: "wait",
        probe: Some((Kind::Return, "leaf")),
        asked: Asked::Replace("mid"),
    },
    Scene {
        what: "D4, no frame pointers",
        build: NO_FP,
        runs: "wait",
        probe: Some((Kind::Return, "leaf")),
        asked: Asked::Replace("mid"),
    },
    Scene {
        what: "D6: in the trampoline of a probed `nop`, ten samples",
        build: NO_FP,
        runs: "loop",
        probe: Some((Kind::Entry, "site")),
        asked: Asked::Chain(&["probed", "loop", "looping", "main"], 10),
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let write = arguments.iter().position(|word| word == "--write").and_then(|at| arguments.get(at + 1));
    let _alone = bed::alone();
    let names: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
    let mut table = format!("| scene | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for scene in SCENES {
        let program = Program::build(scene.build);
        let probe = scene.probe.map(|(kind, name)| program.probe(kind, program.function(name).0)).transpose();
        let cells: Vec<String> = match probe {
            Ok(probe) => TOOLS.iter().map(|tool| scene.cell(&program, tool, &probe)).collect(),
            Err(error) => TOOLS.iter().map(|_| format!("not run: the kernel refuses the probe ({error})")).collect(),
        };
        table += &format!("| {} | {} |\n", scene.what, cells.join(" | "));
    }
    print!("{table}");
    write.map_or(Ok(()), |path| replace(Path::new(path), &table))
}

impl Scene {
    /// What a tool answers, in words; the most frequent answer, where it is asked more than once.
    fn cell(&self, program: &Program, tool: &Tool, _planted: &Option<Probe>) -> String {
        let (rounds, in_probe) = match self.asked {
            Asked::Chain(_, rounds) => (rounds, rounds > 1),
            Asked::Replace(_) => (1, false),
        };
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..rounds {
            let answer = match self.asked {
                Asked::Replace(function) if tool.name == "surestack" => may_replace(program, function),
                Asked::Replace(function) => self.said(program, tool, in_probe).map(|said| said.patched(function)),
                Asked::Chain(truth, _) => self.said(program, tool, in_probe).map(|said| said.judged(truth)),
            };
            *answers.entry(answer.unwrap_or_else(|error| format!("not run: {error}"))).or_default() += 1;
        }
        let most = answers.into_iter().max_by_key(|(_, count)| *count).unwrap_or_default();
        if rounds == 1 { most.0 } else { format!("{} of {rounds}: {}", most.1, most.0) }
    }

    /// One answer; of samples, one that was taken inside the kernel's page.
    fn said(&self, program: &Program, tool: &Tool, in_probe: bool) -> Result<Said, Box<dyn Error>> {
        const ATTEMPTS: usize = 20;
        for _ in 0..ATTEMPTS {
            let said = (tool.ask)(program, self.runs)?;
            if !in_probe || said.is_in_probe() {
                return Ok(said);
            }
        }
        Err("no sample was inside".into())
    }
}

/// Puts the table between the markers of `path`.
fn replace(path: &Path, table: &str) -> Result<(), Box<dyn Error>> {
    const BEGIN: &str = "<!-- figures:scenes -->\n";
    const END: &str = "<!-- /figures -->";
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no marker `figures:scenes`")?;
    let (_, after) = rest.split_once(END).ok_or("no end of the figures")?;
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}
