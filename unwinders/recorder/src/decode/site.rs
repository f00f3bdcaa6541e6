//! What an event means: the description of its site, and its fields by that.

use super::{Record, Seen, WORD, bits, word, words};
use crate::layout::record::FIELDS;
use crate::layout::site::{HEAD, LEVELS, STRING};
use crate::layout::{Sum, kind};

/// Where the sum lies in the head.
const SUM_SHIFT: u32 = 16;
/// Where the level lies.
const LEVEL_SHIFT: u32 = 32;
/// Where the number of fields lies.
const FIELDS_SHIFT: u32 = 40;
/// Event, target and file, before the names of fields.
const NAMES: usize = 3;
/// Most words of a description.
const MOST: usize = HEAD + ((NAMES + FIELDS) * (1 + STRING)).div_ceil(WORD);

/// A description whose sum is right, and whose strings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site<'a> {
    /// What happened.
    pub event: &'a str,
    /// In which part of the program.
    pub target: &'a str,
    /// In which file of its source.
    pub file: &'a str,
    /// In which line.
    pub line: u32,
    /// An index into [`LEVELS`].
    pub level: u8,
    /// What its fields are.
    pub kinds: Kinds,
    names: &'a [u8],
}

/// What the fields of a site's events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    count: usize,
    kinds: u64,
}

impl<'a> Site<'a> {
    /// Bytes of a description with this head: so many must be read. Nothing where it is no head.
    pub fn bytes(head: u64) -> Option<usize> {
        let count = bits(head, 0, 16);
        (HEAD..=MOST).contains(&count).then(|| count.saturating_mul(WORD))
    }

    /// Reads the description that begins here; nothing where it does not hold.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let head = word(bytes, 0)?;
        let whole = bytes.get(..Self::bytes(head)?)?;
        let sum = words(whole).skip(1).fold(Sum::of(head & !(0xffff << SUM_SHIFT)), Sum::and);
        if sum.value() != head >> SUM_SHIFT & 0xffff {
            return None;
        }
        let (level, fields) = (bits(head, LEVEL_SHIFT, 8), bits(head, FIELDS_SHIFT, 8));
        let line = word(whole, 16)?;
        let strings = whole.get(HEAD.checked_mul(WORD)?..)?.get(..bits(line, 32, 16))?;
        let (event, rest) = string(strings)?;
        let (target, rest) = string(rest)?;
        let (file, names) = string(rest)?;
        LEVELS.get(level)?;
        let site = Self {
            event,
            target,
            file,
            line: u32::try_from(line & u64::from(u32::MAX)).ok()?,
            level: u8::try_from(level).ok()?,
            kinds: Kinds { count: fields, kinds: word(whole, 8)? },
            names,
        };
        (fields <= FIELDS && site.names().count() == fields).then_some(site)
    }

    /// The names of its fields.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.names;
        (0..self.kinds.count).map_while(move |_| {
            let (name, behind) = string(rest)?;
            rest = behind;
            Some(name)
        })
    }
}

impl Kinds {
    /// The values of a record of such a site.
    pub fn fields<'a>(&self, record: &Record<'a>) -> Fields<'a> {
        Fields { left: self.count, kinds: self.kinds, words: record.fields }
    }
}

/// A string, and what is behind it.
fn string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((core::str::from_utf8(text).ok()?, rest))
}

/// Goes through the values of a record's fields.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    left: usize,
    kinds: u64,
    words: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Words that no field has taken: after the last one there are none, or the record is not what its site says.
    pub fn rest(&self) -> &'a [u8] {
        self.words
    }

    fn value(&mut self) -> Option<Seen<'a>> {
        let (first, rest) = (word(self.words, 0)?, self.words.get(WORD..)?);
        let kind = self.kinds & 15;
        let (seen, rest) = if kind == kind::TEXT {
            let there = bits(first, 32, 32);
            let text = rest.get(..there)?;
            let length = (first & u64::from(u32::MAX)).max(there as u64);
            (Seen::text(text, length), rest.get(there.checked_next_multiple_of(WORD)?..)?)
        } else {
            (Seen::word(kind, first)?, rest)
        };
        self.words = rest;
        Some(seen)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        self.left = self.left.checked_sub(1)?;
        let seen = self.value();
        if seen.is_none() {
            self.left = 0;
        }
        self.kinds >>= 4;
        seen
    }
}

#[cfg(test)]
mod tests;
