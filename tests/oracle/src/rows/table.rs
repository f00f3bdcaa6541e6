//! The results as markdown.

use super::{Counts, Seen};
use std::collections::BTreeMap;
use std::fmt::Write;

const GRADES: [&str; 5] = ["proven", "assumed", "contradicted", "undecided", "unknown"];

/// The table of all targets and their sum, and what was wrong by function.
pub fn table(outcomes: &[(&str, Counts)]) -> String {
    let mut out = String::from("| target | instructions |");
    GRADES.iter().for_each(|grade| {
        let _ = write!(out, " {grade}: right | wrong |");
    });
    out.push_str(
        " corrected: right | wrong | registers proven: right | wrong | not proven: right | wrong |\n|---|--:|",
    );
    out.push_str(&"--:|".repeat(2 * GRADES.len() + 6));
    out.push('\n');
    let mut all = Counts::default();
    for (name, counts) in outcomes {
        row(&mut out, name, counts);
        add(&mut all, counts);
    }
    row(&mut out, "**all**", &all);
    let _ = writeln!(
        out,
        "\n{} programs; {} proofs refuted; {} instructions without a row or with a frame that the oracle does not know.",
        outcomes.len(),
        all.refuted(),
        all.skipped
    );
    let _ = writeln!(out, "\n| instructions | function | what | first |\n|--:|---|---|---|");
    let mut places: Vec<_> = all.places.iter().collect();
    places.sort_by_key(|(place, (n, _))| (std::cmp::Reverse(*n), *place));
    for ((function, what), (n, example)) in places {
        let _ = writeln!(out, "| {n} | {function} | {what} | {example} |");
    }
    out
}

fn row(out: &mut String, name: &str, counts: &Counts) {
    let _ = write!(out, "| {name} | {} |", counts.asked());
    let frames = GRADES.iter().map(|grade| counts.frames.get(grade).copied().unwrap_or_default());
    for Seen { right, wrong } in frames.chain([counts.corrected, counts.proven, counts.unproven]) {
        let _ = write!(out, " {right} | {wrong} |");
    }
    out.push('\n');
}

fn add(all: &mut Counts, counts: &Counts) {
    let add = |sum: &mut Seen, seen: Seen| {
        sum.right += seen.right;
        sum.wrong += seen.wrong;
    };
    all.skipped += counts.skipped;
    add(&mut all.corrected, counts.corrected);
    add(&mut all.proven, counts.proven);
    add(&mut all.unproven, counts.unproven);
    for (grade, seen) in &counts.frames {
        add(all.frames.entry(grade).or_default(), *seen);
    }
    let mut places: BTreeMap<_, (u64, String)> = std::mem::take(&mut all.places);
    for (place, (n, example)) in &counts.places {
        places.entry(place.clone()).or_insert((0, example.clone())).0 += n;
    }
    all.places = places;
}
