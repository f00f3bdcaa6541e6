//! `surestack core` beside gdb and eu-stack: CPU seconds and peak memory of whole processes, on the same cores.
//!
//! `cargo bench --bench core` prints the table; `-- --write README.md` also puts it between the file's markers. Rounds are
//! interleaved and medians quoted; the machine's absolute speed matters less than the ratios.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use surestack_fixtures::{Built, Case, Usage, run_measured};

/// The cores measured: case, what it is, rounds, and how many seconds a tool may take.
const CORES: [(&str, &str, usize, u64); 3] = [
    ("plain-o2", "a small program, libc with debug information", 9, 20),
    ("threads-1000", "1,000 threads", 5, 20),
    ("overflow", "a stack overflow, 524,000 frames", 3, 20),
];

/// A tool, and its command line for a core.
type Tool = (&'static str, fn(&Built) -> Command);

const TOOLS: [Tool; 3] = [("surestack", surestack), ("gdb", gdb), ("eu-stack", eu_stack)];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let write = arguments.iter().position(|word| word == "--write").and_then(|at| arguments.get(at + 1));
    let mut table = String::from("| core | tool | CPU s | peak MiB | CPU, surestack = 1 |\n|---|---|--:|--:|--:|\n");
    for (name, what, rounds, limit) in CORES {
        match built(name)? {
            Some(built) => measure(&mut table, what, &built, rounds, Duration::from_secs(limit))?,
            None => writeln!(table, "| {what} | not measured: its tools are missing | | | |")?,
        }
    }
    table.push_str(&first_line()?);
    print!("{table}");
    write.map_or(Ok(()), |path| replace(Path::new(path), &table))
}

fn built(name: &str) -> Result<Option<Built>, Box<dyn Error>> {
    let case = Case::named(&[name.to_owned()])?.pop();
    Ok(case.map(|case| case.build()).transpose()?.flatten())
}

/// Adds a row for each tool, medians of interleaved rounds.
fn measure(
    table: &mut String,
    what: &str,
    built: &Built,
    rounds: usize,
    limit: Duration,
) -> Result<(), Box<dyn Error>> {
    let mut seen: Vec<Vec<Usage>> = TOOLS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, command), usages) in TOOLS.iter().zip(&mut seen) {
            // What was cut off once is not waited for again.
            if usages.iter().all(|usage: &Usage| usage.status.is_some()) {
                usages.push(run_measured(&mut command(built), limit)?);
            }
        }
    }
    let mut ours = None;
    for ((tool, _), usages) in TOOLS.iter().zip(seen) {
        let cpu = median(usages.iter().map(|usage| usage.cpu.as_secs_f64()));
        let peak = median(usages.iter().map(|usage| usage.peak_kib as f64 / 1024.0));
        let cut = if usages.iter().any(|usage| usage.status.is_none()) { "> " } else { "" };
        let base = *ours.get_or_insert(cpu.max(0.001));
        writeln!(table, "| {what} | {tool} | {cut}{cpu:.3} | {cut}{peak:.0} | {cut}{:.1} |", cpu / base)?;
    }
    Ok(())
}

/// How long the first byte of the longest report takes to come out of a pipe.
fn first_line() -> Result<String, Box<dyn Error>> {
    let Some(built) = built("overflow")? else { return Ok(String::new()) };
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let mut child = surestack(&built).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        child.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut [0])?;
        times.push(began.elapsed().as_secs_f64());
        child.kill()?;
        child.wait()?;
    }
    Ok(format!("\nThe first line of the 524,000 frames comes after {:.3} s.\n", median(times.into_iter())))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn surestack(built: &Built) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
    command.arg("core").arg(&built.core).args(&built.arguments).current_dir(&built.folder);
    command
}

fn gdb(built: &Built) -> Command {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-ex", "set pagination off", "-ex", "set debuginfod enabled off"]);
    command.args(["-ex", "thread apply all bt"]).args(&built.exe).arg(&built.core).current_dir(&built.folder);
    command
}

fn eu_stack(built: &Built) -> Command {
    let mut command = Command::new("eu-stack");
    let exe: Vec<PathBuf> = built.exe.iter().flat_map(|exe| ["-e".into(), exe.clone()]).collect();
    command.args(["-n", "0", "-s", "-i"]).args(exe).arg("--core").arg(&built.core).current_dir(&built.folder);
    command
}

/// Puts the table between the markers of `path`.
fn replace(path: &Path, table: &str) -> Result<(), Box<dyn Error>> {
    const BEGIN: &str = "<!-- figures:core -->\n";
    const END: &str = "<!-- /figures -->";
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no marker `figures:core`")?;
    let (_, after) = rest.split_once(END).ok_or("no end of the figures")?;
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}
