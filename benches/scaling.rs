//! Look-ups of modules, alone and on several threads, while libraries come and go: the tables of `fast/scaling.rs`.
//!
//! `cargo bench --bench scaling` prints them; `-- --quick` with fewer and shorter rounds.

#[path = "fast/scaling.rs"]
mod scaling;

use scaling::Effort;
use std::error::Error;
use std::io::stdout;

fn main() -> Result<(), Box<dyn Error>> {
    let effort = if std::env::args().any(|argument| argument == "--quick") { Effort::QUICK } else { Effort::FULL };
    scaling::tables(&mut stdout().lock(), effort, &[])?;
    Ok(())
}
