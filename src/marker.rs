//! Marker frames as a user names them, and what that means in one target.

use crate::error::Error;
use crate::snapshot::{Identity, Snapshot};
use std::str::FromStr;
use surestack_walk::{Marker, Sign};

/// A way in which a program marks its entry frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marking {
    /// A three-word frame that returns into the second byte of this function: `function=SYMBOL` or `function=0xADDRESS`.
    Function(String),
    /// A frame pointer with its lowest bit set: `tagged`.
    Tagged,
    /// A record of two zeros and a type inside the saved registers: `record=TYPE,FINAL,OFFSET`.
    Record {
        /// The type of a record that saved registers surround.
        registers: u64,
        /// The type of the outermost one.
        outermost: u64,
        /// Where the record lies among the saved registers.
        offset: u64,
    },
}

impl FromStr for Marking {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        match kind {
            "tagged" if value.is_empty() => Ok(Self::Tagged),
            "function" if !value.is_empty() => Ok(Self::Function(value.to_owned())),
            "record" => {
                let numbers: Option<Vec<u64>> = value.split(',').map(number).collect();
                let Some([registers, outermost, offset]) = numbers.as_deref() else {
                    return Err("a record is given by three numbers: TYPE,FINAL,OFFSET");
                };
                Ok(Self::Record { registers: *registers, outermost: *outermost, offset: *offset })
            }
            _ => Err("a marker is function=SYMBOL, function=0xADDRESS, tagged, or record=TYPE,FINAL,OFFSET"),
        }
    }
}

impl Marking {
    /// What it is in `snapshot`. The marker's number is its place in the user's list.
    ///
    /// # Errors
    /// When the function it names is in no symbol table.
    pub fn find(&self, snapshot: &Snapshot, id: u16) -> Result<Marker<'static>, Error> {
        let sign = match self {
            Self::Function(function) => Sign::Function { start: address(snapshot, function)? },
            Self::Tagged => Sign::LowBitSet,
            &Self::Record { registers, outermost, offset } => Sign::Record { registers, outermost, offset },
        };
        Ok(Marker { id, sign, layout: &snapshot.arch.entry_registers })
    }
}

/// The address of a function given by name, or by `0x…`.
fn address(snapshot: &Snapshot, function: &str) -> Result<u64, Error> {
    if let Some(address) = function.strip_prefix("0x").and_then(|_| number(function)) {
        return Ok(address);
    }
    let modules = snapshot.space.modules.iter().filter(|module| module.identity != Identity::Unchecked);
    let mut found = modules.flat_map(|module| {
        let images = [&module.image, &module.debug].into_iter().flatten();
        let symbols = images.flat_map(|image| image.symbols());
        let named = symbols.filter(|symbol| symbol.section != 0 && symbol.name == function.as_bytes());
        named.map(|symbol| symbol.address.wrapping_add(module.bias))
    });
    found.next().ok_or_else(|| Error::NoSymbol { name: function.to_owned() })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_written_as_the_help_says() {
        assert_eq!("tagged".parse(), Ok(Marking::Tagged));
        assert_eq!("function=entry".parse(), Ok(Marking::Function("entry".to_owned())));
        let record = Marking::Record { registers: 2, outermost: 1, offset: 0x120 };
        assert_eq!("record=2,1,0x120".parse(), Ok(record));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "function=", "tagged=1", "record=1,2", "record=1,2,3,4", "record=a,b,c", "other"] {
            assert!(text.parse::<Marking>().is_err(), "{text}");
        }
    }
}
