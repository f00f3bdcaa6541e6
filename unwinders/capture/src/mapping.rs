//! What the kernel says is mapped at an address: `PROCMAP_QUERY` on `/proc/self/maps` (Linux 6.11), or the lines of that
//! file. It was opened at install: a sandbox may refuse that later, and a process without descriptors left as well.

use crate::syscall::{self, Answer, Descriptor, Errno};
use core::cell::{Cell, RefCell};

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First address.
    pub low: u64,
    /// One past the last.
    pub high: u64,
    /// `VMA_*` below.
    pub flags: u8,
    /// Where `low` is in its file.
    pub offset: u64,
    /// The file's inode; 0 where there is none.
    pub inode: u64,
    /// The beginning of its name: a path, or what the kernel calls it, like `[stack]`.
    pub name: [u8; NAME],
}

impl Mapped {
    /// It can be read.
    pub const READABLE: u8 = 1;
    /// It can be written.
    pub const WRITABLE: u8 = 2;
    /// It can be executed.
    pub const EXECUTABLE: u8 = 4;

    /// Whether all of these are allowed.
    pub const fn may(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether it is the kernel's mapping of that name.
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.strip_prefix(name).and_then(|rest| rest.first()).is_some_and(|end| *end == 0)
    }

    fn covers(&self, address: u64) -> bool {
        (self.low..self.high).contains(&address)
    }
}

/// Bytes kept of a name.
pub const NAME: usize = 64;
/// Mappings that are remembered.
const KEPT: usize = 16;

/// The mappings of our own process, each asked for once.
pub struct Mappings {
    maps: Option<Descriptor>,
    kept: RefCell<[Option<Mapped>; KEPT]>,
    next: Cell<usize>,
}

impl Mappings {
    /// From `/proc/self/maps`, opened by this process.
    pub const fn new(maps: Option<Descriptor>) -> Self {
        Self { maps, kept: RefCell::new([None; KEPT]), next: Cell::new(0) }
    }

    /// The mapping at an address: none where nothing is mapped.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn at(&self, address: u64) -> Answer<Option<Mapped>> {
        if let Ok(kept) = self.kept.try_borrow()
            && let Some(known) = kept.iter().flatten().find(|mapped| mapped.covers(address))
        {
            return Ok(Some(*known));
        }
        let maps = self.maps.ok_or(Errno::ENOSYS)?;
        let found = match query(maps, address) {
            Err(NO_QUERY | NOT_HERE) => read_lines(maps, address)?,
            answer => answer?,
        };
        if let (Some(found), Ok(mut kept)) = (found, self.kept.try_borrow_mut()) {
            let next = self.next.get();
            if let Some(place) = kept.get_mut(next % KEPT) {
                *place = Some(found);
            }
            self.next.set(next.wrapping_add(1));
        }
        Ok(found)
    }
}

/// What kernels before 6.11 answer.
const NO_QUERY: Errno = Errno(25);
const NOT_HERE: Errno = Errno(22);
const NONE: Errno = Errno(2);
const TOO_LONG: Errno = Errno(36);

/// `struct procmap_query`, `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    query_flags: u64,
    address: u64,
    start: u64,
    end: u64,
    flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    device: [u32; 2],
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

fn query(maps: Descriptor, address: u64) -> Answer<Option<Mapped>> {
    // _IOWR('f', 17, struct procmap_query)
    const PROCMAP_QUERY: usize = 0xc068_6611;
    // Longer than any path: the kernel gives nothing of a name that does not fit.
    let mut path = [0; 1024];
    let ask = |path: &mut [u8]| {
        let mut query = Query {
            size: u64::try_from(size_of::<Query>()).unwrap_or_default(),
            address,
            name_size: u32::try_from(path.len()).unwrap_or_default(),
            name: if path.is_empty() {
                0
            } else {
                u64::try_from(path.as_mut_ptr().expose_provenance()).unwrap_or_default()
            },
            ..Query::default()
        };
        // SAFETY: the structure is the request's, and leads to room for as many bytes as it says.
        unsafe { syscall::ioctl(maps, PROCMAP_QUERY, &mut query) }.map(|_| query)
    };
    let query = match ask(&mut path) {
        Err(TOO_LONG) => {
            path = [0; 1024];
            ask(&mut [])
        }
        answer => answer,
    };
    match query {
        Ok(query) => Ok(Some(Mapped {
            low: query.start,
            high: query.end,
            // The kernel's bits for reading, writing and executing are ours.
            flags: u8::try_from(query.flags & 7).unwrap_or_default(),
            offset: query.offset,
            inode: query.inode,
            name: beginning(&path),
        })),
        Err(NONE) => Ok(None),
        Err(error) => Err(error),
    }
}

fn beginning(text: &[u8]) -> [u8; NAME] {
    let mut name = [0; NAME];
    // The last byte stays 0.
    name.iter_mut().take(NAME - 1).zip(text).for_each(|(to, from)| *to = *from);
    name
}

/// The line of `/proc/self/maps` that covers the address.
fn read_lines(maps: Descriptor, address: u64) -> Answer<Option<Mapped>> {
    let mut text = [0_u8; 4096];
    let (mut offset, mut kept) = (0, 0);
    loop {
        let room = text.get_mut(kept..).unwrap_or_default();
        let came = match syscall::read_at(maps, room, offset) {
            Err(Errno::EINTR) => continue,
            came => came?,
        };
        if came == 0 {
            return Ok(None);
        }
        offset = offset.saturating_add(came);
        let mut rest = text.get(..kept.saturating_add(came)).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, more) = rest.split_at_checked(end).unwrap_or_default();
            match parse(line) {
                Some(mapped) if mapped.covers(address) => return Ok(Some(mapped)),
                Some(mapped) if mapped.low > address => return Ok(None),
                _ => {}
            }
            rest = more.get(1..).unwrap_or_default();
        }
        // A line that is longer than the room: its beginning says nothing that is needed but its name.
        let left = if rest.len() < text.len() { rest.len() } else { 0 };
        let begin = text.len().min(kept.saturating_add(came)).saturating_sub(left);
        text.copy_within(begin..begin.saturating_add(left), 0);
        kept = left;
    }
}

/// `low-high rwxp offset device inode name`.
fn parse(line: &[u8]) -> Option<Mapped> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let mut range = words.next()?.split(|byte| *byte == b'-');
    let (low, high) = (number(range.next()?, 16)?, number(range.next()?, 16)?);
    let allowed = words.next()?;
    let bits = [(b'r', Mapped::READABLE), (b'w', Mapped::WRITABLE), (b'x', Mapped::EXECUTABLE)];
    let flags = bits.iter().filter(|(letter, _)| allowed.contains(letter)).fold(0, |flags, (_, bit)| flags | bit);
    let offset = number(words.next()?, 16)?;
    words.next()?;
    let inode = number(words.next()?, 10)?;
    Some(Mapped { low, high, flags, offset, inode, name: beginning(words.next().unwrap_or_default()) })
}

fn number(digits: &[u8], base: u32) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(base)?;
        number.checked_mul(u64::from(base))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let mapped = parse(b"7f00a000-7f00c000 r-xp 00002000 08:01 1234    /lib/x y.so").unwrap();
        assert_eq!((mapped.low, mapped.high, mapped.offset, mapped.inode), (0x7f00_a000, 0x7f00_c000, 0x2000, 1234));
        assert!(mapped.may(Mapped::READABLE | Mapped::EXECUTABLE) && !mapped.may(Mapped::WRITABLE));
        assert!(mapped.is_named(b"/lib/x") && !mapped.is_named(b"/lib"));
        assert_eq!(parse(b"7f00a000-7f00c000 r-xp"), None);
        assert_eq!(parse(b"7f00a000-7f00cg00 r-xp 0 0 0"), None);
    }
}
