//! Indirect calls that somebody vouches for.
//!
//! One a line, in a file:
//!
//! ```text
//! # function ; calls ; reason
//! my_handler::attempt::run ; 1 ; only ever called with the steps in STEPS, whose addresses are taken there
//! my_handler::entry* ; 1 ; returns to where the assembly stub came from
//! ```
//!
//! The function is the one whose symbol holds the call, mangled or as in the source; `*` at its end stands for anything.
//! Behind it, how many indirect calls there are in each such function: one more is not vouched for. A recompile that moves
//! a call changes nothing; one that inlines it elsewhere makes it a violation again, until somebody has looked at it.

use super::names::matches;
use std::path::Path;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Which functions.
    pub function: String,
    /// How many calls in each.
    pub calls: usize,
    /// Why it is all right.
    pub reason: String,
}

/// What is wrong with a file of annotations.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// It cannot be read.
    #[error("cannot read the annotations in {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line does not have its three parts.
    #[error("{path}:{line}: write `function ; calls ; reason`")]
    Line {
        /// The file.
        path: String,
        /// The line's number.
        line: usize,
    },
}

/// The annotations in the file at `path`.
///
/// # Errors
/// When it cannot be read, or a line says no reason.
pub fn read(path: &Path) -> Result<Vec<Annotation>, Bad> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Bad::Read { path: name.clone(), source })?;
    parse(&text).map_err(|line| Bad::Line { path: name, line })
}

/// The annotations in a text, or the number of the first line that is none.
fn parse(text: &str) -> Result<Vec<Annotation>, usize> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let annotation = |(number, line): (usize, &str)| {
        let mut parts = line.splitn(3, " ; ").map(str::trim);
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let found = part().zip(part().and_then(|calls| calls.parse().ok())).zip(part());
        let ((function, calls), reason) = found.ok_or(number.saturating_add(1))?;
        Ok(Annotation { function: function.to_owned(), calls, reason: reason.to_owned() })
    };
    lines.map(annotation).collect()
}

impl Annotation {
    /// Whether it is about the function of this name, mangled and as in the source.
    pub(super) fn is_about(&self, symbol: &str, source: &str) -> bool {
        matches(&self.function, symbol) || matches(&self.function, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_annotation_has_a_reason() {
        let found = parse("# why\n\n <A as B>::c ; 2 ; it is one of ours\n").unwrap();
        let expected = Annotation { function: "<A as B>::c".into(), calls: 2, reason: "it is one of ours".into() };
        assert_eq!(found, [expected]);
        assert_eq!(parse("# why\nf ; 1 ;\n"), Err(2));
        for bad in ["f", "f ; 1", "f ; reason", "f ; 1 ;  ", "f ; -1 ; reason"] {
            assert_eq!(parse(bad), Err(1), "{bad}");
        }
    }
}
