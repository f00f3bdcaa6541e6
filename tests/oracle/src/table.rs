//! The results as markdown: the table, and the causes behind it.

use crate::causes;
use crate::measure::{OURS, Outcome};
use crate::score::{Score, Seen, Tally};
use std::fmt::Write;

/// The table of all targets and their sum, with one row for each contender; absent ones are named below it.
pub fn table(names: &[String], missing: &[(&str, &str)], outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    heading(&mut out);
    for outcome in outcomes {
        for (name, score) in names.iter().zip(&outcome.scores) {
            row(&mut out, &outcome.name, name, score);
        }
    }
    for (name, score) in names.iter().zip(pooled(names, outcomes)) {
        row(&mut out, "**all**", name, &score);
    }
    for (name, score) in names.iter().zip(pooled(names, outcomes)) {
        legible(&mut out, name, &score);
    }
    for (name, why) in missing {
        let _ = writeln!(out, "| **all** | {name} | not asked: {why} | | | | | | |");
    }
    out.push('\n');
    for (name, score) in names.iter().zip(pooled(names, outcomes)).filter(|(name, _)| *name == OURS) {
        let _ = writeln!(out, "{name} is wrong, and says so unless it is counted above as false trust:\n");
        let _ = writeln!(out, "{}\n{name} is right and does not vouch for it:\n", causes::table(&score));
        let _ = writeln!(out, "{}", causes::distrusts(&score));
    }
    totals(&mut out, outcomes);
    out.push_str("\nOutermost frames of the true chains:\n\n");
    for outcome in outcomes {
        let roots = outcome.roots.iter().map(|(place, n)| format!("{place} {n}"));
        let _ = writeln!(out, "* {}: {}", outcome.name, roots.collect::<Vec<_>>().join(", "));
    }
    out
}

/// Each contender's causes of wrong answers, most frequent first, and our own false trusts in full.
pub fn causes(names: &[String], outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for (name, score) in names.iter().zip(pooled(names, outcomes)) {
        let _ = writeln!(out, "# {name}\n");
        if !score.false_trusts.is_empty() {
            let _ = writeln!(out, "## trusted but wrong, each\n");
            for text in &score.false_trusts {
                let _ = writeln!(out, "* {text}");
            }
            out.push('\n');
        }
        distrusts(&mut out, &score);
        let mut causes: Vec<_> = score.causes.iter().collect();
        let weight = |seen: &Seen| seen.uniform + seen.cover;
        causes.sort_by(|a, b| (weight(b.1), a.0).cmp(&(weight(a.1), b.0)));
        let _ = writeln!(out, "| uniform | cover | after | how | trusted |\n|--:|--:|---|---|---|");
        for (cause, seen) in &causes {
            let caller = if cause.caller { " [caller]" } else { "" };
            let trusted = if cause.trusted { "**trusted**" } else { "" };
            let how = cause.departure.words();
            let _ =
                writeln!(out, "| {} | {} | {}{caller} | {how} | {trusted} |", seen.uniform, seen.cover, cause.function);
        }
        out.push('\n');
        for (cause, seen) in &causes {
            let _ = writeln!(out, "* {}: {}", cause.function, seen.example);
        }
        out.push('\n');
    }
    out
}

/// Why right answers were not vouched for, most frequent first.
fn distrusts(out: &mut String, score: &Score) {
    if score.distrusts.is_empty() {
        return;
    }
    let mut reasons: Vec<_> = score.distrusts.iter().collect();
    reasons.sort_by(|a, b| (b.1.uniform + b.1.cover, a.0).cmp(&(a.1.uniform + a.1.cover, b.0)));
    let _ = writeln!(out, "## right but not trusted\n\n| uniform | cover | why |\n|--:|--:|---|");
    for (why, seen) in &reasons {
        let _ = writeln!(out, "| {} | {} | {why} |", seen.uniform, seen.cover);
    }
    out.push('\n');
    for (_, seen) in &reasons {
        let _ = writeln!(out, "* {}", seen.example);
    }
    out.push('\n');
}

/// Each contender's results over all targets together.
pub fn pooled(names: &[String], outcomes: &[Outcome]) -> Vec<Score> {
    let mut sums = vec![Score::default(); names.len()];
    for outcome in outcomes {
        for (sum, score) in sums.iter_mut().zip(&outcome.scores) {
            sum.add(score);
        }
    }
    sums
}

fn heading(out: &mut String) {
    out.push_str("| target | contender | uniform: right | right+trusted | false trust ");
    out.push_str("| cover: right | right+trusted | false trust | asked |\n");
    out.push_str("|---|---|--:|--:|--:|--:|--:|--:|--:|\n");
}

fn row(out: &mut String, target: &str, name: &str, score: &Score) {
    let (u, c) = (&score.uniform, &score.cover);
    let _ = writeln!(
        out,
        "| {target} | {name} | {} | {} | {} | {} | {} | {} | {} + {} |",
        percent(u.right, u),
        percent(u.right_trusted, u),
        counted(u),
        percent(c.right, c),
        percent(c.right_trusted, c),
        counted(c),
        u.asked,
        c.asked
    );
}

/// The row of those stops at which memory still holds every return address of the true chain.
fn legible(out: &mut String, name: &str, score: &Score) {
    let rest = |tally: &Tally| Tally {
        asked: tally.asked - tally.erased,
        right: tally.right - tally.erased_right,
        ..Tally::default()
    };
    let (u, c) = (rest(&score.uniform), rest(&score.cover));
    let (right, cover) = (percent(u.right, &u), percent(c.right, &c));
    let _ = writeln!(out, "| *chain in memory* | {name} | {right} | | | {cover} | | | {} + {} |", u.asked, c.asked);
}

/// Cut off, not rounded: 100 % is said of no tally with a miss in it.
fn percent(part: u64, tally: &Tally) -> String {
    if tally.asked == 0 {
        return "-".to_owned();
    }
    let thousandths = u128::from(part) * 100_000 / u128::from(tally.asked);
    format!("{}.{:03} %", thousandths / 1000, thousandths % 1000)
}

fn counted(tally: &Tally) -> String {
    match tally.false_trust {
        0 => "0".to_owned(),
        n => format!("{n} ({})", percent(n, tally)),
    }
}

fn totals(out: &mut String, outcomes: &[Outcome]) {
    let mut sum = [0u64; 4];
    let _ = writeln!(out, "| target | steps | seconds | uniform | cover | signals | threads | unjudged | ended |");
    let _ = writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|---|");
    for outcome in outcomes {
        let (uniform, cover) = outcome.scores.first().map_or((0, 0), |s| (s.uniform.asked, s.cover.asked));
        let counts = outcome.counts;
        let end = outcome.end.map_or("cut off".to_owned(), |end| format!("{end:?}"));
        let _ = writeln!(
            out,
            "| {} | {} | {:.1} | {uniform} | {cover} | {} | {} | {} | {end} |",
            outcome.name,
            counts.steps,
            outcome.took.as_secs_f64(),
            counts.signals,
            counts.threads,
            outcome.unjudged
        );
        for (sum, value) in sum.iter_mut().zip([counts.steps, uniform, cover, outcome.unjudged]) {
            *sum += value;
        }
    }
    let [steps, uniform, cover, unjudged] = sum;
    let _ = writeln!(
        out,
        "\n{} runs, {steps} steps, {uniform} uniform and {cover} first-visit asks, {unjudged} unjudged.",
        outcomes.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_miss_in_a_million_is_not_rounded_away() {
        let tally = Tally { asked: 1_000_000, right: 999_999, false_trust: 1, ..Tally::default() };
        assert_eq!(percent(tally.right, &tally), "99.999 %");
        assert_eq!(counted(&tally), "1 (0.000 %)");
        assert_eq!(percent(0, &Tally::default()), "-");
    }
}
