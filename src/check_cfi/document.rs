//! What was found in several files, as a document.
//!
//! Two tables in markdown: how many rows of each file are proven, and what is wrong in those that are not. They are written
//! between two markers of a file, which keeps what stands around them.

use super::{Checked, Contradiction, TABLE_HEAD, file};
use crate::error::Error;
use crate::symbol::demangle;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- check-cfi: begin -->";
const END: &str = "<!-- check-cfi: end -->";
/// How often each file is checked; the time that is told is the median.
const RUNS: usize = 5;

const WRONG_HEAD: &str = "\
| file | function | rows | first | instruction | the row says | the code does | known |
|---|---|--:|---|---|---|---|---|";

/// Checks `files` and writes what was found into the document at `path`.
///
/// # Errors
/// When a file cannot be read, or the document not be written.
pub fn write(path: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let tables = tables(files)?;
    let old = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, replaced(&old, &tables).unwrap_or(tables)).map_err(Error::Write)
}

fn tables(files: &[PathBuf]) -> Result<String, Error> {
    let (mut counts, mut wrong) = (format!("{TABLE_HEAD}\n"), format!("{WRONG_HEAD}\n"));
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let checked = median(path)?;
        let _ = writeln!(counts, "{}", checked.table_row(&name));
        for function in checked.contradictions.chunk_by(|one, other| one.function == other.function) {
            if let Some(row) = wrong_row(&name, function) {
                let _ = writeln!(wrong, "{row}");
            }
        }
    }
    Ok(format!("{counts}\n{wrong}"))
}

/// What was found in a file, with the median of the times that it took.
fn median(path: &Path) -> Result<Checked, Error> {
    let mut runs = (0..RUNS).map(|_| file(path)).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by_key(|checked| checked.cpu);
    Ok(runs.swap_remove(RUNS / 2))
}

/// What is wrong in one function.
fn wrong_row(file: &str, found: &[Contradiction]) -> Option<String> {
    // One that has both shows the worse.
    let first = found.iter().find(|found| found.is_frame()).or(found.first())?;
    let name = first.name.as_deref().map_or(String::new(), |name| format!(" `{}`", short(&demangle(name))));
    Some(format!(
        "| {file} | {:#x}{name} | {} | {:#x} | `{}` | {} | {} | {} |",
        first.function,
        found.len(),
        first.address,
        first.instruction,
        first.claimed(),
        first.found(),
        first.known.unwrap_or("")
    ))
}

/// The beginning of a name, as much as a table has room for.
fn short(name: &str) -> String {
    const ROOM: usize = 60;
    if name.chars().count() <= ROOM { name.to_owned() } else { name.chars().take(ROOM).chain(['…']).collect() }
}

fn replaced(old: &str, tables: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_markers_is_kept() {
        let old = format!("a\n{BEGIN}\nold\n{END}\nz\n");
        assert_eq!(replaced(&old, "new\n"), Some(format!("a\n{BEGIN}\n\nnew\n\n{END}\nz\n")));
        assert_eq!(replaced("no markers", "new"), None);
    }
}
