//! Bytes to items.

use super::check::Sum;
use super::codes::Variants;
use super::fields::Payload;
use super::{ALIGNMENT, HEAD, ITEM_HEAD, Item, MAGIC, VERSION};
use core::fmt;

/// Bytes that are summed in all while whole items are looked for among broken ones: hostile bytes may look like the
/// beginning of long items everywhere.
const SEARCH: usize = 1 << 24;

/// The items of a record, and what is broken between them. Unknown items are skipped and counted.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    bytes: &'a [u8],
    at: usize,
    machine: Option<u16>,
    /// What is wrong with its head, until that has been told.
    damage: Option<Damage>,
    unknown: u64,
    /// What is left of [`SEARCH`].
    search: usize,
}

/// What is wrong with the bytes of a record. Reading goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not begin as records do.
    NotARecord,
    /// Its format is a later one, of which only the items that are known here are read.
    Version {
        /// The version.
        version: u16,
    },
    /// Bytes that are no whole item.
    Broken {
        /// Where they begin.
        offset: usize,
        /// How many.
        length: usize,
    },
    /// The last item is not whole.
    Cut {
        /// Where it begins.
        offset: usize,
        /// How many bytes are missing.
        missing: usize,
    },
    /// A whole item that says something unheard of.
    Strange {
        /// Where it begins.
        offset: usize,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotARecord => out.write_str("it does not begin as a record does"),
            Self::Version { version } => {
                write!(out, "it is of version {version}, of which only what version {VERSION} has is understood")
            }
            Self::Broken { offset, length } => write!(out, "{length} bytes from byte {offset} on are damaged"),
            Self::Cut { offset, missing } => {
                write!(out, "it ends in the middle of the item at byte {offset}, of which {missing} bytes are missing")
            }
            Self::Strange { offset } => write!(out, "the item at byte {offset} holds what is not understood"),
        }
    }
}

impl<'a> Items<'a> {
    /// The items of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let head = head(bytes);
        let damage = match head {
            None => Some(Damage::NotARecord),
            Some((version, _)) if version > VERSION => Some(Damage::Version { version }),
            Some(_) => None,
        };
        let at = if head.is_some() { HEAD } else { 0 };
        Self { bytes, at, machine: head.map(|(_, machine)| machine), damage, unknown: 0, search: SEARCH }
    }

    /// The machine, as ELF numbers it; `None` where the beginning of the record is not there.
    pub fn machine(&self) -> Option<u16> {
        self.machine
    }

    /// How many items of unknown kinds have been skipped.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Goes to the next whole item of a known kind, and says what lies before it.
    fn skip(&mut self) -> Damage {
        let (offset, end) = (self.at, self.bytes.len());
        let broken = |to: usize| Damage::Broken { offset, length: to.saturating_sub(offset) };
        for at in offset.saturating_add(1)..end {
            let Some(rest) = self.bytes.get(at..) else { break };
            let Some(claim) = Claim::of(rest).filter(|claim| claim.is_known() && claim.missing(rest) == 0) else {
                continue;
            };
            let Some(left) = self.search.checked_sub(claim.size()) else { break };
            self.search = left;
            if claim.payload(rest).is_some() {
                self.at = at;
                return broken(at);
            }
        }
        self.at = end;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        match Claim::of(rest) {
            None => Damage::Cut { offset, missing: ITEM_HEAD.saturating_sub(rest.len()) },
            Some(claim) if claim.is_known() && claim.missing(rest) > 0 => {
                Damage::Cut { offset, missing: claim.missing(rest) }
            }
            Some(_) => broken(end),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(damage) = self.damage.take() {
            return Some(Err(damage));
        }
        loop {
            let offset = self.at;
            let rest = self.bytes.get(offset..).filter(|rest| !rest.is_empty())?;
            let whole = Claim::of(rest).and_then(|claim| Some((claim, claim.payload(rest)?)));
            let Some((claim, payload)) = whole else { return Some(Err(self.skip())) };
            self.at = offset.saturating_add(claim.size());
            if claim.is_known() {
                let item =
                    u8::try_from(claim.kind).ok().and_then(|code| Item::take_fields(code, &mut Payload::new(payload)));
                return Some(item.ok_or(Damage::Strange { offset }));
            }
            self.unknown = self.unknown.saturating_add(1);
        }
    }
}

/// The version and the machine of a record that begins as one.
fn head(bytes: &[u8]) -> Option<(u16, u16)> {
    let mut head = Payload::new(bytes.get(..HEAD)?);
    let is_record = head.number() == Some(MAGIC);
    let numbers = (u16::from_le_bytes(head.number()?), u16::from_le_bytes(head.number()?));
    is_record.then_some(numbers)
}

/// What the first bytes of an item say about it, true or not.
#[derive(Clone, Copy)]
struct Claim {
    kind: u16,
    check: u16,
    length: u32,
}

impl Claim {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut head = Payload::new(bytes);
        let (kind, check) = (u16::from_le_bytes(head.number()?), u16::from_le_bytes(head.number()?));
        Some(Self { kind, check, length: u32::from_le_bytes(head.number()?) })
    }

    fn is_known(self) -> bool {
        u8::try_from(self.kind).is_ok_and(Item::knows)
    }

    /// Bytes without what is behind it up to the next item.
    fn end(self) -> usize {
        usize::try_from(self.length).map_or(usize::MAX, |length| length.saturating_add(ITEM_HEAD))
    }

    /// Bytes up to the next item.
    fn size(self) -> usize {
        self.end().checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX)
    }

    /// How many bytes of it are not there.
    fn missing(self, bytes: &[u8]) -> usize {
        self.end().saturating_sub(bytes.len())
    }

    /// What it holds, if that is what it claims.
    fn payload(self, bytes: &[u8]) -> Option<&[u8]> {
        let payload = bytes.get(ITEM_HEAD..self.end())?;
        (Sum::of(self.kind, self.length).and(payload).value() == self.check).then_some(payload)
    }
}
