//! Targets as a user names them, one a line.

use crate::error::Error;
use crate::image::BuildId;
use std::ops::Range;
use std::str::FromStr;

/// A target as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Where its code is.
    pub place: Place,
    /// Whether several functions may have the name; all of them are meant then.
    pub several: Several,
    /// Whether somebody vouches for the ranges.
    pub ranges: Ranges,
}

/// Where a target's code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a function.
    Function {
        /// The object or source file it is in, if that is said.
        file: Option<String>,
        /// Its name, mangled or not.
        name: String,
    },
    /// At these addresses of the process.
    Addresses(Range<u64>),
    /// At these addresses of a file, as it was linked.
    Linked {
        /// Which file.
        build_id: BuildId,
        /// The addresses.
        range: Range<u64>,
    },
}

/// What several functions of one name are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Several {
    /// A mistake.
    #[default]
    Refused,
    /// All meant.
    Meant,
}

/// Whether the ranges that were found or given are all there is of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranges {
    /// That has to be shown.
    #[default]
    Shown,
    /// The caller vouches for it.
    Complete,
}

impl Named {
    /// The targets in the text of a file: one a line, what follows `#` is a comment.
    ///
    /// # Errors
    /// [`Error::BadTarget`] with the first line that is none.
    pub fn list(text: &str) -> Result<Vec<Self>, Error> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty()).map(str::parse).collect()
    }

    /// What the user wrote, without options.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Function { file: Some(file), name } => format!("{file}:{name}"),
            Place::Function { file: None, name } => name.clone(),
            Place::Addresses(range) => format!("{:#x}-{:#x}", range.start, range.end),
            Place::Linked { build_id, range } => format!("buildid:{build_id}:{:#x}-{:#x}", range.start, range.end),
        }
    }
}

impl FromStr for Named {
    type Err = Error;

    /// `name`, `file:name`, `0xLO-0xHI` or `buildid:HEX:0xLO-0xHI`; then `vouch` and `all`, if wanted.
    fn from_str(line: &str) -> Result<Self, Error> {
        let (mut several, mut ranges, mut rest) = (Several::Refused, Ranges::Shown, line.trim());
        while let Some((before, option)) = rest.rsplit_once(char::is_whitespace) {
            match option {
                "vouch" => ranges = Ranges::Complete,
                "all" => several = Several::Meant,
                _ => break,
            }
            rest = before.trim_end();
        }
        let place = place(rest).map_err(|why| Error::BadTarget { target: rest.to_owned(), why: why.to_owned() })?;
        Ok(Self { place, several, ranges })
    }
}

fn place(text: &str) -> Result<Place, &'static str> {
    if let Some(rest) = text.strip_prefix("buildid:") {
        let (id, range) = rest.split_once(':').ok_or("a build ID is followed by a range: buildid:HEX:0xLO-0xHI")?;
        return Ok(Place::Linked {
            build_id: BuildId(hex(id).ok_or("a build ID is an even number of hex digits")?),
            range: addresses(range)?,
        });
    }
    if text.starts_with("0x") {
        return addresses(text).map(Place::Addresses);
    }
    let (file, name) = match single_colon(text).and_then(|at| Some((text.get(..at)?, text.get(at.checked_add(1)?..)?)))
    {
        Some((file, name)) => (Some(file.to_owned()), name),
        None => (None, text),
    };
    if name.is_empty() || file.as_ref().is_some_and(String::is_empty) {
        return Err("it names no function");
    }
    Ok(Place::Function { file, name: name.to_owned() })
}

/// The first colon that is not half of a `::`.
fn single_colon(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is = |at: Option<usize>| at.and_then(|at| bytes.get(at)) == Some(&b':');
    let colons = text.match_indices(':').map(|(at, _)| at);
    colons.into_iter().find(|at| !is(at.checked_sub(1)) && !is(at.checked_add(1)))
}

fn addresses(text: &str) -> Result<Range<u64>, &'static str> {
    const SHAPE: &str = "a range is 0xLO-0xHI";
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (low, high) = text.split_once('-').ok_or(SHAPE)?;
    let range = number(low).ok_or(SHAPE)?..number(high).ok_or(SHAPE)?;
    if range.is_empty() { Err("the range is empty") } else { Ok(range) }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(file: Option<&str>, name: &str) -> Place {
        Place::Function { file: file.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn targets_are_written_one_a_line_with_options_behind() {
        let text = "# what is replaced\nwork # now\n\nlibc.so.6:read vouch\ngui::Window::open(int) all vouch\n\
                    0x1000-0x1040\nbuildid:00ff:0x10-0x20\na.c:gui::f\n";
        let places: Vec<Place> = Named::list(text).unwrap().into_iter().map(|named| named.place).collect();
        let linked = Place::Linked { build_id: BuildId(vec![0, 0xff]), range: 0x10..0x20 };
        let expected = [
            function(None, "work"),
            function(Some("libc.so.6"), "read"),
            function(None, "gui::Window::open(int)"),
            Place::Addresses(0x1000..0x1040),
            linked,
            function(Some("a.c"), "gui::f"),
        ];
        assert_eq!(places, expected);
        let both: Named = "f all vouch".parse().unwrap();
        assert_eq!((both.several, both.ranges), (Several::Meant, Ranges::Complete));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for line in ["0x10", "0x20-0x10", "0x10-0x10", "buildid:0x10-0x20", "buildid:0:0x1-0x2", ":f", "a.c:"] {
            assert!(matches!(line.parse::<Named>(), Err(Error::BadTarget { .. })), "{line}");
        }
    }
}
