//! All workloads, and the tables of what was seen.

use crate::contenders::{self, Contender, ours};
use crate::gates;
use crate::instructions::{Stacks, counted};
use crate::measure::{Effort, Ticks};
use crate::names;
use crate::processes::{Kind, medians};
use crate::programs::{Link, Programs};
use crate::repeated::{Both, Figure, repeated, varied};
use crate::scaling;
use crate::stacks::Numbers;
use crate::threads::{Rates, SETTINGS, rates};
use std::error::Error;
use std::fmt::{self, Write as _};

/// One workload on which a trace is taken again and again: its title, and its stack.
type Repeated = (&'static str, fn(&Programs) -> Vec<Link>);

const REPEATED: [Repeated; 5] = [
    // One function that calls itself.
    ("16 deep", |programs| programs.recursion(16)),
    ("64 deep", |programs| programs.recursion(64)),
    ("256 deep", |programs| programs.recursion(256)),
    // About 80 frames of C, C++ and Rust in six objects: comparisons of `qsort` and `std::sort`, closures, virtual
    // functions.
    ("wide, the same stack", |programs| programs.wide(&mut Numbers(0))),
    // The same with `int3` in the middle, and the rest of it on the alternate stack.
    ("through a signal", |programs| programs.interrupted(&mut Numbers(0))),
];

/// All that was seen of one contender.
pub struct Row {
    pub contender: Contender,
    /// As in [`REPEATED`].
    pub repeated: [Figure; REPEATED.len()],
    pub varied: Figure,
    /// For a frame where stacks vary, and of the same stack.
    pub instructions: [Option<f64>; 2],
    pub rates: Rates,
}

/// What was seen of one contender in processes of its own.
pub struct Cold {
    pub contender: Contender,
    pub many: Many,
    pub first: First,
}

impl Row {
    pub fn same(&self) -> &Figure {
        &self.repeated[3]
    }

    pub fn signal(&self) -> &Figure {
        &self.repeated[4]
    }
}

/// Nanoseconds a frame of [`Kind::Many`], and return addresses of a chain.
pub struct Many {
    pub first: f64,
    pub second: f64,
    pub settled: f64,
    found: f64,
    truth: f64,
}

impl Many {
    fn new([first, second, settled, found, truth]: [f64; 5]) -> Self {
        Self { first, second, settled, found, truth }
    }
}

/// Microseconds of [`Kind::First`], and return addresses.
pub struct First {
    pub prepared: f64,
    pub first: f64,
    second: f64,
    by_clock: f64,
    found: f64,
    truth: f64,
}

impl First {
    fn new([prepared, first, second, by_clock, found, truth]: [f64; 6]) -> Self {
        Self { prepared, first, second, by_clock, found, truth }
    }
}

/// Measures everything, by those who have `only` in their name.
pub fn tables(effort: Effort, only: &str) -> Result<String, Box<dyn Error>> {
    // Before anybody is prepared: they know the modules of that moment.
    let both = Both::load()?;
    let (contenders, ticks) = (&contenders::prepared(only), Ticks::new());
    let say = |what: &str| eprintln!("{what} ...");
    let mut repeats = Vec::new();
    for (title, links) in REPEATED {
        say(title);
        repeats.push(repeated(contenders, &both, effort, links).into_iter());
    }
    say("stacks vary");
    let mut varied = varied(contenders, &both, effort, &ticks).into_iter();
    say("10,000 functions");
    let cold: Vec<Contender> = contenders.iter().copied().chain([ours::NOT_READY]).collect();
    let many = medians(Kind::Many, &cold, effort)?;
    say("new processes");
    let first = medians(Kind::First, &cold, effort)?;
    say("threads");
    let mut rates = rates(contenders, &both, effort)?.into_iter();
    say("instructions");
    let mut row = |contender: &Contender| {
        let repeated: Option<Vec<Figure>> = repeats.iter_mut().map(Iterator::next).collect();
        Some(Row {
            contender: *contender,
            repeated: repeated?.try_into().ok()?,
            varied: varied.next()?,
            instructions: [Stacks::Varied, Stacks::Same].map(|stacks| counted(contender, stacks)),
            rates: rates.next()?,
        })
    };
    let rows: Option<Vec<Row>> = contenders.iter().map(&mut row).collect();
    let rows = rows.ok_or("a figure is missing")?;
    let cold = cold.iter().zip(many).zip(first).map(|((contender, many), first)| Cold {
        contender: *contender,
        many: Many::new(many),
        first: First::new(first),
    });
    let cold: Vec<Cold> = cold.collect();
    say("look-ups of modules");
    let mut look_ups = Vec::new();
    let ratios = scaling::tables(&mut look_ups, effort.look_ups, &[])?;
    say("names");
    let (named, milliseconds) = names::tables()?;
    let mut text = String::new();
    gates::table(&mut text, &rows, &cold, ratios, milliseconds)?;
    warm(&mut text, &rows)?;
    once(&mut text, &cold)?;
    threads(&mut text, &rows)?;
    text.push_str(&String::from_utf8(look_ups)?);
    writeln!(text, "\n{named}")?;
    Ok(text)
}

/// How many of the true return addresses there were.
fn found(found: f64, truth: f64) -> String {
    let numbers = format!("{found:.0}/{truth:.0}");
    if truth - found > 0.001 { format!("**{numbers}**") } else { numbers }
}

fn cell(figure: &Figure) -> String {
    let Figure { nanoseconds, beside_raw, found: seen, truth } = figure;
    format!("{nanoseconds:.1} · {beside_raw:.1} × · {}", found(*seen, *truth))
}

/// Nanoseconds a frame, beside those of the chase, and what was found.
fn warm(text: &mut String, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let titles = REPEATED.map(|(title, _)| title).join(" | ");
    writeln!(
        text,
        "\n| ns a frame · beside raw · found | {titles} | wide, stacks vary | instructions, stacks vary | the same |"
    )?;
    writeln!(text, "|---|{}", "--:|".repeat(REPEATED.len() + 3))?;
    for row in rows {
        write!(text, "| {} |", row.contender.name)?;
        for figure in row.repeated.iter().chain([&row.varied]) {
            write!(text, " {} |", cell(figure))?;
        }
        for count in row.instructions {
            write!(text, " {} |", count.map_or_else(|| "no valgrind".to_owned(), |count| format!("{count:.1}")))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// What has not been traced before.
fn once(text: &mut String, rows: &[Cold]) -> fmt::Result {
    writeln!(
        text,
        "\n| | 10,000 functions, ns a frame: first pass | second | settled | found | new process, µs: prepare | first \
         trace | by the clock | second | found |"
    )?;
    writeln!(text, "|---|{}", "--:|".repeat(9))?;
    for Cold { contender, many, first } in rows {
        write!(text, "| {} | {:.1} | {:.1} | {:.1} |", contender.name, many.first, many.second, many.settled)?;
        write!(text, " {} | {:.1} | {:.1} |", found(many.found, many.truth), first.prepared, first.first)?;
        writeln!(text, " {:.1} | {:.1} | {} |", first.by_clock, first.second, found(first.found, first.truth))?;
    }
    Ok(())
}

/// Thousands of traces in a second of a thread's CPU time: of one thread, and beside it of several.
fn threads(text: &mut String, rows: &[Row]) -> fmt::Result {
    write!(text, "\n| 1,000 traces a thread-CPU-second; several threads beside one |")?;
    for (threads, loader) in SETTINGS {
        write!(text, " {threads}{} |", loader.title())?;
    }
    writeln!(text, "\n|---|{}", "--:|".repeat(SETTINGS.len()))?;
    for Row { contender, rates, .. } in rows {
        write!(text, "| {} | {:.1} |", contender.name, rates.one / 1000.0)?;
        for ratio in rates.beside_one.iter().skip(1) {
            write!(text, " {ratio:.2} × |")?;
        }
        writeln!(text)?;
    }
    Ok(())
}
