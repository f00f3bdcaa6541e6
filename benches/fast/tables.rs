//! All workloads, and the tables of what was seen.

use crate::contenders::{self, Contender};
use crate::instructions::{Stacks, counted};
use crate::measure::{Effort, Ticks};
use crate::processes::{Kind, medians};
use crate::programs::{Link, Programs};
use crate::repeated::{Both, Figure, repeated, varied};
use crate::stacks::Numbers;
use crate::threads::{Rates, SETTINGS, rates};
use std::error::Error;
use std::fmt::Write as _;

/// One workload on which a trace is taken again and again: its title, and its stack.
type Repeated = (&'static str, fn(&Programs) -> Vec<Link>);

const REPEATED: [Repeated; 5] = [
    // One function that calls itself.
    ("16 deep", |programs| programs.recursion(16)),
    ("64 deep", |programs| programs.recursion(64)),
    ("256 deep", |programs| programs.recursion(256)),
    // 80 frames of C, C++ and Rust in seven objects: comparisons of `qsort` and `std::sort`, closures, virtual functions, ...
    ("the same stack", |programs| programs.wide(&mut Numbers(0))),
    // The same with `int3` in the middle, and the rest of it on the alternate stack.
    ("through a signal", |programs| programs.interrupted(&mut Numbers(0))),
];

/// All that was seen of one contender.
pub struct Row {
    pub contender: Contender,
    pub repeated: Vec<Figure>,
    pub varied: Figure,
    pub instructions: [Option<f64>; 2],
    /// Nanoseconds a frame of the first and the second pass, found, true.
    pub many: [f64; 4],
    /// Microseconds to prepare, of the first trace, of the second, of the first by the clock; found, true.
    pub first: [f64; 6],
    pub rates: Rates,
}

/// Measures everything.
pub fn tables(effort: Effort) -> Result<String, Box<dyn Error>> {
    let (contenders, both, ticks) = (contenders::all(), Both::load()?, Ticks::new());
    let mut repeats: Vec<Vec<Figure>> = contenders.iter().map(|_| Vec::new()).collect();
    for (_, links) in REPEATED {
        let figures = repeated(contenders, &both, effort, links);
        repeats.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
    }
    let varied = varied(contenders, &both, effort, &ticks);
    let many = medians(Kind::Many, contenders, effort)?;
    let first = medians(Kind::First, contenders, effort)?;
    let rates = rates(contenders, &both, effort)?;
    let rows = contenders.iter().zip(repeats).zip(varied).zip(many).zip(first).zip(rates);
    let rows: Vec<Row> = rows
        .map(|(((((contender, repeated), varied), many), first), rates)| Row {
            contender: *contender,
            repeated,
            varied,
            instructions: [Stacks::Varied, Stacks::Same].map(|stacks| counted(contender, stacks)),
            many,
            first,
            rates,
        })
        .collect();
    let mut text = String::new();
    warm(&mut text, &rows)?;
    cold(&mut text, &rows)?;
    threads(&mut text, &rows)?;
    Ok(text)
}

fn cell(figure: &Figure, raw: &Figure) -> String {
    let Figure { nanoseconds, found, truth } = figure;
    let all = if truth - found < 0.005 { "all".to_owned() } else { format!("**{found:.0}**") };
    format!("{nanoseconds:.1} ns, {:.1} ×, {all} of {truth:.0}", nanoseconds / raw.nanoseconds)
}

fn warm(text: &mut String, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let raw = rows.first().ok_or("nobody to compare with")?;
    write!(text, "| a frame, warm |")?;
    for (title, _) in REPEATED {
        write!(text, " {title} |")?;
    }
    writeln!(
        text,
        " stacks vary | instructions, stacks vary | the same stack |\n|---|{}",
        "--:|".repeat(REPEATED.len() + 3)
    )?;
    for row in rows {
        write!(text, "| {} |", row.contender.name)?;
        for (figure, raw) in row.repeated.iter().zip(&raw.repeated) {
            write!(text, " {} |", cell(figure, raw))?;
        }
        write!(text, " {} |", cell(&row.varied, &raw.varied))?;
        for count in row.instructions {
            write!(text, " {} |", count.map_or("–".to_owned(), |count| format!("{count:.1}")))?;
        }
        writeln!(text)?;
    }
    writeln!(text)?;
    Ok(())
}

fn cold(text: &mut String, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    writeln!(
        text,
        "| | 10,000 functions, ns a frame: first pass | second pass | found | new process, µs: prepare | first trace | by the clock | second | found |"
    )?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in rows {
        let ([one, two, found, truth], [prepared, first, second, by_clock, seen, all]) = (row.many, row.first);
        writeln!(
            text,
            "| {} | {one:.1} | {two:.1} | {found:.1}/{truth:.1} | {prepared:.1} | {first:.1} | {by_clock:.1} | {second:.1} | {seen:.0}/{all:.0} |",
            row.contender.name
        )?;
    }
    writeln!(text)?;
    Ok(())
}

fn threads(text: &mut String, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    writeln!(text, "{SETTINGS:?}")?;
    for row in rows {
        writeln!(text, "| {} | {:?} |", row.contender.name, row.rates)?;
    }
    writeln!(text)?;
    Ok(())
}
