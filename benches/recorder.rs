//! What an event and an annotation cost, beside reading the clock, a queue behind a mutex, and formatting into `/dev/null`.
//!
//! `cargo bench --bench recorder --features tracing,log -- --write README.md` puts the table between its markers; `--quick`
//! is for trying. One process, every contender in its turn in each of many rounds, medians; thread CPU time. With two
//! threads: what both do together, beside one alone in the same round, by their own CPU time and by the clock on the wall.

#[path = "recorder/contenders.rs"]
mod contenders;
#[path = "recorder/measure.rs"]
mod measure;

use contenders::{CONTENDERS, Contender};
use measure::{Effort, median};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

/// What a contender was seen to take, in each round.
struct Row {
    contender: &'static Contender,
    nanoseconds: Vec<f64>,
    /// Two threads beside one: of a second of CPU time, and of a second.
    of_cpu: Vec<f64>,
    of_time: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let effort = if words.contains(&"--quick") { Effort::QUICK } else { Effort::FULL };
    contenders::prepare()?;
    let table = table(&rows(effort))?;
    print!("{table}");
    let path = words.iter().position(|word| *word == "--write").and_then(|at| words.get(at + 1));
    path.map_or(Ok(()), |path| replace(Path::new(path), &table))
}

fn rows(effort: Effort) -> Vec<Row> {
    let none = |contender| Row { contender, nanoseconds: vec![], of_cpu: vec![], of_time: vec![] };
    let mut rows: Vec<Row> = CONTENDERS.iter().map(none).collect();
    for row in (0..effort.rounds).flat_map(|_| 0..CONTENDERS.len()) {
        let row = &mut rows[row];
        let (cpu, time) = measure::two_beside_one(row.contender.work, effort.turn);
        row.nanoseconds.push(measure::alone(row.contender.work, effort.turn));
        row.of_cpu.push(cpu);
        row.of_time.push(time);
    }
    rows
}

fn table(rows: &[Row]) -> Result<String, Box<dyn Error>> {
    let clock = median(&rows.first().ok_or("no clock")?.nanoseconds);
    let mut text = String::new();
    writeln!(
        text,
        "| | ns | × `clock_gettime` | asked | two threads, of CPU time | of time |\n|---|---|---|---|---|---|"
    )?;
    for Row { contender: Contender { name, asked, .. }, nanoseconds, of_cpu, of_time } in rows {
        let [nanoseconds, cpu, time] = [nanoseconds, of_cpu, of_time].map(|rounds| median(rounds));
        let ratio = nanoseconds / clock;
        writeln!(text, "| {name} | {nanoseconds:.1} | {ratio:.2} | {asked} | {cpu:.2} | {time:.2} |")?;
    }
    Ok(text)
}

/// Puts the table between its markers.
fn replace(path: &Path, table: &str) -> Result<(), Box<dyn Error>> {
    const MARKERS: (&str, &str) = ("<!-- figures:recorder -->", "<!-- /figures -->");
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(MARKERS.0).ok_or("no marker `figures:recorder`")?;
    let (_, after) = rest.split_once(MARKERS.1).ok_or("no end of the figures")?;
    std::fs::write(path, format!("{before}{}\n{table}{}{after}", MARKERS.0, MARKERS.1))?;
    Ok(())
}
