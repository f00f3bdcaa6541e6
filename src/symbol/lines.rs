//! The line program of one unit.

use super::Location;
use super::sections::Slice;
use gimli::{ColumnType, UnitRef};
use std::num::NonZeroU64;
use std::path::PathBuf;

/// Which line each instruction of a unit belongs to.
#[derive(Default)]
pub(super) struct Lines {
    rows: Vec<Row>,
    /// Ascending by address, not overlapping where the program is sound.
    sequences: Vec<Sequence>,
}

/// From here on, up to the next row.
struct Row {
    address: u64,
    file: u64,
    line: u32,
    column: u32,
}

/// Rows without a gap.
struct Sequence {
    start: u64,
    end: u64,
    first: usize,
    after: usize,
}

impl Lines {
    /// Runs the line program.
    pub fn read(unit: UnitRef<'_, Slice<'_>>) -> Result<Self, gimli::Error> {
        let Some(program) = unit.line_program.clone() else { return Ok(Self::default()) };
        let mut lines = Self::default();
        let mut first = 0;
        let mut rows = program.rows();
        while let Some((_, row)) = rows.next_row()? {
            let address = row.address();
            if !row.end_sequence() {
                let column = match row.column() {
                    ColumnType::LeftEdge => 0,
                    ColumnType::Column(column) => column.get(),
                };
                let small = |number: u64| u32::try_from(number).unwrap_or(0);
                let line = small(row.line().map_or(0, NonZeroU64::get));
                lines.rows.push(Row { address, file: row.file_index(), line, column: small(column) });
                continue;
            }
            let start = lines.rows.get(first).map_or(address, |row| row.address);
            // Code that the linker left out has its lines at zero or thereabouts, and lines of nothing at all are none.
            if start < address {
                lines.sequences.push(Sequence { start, end: address, first, after: lines.rows.len() });
            } else {
                lines.rows.truncate(first);
            }
            first = lines.rows.len();
        }
        lines.sequences.sort_unstable_by_key(|sequence| sequence.start);
        Ok(lines)
    }

    /// The line of the instruction at `linked`.
    pub fn find(&self, unit: UnitRef<'_, Slice<'_>>, linked: u64) -> Option<Location> {
        let after = self.sequences.partition_point(|sequence| sequence.start <= linked);
        let sequence = self.sequences.get(after.checked_sub(1)?).filter(|sequence| linked < sequence.end)?;
        let rows = self.rows.get(sequence.first..sequence.after)?;
        let row = rows.get(rows.partition_point(|row| row.address <= linked).checked_sub(1)?)?;
        // A column of no line says nothing.
        place(unit, row.file, row.line, if row.line == 0 { 0 } else { row.column })
    }
}

/// A place in the file with this number; lines and columns that are 0 are not known.
pub(super) fn place(unit: UnitRef<'_, Slice<'_>>, file: u64, line: u32, column: u32) -> Option<Location> {
    let known = |number: u32| (number != 0).then_some(number);
    Some(Location { file: path(unit, file)?, line: known(line), column: known(column) })
}

/// The path of a file, as the compiler wrote it: below its directory, below that of the compilation.
fn path(unit: UnitRef<'_, Slice<'_>>, file: u64) -> Option<PathBuf> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(file)?;
    let text = |value| Some(unit.attr_string(value).ok()?.to_string_lossy());
    let mut path = unit.comp_dir.map(|home| home.to_string_lossy().into_owned()).unwrap_or_default();
    // Directory 0 is that of the compilation.
    if file.directory_index() != 0
        && let Some(directory) = file.directory(header)
    {
        go(&mut path, &text(directory)?);
    }
    go(&mut path, &text(file.path_name())?);
    Some(PathBuf::from(path))
}

/// Follows `next` from `path` on; on Windows, too, programs for us are compiled.
fn go(path: &mut String, next: &str) {
    let windows = |path: &str| path.starts_with('\\') || path.get(1..3) == Some(":\\");
    if next.starts_with('/') || next.get(1..3) == Some(":/") || windows(next) {
        next.clone_into(path);
        return;
    }
    let between = if windows(path) { '\\' } else { '/' };
    if !path.is_empty() && !path.ends_with(between) {
        path.push(between);
    }
    path.push_str(next);
}
