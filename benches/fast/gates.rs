//! What was asked for, and what was seen.

use crate::contenders::{LIBGCC, UNW_BACKTRACE, ours};
use crate::repeated::Figure;
use crate::tables::{Cold, Row};
use crate::threads::{Loader, SETTINGS};
use std::error::Error;
use std::fmt::Write as _;

/// A gate, what was asked (in brackets: what would be better still), and what was seen.
type Gate = (&'static str, &'static str, String);

/// Writes each gate.
pub fn table(
    text: &mut String,
    rows: &[Row],
    cold: &[Cold],
    look_ups: [f64; 2],
    [names_cold, names_warm]: [f64; 2],
) -> Result<(), Box<dyn Error>> {
    let whole = rows.iter().find(|row| row.contender.name == ours::WHOLE).ok_or("nothing of ours")?;
    let mut gates = Vec::from(warm(whole));
    let cold = |name: &str| cold.iter().find(|cold| cold.contender.name == name);
    let (ready, libgcc) = (cold(ours::WHOLE), cold(LIBGCC.name));
    gates.extend(ready.zip(cold(UNW_BACKTRACE.name)).map(|(ours, libunwind)| second_pass(ours, libunwind)));
    for (ours, state) in [(ready, "tables ready"), (cold(ours::NOT_READY.name), "tables not ready")] {
        gates.extend(ours.zip(libgcc).into_iter().flat_map(|(ours, libgcc)| first_traces(ours, libgcc, state)));
    }
    gates.extend(threads(whole));
    let [few, many] = look_ups;
    gates.push((
        "module look-up alone",
        "0.9 × `_dl_find_object` [1.2 ×]",
        format!("at its worst {few:.2} ×, with 60 more libraries {many:.2} ×"),
    ));
    gates.extend(memory(&ours::memory()));
    gates.push((
        "trace with names",
        "warm 0.5 ms, cold 20 ms",
        format!("warm {names_warm:.2} ms, cold {names_cold:.1} ms"),
    ));
    writeln!(text, "\n| gate | asked | here |\n|---|---|---|")?;
    for (what, asked, here) in gates {
        writeln!(text, "| {what} | {asked} | {here} |")?;
    }
    Ok(())
}

fn warm(whole: &Row) -> [Gate; 3] {
    let seen = |figure: &Figure| {
        let complete = if figure.is_complete() { "complete" } else { "**incomplete**" };
        format!("{:.2} × raw, {complete}", figure.beside_raw)
    };
    let [varied, same] =
        whole.instructions.map(|count| count.map_or_else(String::new, |count| format!(", {count:.1} instructions")));
    [
        ("warm, wide, stacks vary", "3.3 × raw [2.5 ×], 50 instructions [40]", seen(&whole.varied) + &varied),
        ("the same stack again", "0.9 × raw [0.7 ×], 18 instructions [12]", seen(whole.same()) + &same),
        ("through a signal frame", "3.3 × raw [2.5 ×], complete", seen(whole.signal())),
    ]
}

/// Beside the best that libunwind does: its second pass may be spent on growing.
fn second_pass(whole: &Cold, libunwind: &Cold) -> Gate {
    let best = libunwind.many.second.min(libunwind.many.settled);
    let ratio = |mine: f64| mine / best;
    (
        "10,000 functions, second pass, beside libunwind's best",
        "1.0 × libunwind [0.8 ×]",
        format!("{:.2} ×; settled {:.2} ×", ratio(whole.many.second), ratio(whole.many.settled)),
    )
}

fn first_traces(ours: &Cold, libgcc: &Cold, state: &'static str) -> [Gate; 2] {
    let [first_pass, first] = [ours.many.first / libgcc.many.first, ours.first.first / libgcc.first.first];
    let both = ours.first.prepared + ours.first.first;
    [
        (
            "10,000 functions, first pass",
            "tables ready 0.25 × libgcc; not ready 1.0 ×",
            format!("{state}: {first_pass:.2} × libgcc"),
        ),
        (
            "new process, first trace",
            "0.8 × libgcc [0.5 ×], and what preparing takes",
            format!("{state}: {first:.2} × libgcc; with preparing {both:.0} µs"),
        ),
    ]
}

fn threads(whole: &Row) -> Vec<Gate> {
    let rate = |wanted: usize, with: Loader| {
        let at = SETTINGS.iter().position(|(threads, loader)| (*threads, *loader) == (wanted, with));
        at.and_then(|at| whole.rates.beside_one.get(at)).copied().unwrap_or(f64::NAN)
    };
    let two = rate(2, Loader::Quiet);
    let [churned, both_churned] = [1, 2].map(|threads| rate(threads, Loader::Churns));
    let each = [2, 4, 8].map(|threads| rate(threads, Loader::Quiet) / threads as f64);
    let each = each.map(|ratio| format!("{:+.0} %", (ratio - 1.0) * 100.0)).join(", ");
    vec![
        ("two threads, of a thread-CPU-second", "1.90 × [1.95 ×]", format!("{two:.2} ×")),
        (
            "the same while libraries come and go",
            "1.90 × [1.95 ×]",
            format!("{:.2} × one thread then, {both_churned:.2} × one in peace", both_churned / churned),
        ),
        ("2, 4 and 8 time-sliced threads, each beside one alone", "within 10 %", each),
    ]
}

fn memory(taken: &ours::Memory) -> [Gate; 2] {
    let ours::Memory { cache, rows, tables, sections } = taken;
    let (tables, rows, sections) = (*tables as f64, *rows as f64, *sections as f64);
    [
        ("memory: the cache", "256 KiB a process", format!("{cache} KiB a process")),
        (
            "memory: tables of all modules",
            "8 bytes a row, 1.2 × `.eh_frame` and `.eh_frame_hdr`",
            format!("{:.2} bytes a row, {:.2} × of {:.0} KiB", tables / rows, tables / sections, sections / 1024.0),
        ),
    ]
}
