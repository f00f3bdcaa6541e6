//! The results as markdown.

use super::stepped::Counts;
use super::tally::Tally;
use std::fmt::Write;

/// Tables and rules of objects.
pub fn objects(outcomes: &[(&str, Tally)]) -> String {
    let mut out = String::from(
        "| object | code | asked | of a kind of its own | full evaluator | no rule | table asks | followed | frames \
         | **different** | rows | table | bytes a row | of .eh_frame and .eh_frame_hdr | compiled, a MB of these |\n|---|",
    );
    out.push_str(&"--:|".repeat(14));
    out.push('\n');
    for (name, tally) in outcomes {
        let share = |part: u64| percent(part, tally.asked);
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | **{}** | {} | {} | {:.2} | {:.2}{} | {:.1} ms |",
            bytes(tally.code),
            tally.asked,
            share(tally.special),
            share(tally.full),
            share(tally.none),
            share(tally.left),
            tally.followed,
            tally.frames,
            tally.differences,
            tally.rows,
            bytes(wide(tally.bytes)),
            ratio(wide(tally.bytes), wide(tally.rows)),
            ratio(wide(tally.bytes), wide(tally.unwind)),
            if tally.is_small() { "" } else { " (too large)" },
            tally.compiled_in.as_secs_f64() * 1000.0 / ratio(wide(tally.unwind), 1_000_000),
        );
    }
    let sum = |of: fn(&Tally) -> u64| outcomes.iter().map(|(_, tally)| of(tally)).sum::<u64>();
    let _ = writeln!(
        out,
        "\n{} addresses as interrupted pcs and return addresses, {} steps followed, {} differences.",
        sum(|tally| tally.asked),
        sum(|tally| tally.followed),
        sum(|tally| tally.differences)
    );
    outcomes.iter().for_each(|(name, tally)| examples(&mut out, name, &tally.examples));
    out
}

/// Traces of programs that run.
pub fn stepped(outcomes: &[(&str, Counts)]) -> String {
    let mut out = String::from(
        "| program | traces | frames | many at once from memory | rules not in the cache | of them from tables \
         | traces with a full walk | words asked | wrongly | **different** |\n|---|",
    );
    out.push_str(&"--:|".repeat(9));
    out.push('\n');
    let mut all = Counts::default();
    for (name, counts) in outcomes {
        row(&mut out, name, counts);
        all.asks += counts.asks;
        all.frames += counts.frames;
        all.remembered += counts.remembered;
        all.missed += counts.missed;
        all.from_table += counts.from_table;
        all.walked += counts.walked;
        all.words.add(counts.words);
        all.differences += counts.differences;
    }
    row(&mut out, "**all**", &all);
    outcomes.iter().for_each(|(name, counts)| examples(&mut out, name, &counts.examples));
    out
}

fn row(out: &mut String, name: &str, counts: &Counts) {
    let Counts { asks, frames, remembered, missed, from_table, walked, words, differences, .. } = counts;
    let _ = writeln!(
        out,
        "| {name} | {asks} | {frames} | {} | {} | {} | {} | {} | {} | **{differences}** |",
        percent(*remembered, *frames),
        percent(*missed, *frames),
        percent(*from_table, *missed),
        percent(*walked, *asks),
        words.all,
        words.wrong,
    );
}

fn examples(out: &mut String, name: &str, examples: &[String]) {
    examples.iter().for_each(|example| {
        let _ = writeln!(out, "\n{name}: {example}");
    });
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * ratio(part, whole))
}

fn bytes(count: u64) -> String {
    format!("{:.2} MB", ratio(count, 1_000_000))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "printed with two places")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
