//! The tools: how each is asked about a program, and what its answer is worth.

use crate::bed::{Program, Running};
use serde_json::Value;
use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One tool.
pub struct Tool {
    pub name: &'static str,
    pub ask: Ask,
}

/// Asks a tool about the program, which does what the word says.
type Ask = fn(&Program, &str) -> Result<Said, Box<dyn Error>>;

pub const TOOLS: [Tool; 4] = [
    Tool { name: "gdb", ask: gdb },
    Tool { name: "libunwind-ptrace", ask: libunwind },
    Tool { name: "glibc backtrace()", ask: backtrace },
    Tool { name: "surestack", ask: surestack },
];

/// What a tool said.
pub struct Said {
    /// The program's functions; [`PROBE`] and [`NOWHERE`] for pcs in the kernel's pages and in no code.
    frames: Vec<String>,
    /// Where it says that something is wrong, and what.
    complaint: Option<String>,
}

/// A page of the kernel's probes.
const PROBE: &str = "(probe)";
/// No code.
const NOWHERE: &str = "(no code)";
/// What the program does to be asked.
const ASKING: [&str; 3] = ["report", "on_trap", "on_alarm"];

impl Said {
    /// Whether the innermost frame is in a page of the kernel's probes.
    pub fn is_in_probe(&self) -> bool {
        self.frames.iter().find(|name| !ASKING.contains(&name.as_str())).is_some_and(|name| name == PROBE)
    }

    fn functions(&self) -> Vec<&str> {
        let shown = self.frames.iter().map(String::as_str);
        shown.filter(|name| *name != PROBE && !ASKING.contains(name)).collect()
    }

    /// Its answer about who is on the stack.
    pub fn judged(&self, truth: &[&str]) -> String {
        let shown = self.functions();
        let list = if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") };
        match &self.complaint {
            None if shown == truth => "right and complete".to_owned(),
            None => format!("**wrong and silent**: {list}"),
            Some(said) if truth.starts_with(&shown) => format!("{list}, and says so: {said}"),
            Some(said) => format!("**wrong**: {list}; but says: {said}"),
        }
    }

    /// Its answer about a function that is on the stack, when a patcher asks: clear unless the function is seen or the
    /// walk failed.
    pub fn patched(&self, function: &str) -> String {
        match &self.complaint {
            _ if self.functions().contains(&function) => "no: it is on the stack".to_owned(),
            None => "**yes**".to_owned(),
            Some(said) => format!("does not know: {said}"),
        }
    }
}

/// The mappings of a process, as far as they are code: start, end, name.
struct Maps(Vec<(u64, u64, String)>);

impl Maps {
    fn parse<'l>(lines: impl Iterator<Item = &'l str>) -> Self {
        let parsed = lines.filter_map(|line| {
            let mut words = line.split_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            let code = words.next()?.contains('x');
            code.then(|| (start, end, words.nth(3).unwrap_or_default().to_owned()))
        });
        Self(parsed.collect())
    }

    fn of(pid: u32) -> Result<Self, Box<dyn Error>> {
        Ok(Self::parse(std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines()))
    }

    /// What a frame at this pc is called; `None` in other files' code.
    fn frame(&self, program: &Program, pc: u64, is_exact: bool) -> Option<String> {
        if let Some(name) = program.named(if is_exact { pc } else { pc.wrapping_sub(1) }) {
            // The C library's and the compiler's parts of the program.
            return (!name.starts_with('_')).then_some(name);
        }
        let name = self.0.iter().find(|(start, end, _)| (*start..*end).contains(&pc)).map(|(_, _, name)| name.as_str());
        match name {
            Some("[uprobes]" | "[uprobes-trampoline]") => Some(PROBE.to_owned()),
            Some(_) => None,
            None => Some(NOWHERE.to_owned()),
        }
    }
}

/// The program, doing what it is to be asked about.
fn running(program: &Program, runs: &str) -> Running {
    if runs == "loop" {
        let running = program.start(runs);
        std::thread::sleep(Duration::from_millis(150));
        running
    } else {
        program.waiting_in(runs)
    }
}

fn gdb(program: &Program, runs: &str) -> Result<Said, Box<dyn Error>> {
    let running = running(program, runs);
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "set print frame-info location"]);
    command.args(["-p", &running.pid().to_string(), "-ex", "bt -frame-arguments none 64"]);
    let output = command.output()?;
    let (text, maps) = (String::from_utf8_lossy(&output.stdout), Maps::of(running.pid())?);
    let mut frames = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix('#') else { continue };
        let mut words = rest.split_whitespace().skip(1);
        let first = words.next().unwrap_or_default();
        let pc = first.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let name = if pc.is_some() { words.nth(1).unwrap_or_default() } else { first };
        match (name, pc) {
            ("??", Some(pc)) => frames.extend(maps.frame(program, pc, true)),
            _ if program.defines(name) && !name.starts_with('_') => frames.push(name.to_owned()),
            _ => {}
        }
    }
    let complaint =
        |text: &str| text.lines().find_map(|line| Some(line.strip_prefix("Backtrace stopped: ")?.to_owned()));
    let complaint = complaint(&text).or_else(|| complaint(&String::from_utf8_lossy(&output.stderr)));
    Ok(Said { frames, complaint })
}

fn libunwind(program: &Program, runs: &str) -> Result<Said, Box<dyn Error>> {
    let tool = built(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let running = running(program, runs);
    let output = Command::new(tool).arg(running.pid().to_string()).output()?;
    let (text, maps) = (String::from_utf8(output.stdout)?, Maps::of(running.pid())?);
    let end = text.lines().find_map(|line| line.strip_prefix("end ")).ok_or("it cannot attach")?;
    let complaint = (end != "0").then(|| format!("unw_step = {end}"));
    Ok(Said { frames: listed(program, &maps, &text), complaint })
}

/// The loop over libunwind, compiled.
fn built(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let (source, tool) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scenes/libunwind.c"), folder.join("libunwind"));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-o"]).arg(&tool).arg(source).args(["-lunwind-ptrace", "-lunwind-x86_64", "-lunwind", "-llzma"]);
    if gcc.output()?.status.success() { Ok(tool) } else { Err("libunwind-dev is not installed".into()) }
}

/// In the process itself, which cannot say that something is wrong.
fn backtrace(program: &Program, runs: &str) -> Result<Said, Box<dyn Error>> {
    let mut running = program.start_to_report(runs);
    let mut text = String::new();
    running.child.stdout.take().ok_or("no pipe")?.read_to_string(&mut text)?;
    let maps = Maps::parse(text.lines());
    Ok(Said { frames: listed(program, &maps, &text), complaint: None })
}

/// Frames of lines that say `pc` or, of interrupted ones, `exact`.
fn listed(program: &Program, maps: &Maps, text: &str) -> Vec<String> {
    let frame = |line: &str| {
        let (kind, pc) = line.split_once(" 0x")?;
        let pc = u64::from_str_radix(pc, 16).ok()?;
        matches!(kind, "pc" | "exact").then(|| maps.frame(program, pc, kind == "exact")).flatten()
    };
    text.lines().filter_map(frame).collect()
}

fn surestack(program: &Program, runs: &str) -> Result<Said, Box<dyn Error>> {
    let running = running(program, runs);
    let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
    let output = command.args(["process", "--json", &running.pid().to_string()]).output()?;
    let (report, maps): (Value, Maps) = (serde_json::from_slice(&output.stdout)?, Maps::of(running.pid())?);
    let thread = &report["threads"][0];
    let verdict = &thread["verdict"];
    let named = |(index, frame): (usize, &Value)| {
        let pc = u64::from_str_radix(frame["offset"].as_str()?.strip_prefix("0x")?, 16).ok()?;
        Some((index, maps.frame(program, pc, index == 0 || frame["kind"] != "call")?))
    };
    let frames = thread["frames"].as_array().ok_or("no frames")?.iter().enumerate().filter_map(named);
    let (mut frames, complaint) = (frames.collect::<Vec<_>>(), complaint(verdict));
    // What lies behind the first doubt is shown as what it is: a guess.
    let believed = verdict["believed"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    frames.retain(|(index, _)| complaint.is_none() || *index < believed);
    Ok(Said { frames: frames.into_iter().map(|(_, name)| name).collect(), complaint })
}

/// What speaks against a trace, in short.
fn complaint(verdict: &Value) -> Option<String> {
    let doubts = verdict["doubts"].to_string();
    let why = if doubts.contains("uretprobe") { "a uretprobe replaced the next return address" } else { &doubts };
    (verdict["verdict"] != "reliable").then(|| format!("unreliable from here on, {why}"))
}

/// Our own decision about a function that is on the stack.
pub fn may_replace(program: &Program, function: &str) -> Result<String, Box<dyn Error>> {
    let running = running(program, "wait");
    let targets = program.path.with_extension("targets");
    std::fs::write(&targets, format!("{function} vouch"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
    command.args(["check", "--json", &running.pid().to_string(), "--functions"]).arg(targets);
    let output = command.output()?;
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let standing = said["threads"][0]["standing"].as_str().unwrap_or("not said");
    Ok(match output.status.code() {
        Some(0) => "**yes**".to_owned(),
        Some(1) => format!("no, retry later: the thread is {standing}"),
        _ => format!("no, refused: the thread is {standing}"),
    })
}
