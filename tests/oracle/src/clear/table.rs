//! The results as markdown.

use super::{Counts, Said};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The table of all targets and their sum, the reasons behind it, and every wrong "clear".
pub fn table(outcomes: &[(&str, Counts)]) -> String {
    let mut out = String::from(
        "| target | steps | stops | will return into a target: called blocked | untrusted | **clear** | every frame named |\
         clear: called clear | untrusted | blocked |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut all = Counts::default();
    for (name, counts) in outcomes {
        row(&mut out, name, counts);
        add(&mut all, counts);
    }
    row(&mut out, "**all**", &all);
    let _ = writeln!(out, "\n{} programs, {} stops in a transfer not asked.", outcomes.len(), all.unjudged);
    let _ = writeln!(out, "\nWhy what is clear was not called so:\n\n| stops | why |\n|--:|---|");
    let mut reasons: Vec<_> = all.reasons.iter().collect();
    reasons.sort_by_key(|(why, n)| (std::cmp::Reverse(**n), *why));
    for (why, n) in &reasons {
        let _ = writeln!(out, "| {n} | {} |", why.trim_start_matches(": "));
    }
    if reasons.is_empty() {
        out.push_str("| 0 | |\n");
    }
    out
}

/// One stop for each reason, and every wrong "clear".
pub fn examples(outcomes: &[(&str, Counts)]) -> String {
    let mut first = BTreeMap::new();
    let mut out = String::new();
    for (_, counts) in outcomes {
        for text in &counts.false_clear {
            let _ = writeln!(out, "* FALSE CLEAR: {text}");
        }
        for (why, example) in &counts.examples {
            first.entry(why).or_insert(example);
        }
    }
    for (why, example) in first {
        let _ = writeln!(out, "* {why}: {example}");
    }
    out
}

fn row(out: &mut String, name: &str, counts: &Counts) {
    let Counts { steps, blocked, clear, exact, .. } = counts;
    let _ = writeln!(
        out,
        "| {name} | {steps} | {} | {} | {} | {} | {} | {} | {} | {} |",
        blocked.asked() + clear.asked(),
        share(blocked.blocked, blocked),
        blocked.untrusted,
        blocked.clear,
        exact,
        share(clear.clear, clear),
        clear.untrusted,
        clear.blocked,
    );
}

/// Cut off, not rounded.
fn share(part: u64, said: &Said) -> String {
    match said.asked() {
        0 => "-".to_owned(),
        asked => {
            let thousandths = u128::from(part) * 100_000 / u128::from(asked);
            format!("{part} ({}.{:03} %)", thousandths / 1000, thousandths % 1000)
        }
    }
}

fn add(all: &mut Counts, counts: &Counts) {
    all.steps += counts.steps;
    all.unjudged += counts.unjudged;
    all.exact += counts.exact;
    for (sum, said) in [(&mut all.blocked, counts.blocked), (&mut all.clear, counts.clear)] {
        sum.clear += said.clear;
        sum.blocked += said.blocked;
        sum.untrusted += said.untrusted;
    }
    for (why, n) in &counts.reasons {
        *all.reasons.entry(why.clone()).or_default() += n;
    }
}
