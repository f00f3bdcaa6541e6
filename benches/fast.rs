//! What a trace of one's own thread costs, beside everybody else who takes one, and how much of the truth each finds.
//!
//! `cargo bench --bench fast -- --write README.md` puts the tables between their markers; `--quick` and `--only NAME`
//! are for trying. One process, the same stacks, every contender in its turn in each of many rounds, medians; thread
//! CPU time, and ratios to a chase of frame pointers without any check. The chase has programs that were compiled with
//! frame pointers, all others the same ones compiled without. Every function of these programs writes its return
//! address down: `84/84` says that a trace had all 84 of them, in their order.

#[path = "fast/contenders.rs"]
mod contenders;
#[path = "fast/gates.rs"]
mod gates;
#[path = "fast/instructions.rs"]
mod instructions;
#[path = "fast/measure.rs"]
mod measure;
#[path = "fast/names.rs"]
mod names;
#[path = "fast/processes.rs"]
mod processes;
#[path = "fast/programs.rs"]
mod programs;
#[path = "fast/repeated.rs"]
mod repeated;
#[path = "fast/scaling.rs"]
mod scaling;
#[path = "fast/stacks.rs"]
mod stacks;
#[path = "fast/tables.rs"]
mod tables;
#[path = "fast/threads.rs"]
mod threads;

use measure::Effort;
use processes::Kind;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [instructions::WORD, contender, stacks] => return instructions::run(contender, stacks),
        [names::WORD, whose, folder] => {
            names::cold(whose, folder);
            return Ok(());
        }
        [word, contender] if *word == Kind::First.word() => return processes::run(Kind::First, contender),
        [word, contender] if *word == Kind::Many.word() => return processes::run(Kind::Many, contender),
        _ => {}
    }
    let effort = if words.contains(&"--quick") { Effort::QUICK } else { Effort::FULL };
    let after = |word: &str| words.iter().position(|other| *other == word).and_then(|at| words.get(at + 1));
    alternate_stack();
    programs::build()?;
    let tables = tables::tables(effort, after("--only").unwrap_or(&""))?;
    print!("{tables}");
    after("--write").map_or(Ok(()), |path| replace(Path::new(path), &tables))
}

/// Handlers of this thread run on a stack that is large enough for everybody.
fn alternate_stack() {
    const SIZE: usize = 1 << 20;
    let stack = Box::leak(vec![0_u8; SIZE].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: ours, and never given back.
    unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
}

/// Puts the tables between their markers.
fn replace(path: &Path, tables: &str) -> Result<(), Box<dyn Error>> {
    const MARKERS: (&str, &str) = ("<!-- figures:fast -->", "<!-- /figures -->");
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(MARKERS.0).ok_or("no marker `figures:fast`")?;
    let (_, after) = rest.split_once(MARKERS.1).ok_or("no end of the figures")?;
    std::fs::write(path, format!("{before}{}\n{tables}{}{after}", MARKERS.0, MARKERS.1))?;
    Ok(())
}
