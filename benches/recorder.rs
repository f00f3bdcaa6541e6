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

/// What each contender was seen to take.
struct Row {
    contender: &'static Contender,
    nanoseconds: f64,
    /// Two threads beside one: of a second of CPU time, and of a second.
    scaling: (f64, f64),
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
    let mut alone = vec![vec![]; CONTENDERS.len()];
    let mut pairs = vec![vec![]; CONTENDERS.len()];
    for _ in 0..effort.rounds {
        for ((contender, alone), pairs) in CONTENDERS.iter().zip(&mut alone).zip(&mut pairs) {
            alone.push(measure::alone(contender.work, effort.turn));
            pairs.push(measure::two_beside_one(contender.work, effort.turn));
        }
    }
    let row = |((contender, alone), pairs): ((&'static Contender, &Vec<f64>), &Vec<(f64, f64)>)| {
        let of = |which: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(which).collect::<Vec<_>>());
        Row { contender, nanoseconds: median(alone), scaling: (of(|pair| pair.0), of(|pair| pair.1)) }
    };
    CONTENDERS.iter().zip(&alone).zip(&pairs).map(row).collect()
}

fn table(rows: &[Row]) -> Result<String, Box<dyn Error>> {
    let clock = rows.first().ok_or("no clock")?.nanoseconds;
    let mut text = String::new();
    writeln!(
        text,
        "| | ns | × `clock_gettime` | asked | two threads, of CPU time | of time |\n|---|---|---|---|---|---|"
    )?;
    for Row { contender: Contender { name, asked, .. }, nanoseconds, scaling: (cpu, wall) } in rows {
        let ratio = nanoseconds / clock;
        writeln!(text, "| {name} | {nanoseconds:.1} | {ratio:.2} | {asked} | {cpu:.2} | {wall:.2} |")?;
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
