//! The victim's program: where it is, what its functions are, and what was mapped in it.

use object::{Object, ObjectSymbol};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use surestack_oracle::error::{Error, Result};

/// A victim that can be started.
#[derive(Clone, Debug)]
pub struct Victim {
    /// Its file.
    pub path: PathBuf,
    /// The sizes of its functions, by their linked address.
    functions: HashMap<u64, u64>,
}

/// What is executable in a started victim.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// What the linked addresses are moved by.
    bias: u64,
    code: Vec<Code>,
}

#[derive(Clone, Debug)]
struct Code {
    low: u64,
    high: u64,
    of_program: bool,
}

impl Victim {
    /// The one in this file.
    pub fn at(path: &Path) -> Result<Victim> {
        let bytes = fs::read(path).map_err(|e| Error::system(path.display(), e))?;
        let file = object::File::parse(&*bytes).map_err(|e| Error::new(format!("{}: {e}", path.display())))?;
        let functions = file.symbols().filter(|s| s.size() > 0).map(|s| (s.address(), s.size())).collect();
        Ok(Victim { path: path.to_owned(), functions })
    }

    /// Whether `address` lies in the function that begins at `start`. An address behind the last byte counts: a call that
    /// does not return may be the last instruction.
    pub fn is_within(&self, layout: &Layout, start: u64, address: u64) -> bool {
        let size = self.functions.get(&start.wrapping_sub(layout.bias)).copied().unwrap_or(0);
        address.wrapping_sub(start) <= size && size > 0
    }
}

impl Layout {
    /// From the copy of `/proc/self/maps` that the victim made.
    pub fn read(path: &Path, victim: &Path) -> Layout {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut layout = Layout::default();
        let program = victim.to_string_lossy();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(access)) = (words.next(), words.next()) else { continue };
            let Some((low, high)) = range.split_once('-') else { continue };
            let number = |digits| u64::from_str_radix(digits, 16).unwrap_or(0);
            let of_program = words.nth(3) == Some(&*program);
            if of_program && layout.bias == 0 {
                layout.bias = number(low);
            }
            if access.contains('x') {
                layout.code.push(Code { low: number(low), high: number(high), of_program });
            }
        }
        layout
    }

    /// Whether code was mapped at `address` when the victim began, and not its own program's.
    pub fn is_library(&self, address: u64) -> bool {
        let only_one = self.code.iter().filter(|c| !c.of_program).count() <= 2;
        self.code.iter().any(|c| (c.low..c.high).contains(&address) && (!c.of_program || only_one))
    }
}
