//! What became of the samples: folded stacks, and a row of the table.

use crate::contender::{Contender, Frames};
use crate::timer::{Samples, cost_of_asking};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use surestack::this_process::{Named, Names};

pub const HEADER: &str = "\
| by | samples | ns a sample: median, 99 % | share of CPU time | frames a sample | complete by its own word | reaches the start | reliable |
|---|---|---|---|---|---|---|---|";

/// Where threads begin, as the C library calls it.
const STARTS: [&str; 5] = ["_start", "clone3", "__clone3", "clone", "__clone"];

/// Writes the folded stacks of all threads, and prints the row.
pub fn report<C: Contender>(name: &str, out: &Path, threads: &[Samples<C>]) -> Result<(), Box<dyn Error>> {
    let mut names = Names::new();
    let mut stacks = BTreeMap::<String, usize>::new();
    let (mut frames, mut complete, mut started) = (0, Some(0), 0);
    let samples = || threads.iter().flat_map(Samples::all);
    for sample in samples() {
        let Frames { pcs, complete: is_complete } = C::frames(&sample.trace);
        let named = names.of(&pcs);
        *stacks.entry(folded(&named)).or_default() += 1;
        frames += pcs.len();
        complete = complete.zip(is_complete).map(|(count, is_complete)| count + usize::from(is_complete));
        let outermost = named.last().and_then(Named::function);
        started += usize::from(outermost.is_some_and(|function| STARTS.contains(&function.name.as_str())));
    }
    let lines: String = stacks.iter().fold(String::new(), |mut lines, (stack, count)| {
        let _ = writeln!(lines, "{stack} {count}");
        lines
    });
    std::fs::write(out.join(format!("{name}.folded")), lines)?;

    let asking = cost_of_asking();
    let mut costs: Vec<u64> = samples().map(|sample| sample.nanoseconds.saturating_sub(asking)).collect();
    costs.sort_unstable();
    let at = |percent: usize| costs.get(costs.len() * percent / 100).copied().unwrap_or(0);
    let (count, cpu) = (costs.len(), threads.iter().map(|thread| thread.cpu).sum::<u64>());
    let of_all = |part: usize| format!("{:.1} %", part as f64 * 100.0 / count.max(1) as f64);
    let contenders: Vec<&C> = threads.iter().map(|thread| &thread.contender).collect();
    println!(
        "| {name} | {count} | {}, {} | {:.4} % | {:.1} | {} | {} | {} |",
        at(50),
        at(99),
        costs.iter().sum::<u64>() as f64 * 100.0 / cpu as f64,
        frames as f64 / count.max(1) as f64,
        complete.map_or_else(|| "does not say".to_owned(), of_all),
        of_all(started),
        C::judged(&contenders)?,
    );
    Ok(())
}

/// `outer;…;inner`, with the calls that were inlined.
fn folded(stack: &[Named]) -> String {
    let frames = stack.iter().rev().flat_map(|named| {
        let inlined = named.inlined().iter().rev();
        let functions = named.function().into_iter().chain(inlined);
        let mut names: Vec<String> = functions.map(|function| function.name.replace(';', ":")).collect();
        if names.is_empty() {
            // As `perf` says it.
            let module = named.module().and_then(|module| module.path.file_name());
            names.push(module.map_or_else(|| "[unknown]".to_owned(), |file| format!("[{}]", file.display())));
        }
        names
    });
    frames.collect::<Vec<_>>().join(";")
}
