//! Writes a table into a document: between its markers where it has them, else as the whole file.

use crate::error::{Error, Result};
use std::fs;

/// Puts `text` between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in the file at `path`, or makes it the whole file.
pub fn write(path: &str, name: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let new = replaced(&old, name, text).unwrap_or_else(|| text.to_owned());
    fs::write(path, new).map_err(|e| Error::system(path, e))
}

fn replaced(old: &str, name: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(&format!("<!-- {name}: begin -->"))?;
    let end = format!("<!-- {name}: end -->");
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}<!-- {name}: begin -->\n\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let old = "a\n<!-- t: begin -->\nold\n<!-- t: end -->\nz\n";
        let new = "a\n<!-- t: begin -->\n\nnew\n\n<!-- t: end -->\nz\n";
        assert_eq!(replaced(old, "t", "new\n").as_deref(), Some(new));
        assert_eq!(replaced("nothing", "t", "new"), None);
    }
}
