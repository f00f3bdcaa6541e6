//! What a victim knew about itself when it died: the file that `victim/truth.h` lays out.

use std::fs;
use std::path::Path;
use surestack_oracle::error::{Error, Result};

/// How many threads of a victim can keep a truth each.
pub const COUNT: usize = 4;
/// Bytes of one.
pub const SIZE: usize = 393_488;
const ENTRIES: u64 = 16_384;
const MAGIC: u64 = 0x7275_7468_2074_6f6e;

/// The truth of one thread.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The chain was begun, and what comes next is the fault.
    pub armed: bool,
    /// The pc that the handler must find, where it is known to the byte.
    pub pc: Option<u64>,
    /// The registers that the handler must find, in the order of DWARF's numbers.
    pub registers: Option<[u64; 16]>,
    /// How a child died, as `waitpid` said.
    pub inner: Option<i32>,
    /// Control came back from the fault.
    pub survived: bool,
    /// The scene could not be set up: 1, or 2 because this machine does not allow it.
    pub unable: u64,
    /// The chain, innermost first, without the pc.
    pub chain: Vec<Entry>,
    /// Calls made after the fault: allocator, locks, thread-locals.
    pub calls: [u64; 3],
}

impl Truth {
    /// These addresses, the pc first.
    pub fn exactly(pcs: &[u64]) -> Truth {
        let exact = |&address: &u64| Entry { known: Known::Exact(address), slot: 0 };
        Truth {
            armed: true,
            pc: pcs.first().copied(),
            registers: None,
            inner: None,
            survived: false,
            unable: 0,
            chain: pcs.iter().skip(1).map(exact).collect(),
            calls: [0; 3],
        }
    }
}

/// One address of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is known of it.
    pub known: Known,
    /// Where it lies on the stack; 0 when that was not kept.
    pub slot: u64,
}

/// How an address of the chain is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// To the byte.
    Exact(u64),
    /// It lies in the function that begins here.
    Within(u64),
    /// Any frames of libraries, or none.
    Library,
    /// Any frames of the function that begins here, or none.
    Many(u64),
}

/// Lays out an empty file for a victim to fill.
pub fn prepare(path: &Path) -> Result<()> {
    let file = fs::File::create(path).map_err(|e| Error::system(path.display(), e))?;
    file.set_len((SIZE * COUNT) as u64).map_err(|e| Error::system(path.display(), e))
}

/// Reads what the victim left: one truth for each of its threads that began a chain.
pub fn read(path: &Path) -> Result<Vec<Truth>> {
    let bytes = fs::read(path).map_err(|e| Error::system(path.display(), e))?;
    Ok(bytes.chunks_exact(SIZE).filter_map(parse).collect())
}

fn parse(bytes: &[u8]) -> Option<Truth> {
    let word = |at: usize| {
        let eight = bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(eight.try_into().ok()?))
    };
    if word(0)?.wrapping_sub(MAGIC) >= COUNT as u64 {
        return None;
    }
    let mut registers = [0; 16];
    for (i, register) in registers.iter_mut().enumerate() {
        *register = word(48 + 8 * i)?;
    }
    let depth = word(224)?.min(ENTRIES) as usize;
    let entry = |i: usize| {
        let at = 232 + 24 * i;
        let address = word(at + 8)?;
        let known = match word(at)? {
            1 => Known::Exact(address),
            2 => Known::Within(address),
            3 => Known::Library,
            4 => Known::Many(address),
            _ => return None,
        };
        Some(Entry { known, slot: word(at + 16)? })
    };
    Some(Truth {
        armed: word(8)? != 0,
        pc: (word(24)? != 0).then_some(word(32)?),
        registers: (word(40)? != 0).then_some(registers),
        inner: if word(176)? != 0 { i32::try_from(word(184)?).ok() } else { None },
        survived: word(192)? != 0,
        unable: word(200)?,
        chain: (0..depth).rev().map(entry).collect::<Option<_>>()?,
        calls: [word(SIZE - 40)?, word(SIZE - 32)?, word(SIZE - 24)?],
    })
}
