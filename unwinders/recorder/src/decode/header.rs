//! The header: where everything lies.

use super::{readable, word};
use crate::layout::{MAGIC, PAGE, SMALLEST_RING, VERSION, annotation, header, mode, slot, sum};
use core::fmt;

/// Most bytes of sites: they are named by 16 bits that count words.
const MOST_SITES: u64 = 8 << 16;

/// The fixed part of the header. Every part it names lies in the file, behind the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Where annotations begin.
    pub annotations: u64,
    /// How many slots they have.
    pub annotation_slots: u64,
    /// Where sites begin.
    pub sites: u64,
    /// Bytes of them.
    pub sites_size: u64,
    /// Where thread slots begin.
    pub threads: u64,
    /// How many there are.
    pub thread_slots: u64,
    /// Where rings begin.
    pub rings: u64,
    /// Bytes of each.
    pub ring_size: u64,
    /// What happens where a ring is full: [`mode`].
    pub mode: u64,
    /// The process that began it.
    pub process: u32,
    /// When that was: nanoseconds of the monotonic clock.
    pub monotonic: u64,
    /// The same moment in nanoseconds since 1970.
    pub realtime: u64,
    /// When the process began, in the kernel's ticks since the machine began.
    pub process_started: u64,
    /// A random number that no other recorder has.
    pub identity: u64,
    /// Bytes of the program's path, which may be more than there are.
    pub program_length: u64,
    program: [u8; header::PROGRAM_ROOM],
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// They end too early: there are so many.
    Short(usize),
    /// They begin with something else.
    Magic,
    /// Their sum is another: they are damaged, or were never finished.
    Sum,
    /// Their sum is right, and something in them cannot be.
    Geometry(&'static str),
    /// It is of another version of the format.
    Version(u64),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(bytes) => write!(f, "it has {bytes} bytes, and the header alone takes {}", header::SIZE),
            Self::Magic => f.write_str("it does not begin as a recorder does"),
            Self::Sum => f.write_str("its sum is wrong"),
            Self::Geometry(what) => f.write_str(what),
            Self::Version(found) => write!(f, "its format has version {found}, and only {VERSION} can be read"),
        }
    }
}

impl Header {
    /// Reads one copy.
    ///
    /// # Errors
    /// Where it does not hold.
    pub fn decode(copy: &[u8]) -> Result<Self, Refused> {
        if !copy.iter().zip(&MAGIC).all(|(byte, expected)| byte == expected) {
            return Err(Refused::Magic);
        }
        let copy = copy.get(..header::SIZE).ok_or(Refused::Short(copy.len()))?;
        let at = |offset| word(copy, offset).ok_or(Refused::Short(copy.len()));
        let version = at(header::VERSION)?;
        if version != u64::from(VERSION) {
            return Err(Refused::Version(version));
        }
        if sum(copy.get(..header::SUM).unwrap_or_default()) != at(header::SUM)? {
            return Err(Refused::Sum);
        }
        let program = copy.get(header::PROGRAM..).and_then(|rest| rest.first_chunk());
        let read = Self {
            file_size: at(header::FILE_SIZE)?,
            annotations: at(header::ANNOTATIONS)?,
            annotation_slots: at(header::ANNOTATION_SLOTS)?,
            sites: at(header::SITES)?,
            sites_size: at(header::SITES_SIZE)?,
            threads: at(header::THREADS)?,
            thread_slots: at(header::THREAD_SLOTS)?,
            rings: at(header::RINGS)?,
            ring_size: at(header::RING_SIZE)?,
            mode: at(header::MODE)?,
            process: u32::try_from(at(header::PROCESS)?).map_err(|_| Refused::Geometry("its process has no number"))?,
            monotonic: at(header::MONOTONIC)?,
            realtime: at(header::REALTIME)?,
            process_started: at(header::PROCESS_STARTED)?,
            identity: at(header::IDENTITY)?,
            program_length: at(header::PROGRAM_LENGTH)?,
            program: *program.ok_or(Refused::Short(copy.len()))?,
        };
        read.geometry().map(|()| read).map_err(Refused::Geometry)
    }

    /// The first copy that holds.
    ///
    /// # Errors
    /// Where none does: what says most about why.
    pub fn first_of(copies: [&[u8]; 2]) -> Result<Self, Refused> {
        let [first, second] = copies.map(Self::decode);
        match (first, second) {
            (Ok(header), _) | (_, Ok(header)) => Ok(header),
            (Err(one), Err(other)) => Err(one.max(other)),
        }
    }

    fn geometry(&self) -> Result<(), &'static str> {
        let of = |count: u64, size: usize| count.checked_mul(size as u64);
        let parts = [
            (0, Some(PAGE as u64), "its first page has no room"),
            (
                self.annotations,
                of(self.annotation_slots, annotation::SIZE),
                "its annotations lie over what is before them",
            ),
            (self.sites, Some(self.sites_size), "its sites lie over what is before them"),
            (self.threads, of(self.thread_slots, slot::SIZE), "its threads lie over what is before them"),
            (self.rings, self.thread_slots.checked_mul(self.ring_size), "its rings lie over what is before them"),
        ];
        let mut end = 0;
        for (at, size, why) in parts {
            if at < end || at % 8 != 0 {
                return Err(why);
            }
            end = size.and_then(|size| at.checked_add(size)).ok_or("its parts are larger than any file")?;
        }
        if end > self.file_size {
            return Err("its parts do not end within the file");
        }
        if !self.ring_size.is_power_of_two() || self.ring_size < SMALLEST_RING as u64 {
            return Err("its rings have a size that none has");
        }
        if self.sites_size > MOST_SITES {
            return Err("its sites are more than can be named");
        }
        if self.mode > mode::DROP_NEWEST {
            return Err("its mode is none");
        }
        Ok(())
    }

    /// The path of the program, or its end where it is too long.
    pub fn program(&self) -> &str {
        let length = usize::try_from(self.program_length).unwrap_or(usize::MAX);
        readable(self.program.get(..length).unwrap_or(&self.program))
    }

    /// Where a thread's slot lies.
    pub fn slot(&self, index: u64) -> Option<u64> {
        let at = index.checked_mul(slot::SIZE as u64)?.checked_add(self.threads)?;
        (index < self.thread_slots).then_some(at)
    }

    /// Where the page of a position in a thread's ring lies.
    pub fn page(&self, index: u64, position: u64) -> Option<u64> {
        let ring = index.checked_mul(self.ring_size)?.checked_add(self.rings)?;
        let within = position & self.ring_size.wrapping_sub(1) & !(PAGE as u64 - 1);
        (index < self.thread_slots).then(|| ring.checked_add(within))?
    }

    /// Where an annotation's slot lies.
    pub fn annotation(&self, index: u64) -> Option<u64> {
        let at = index.checked_mul(annotation::SIZE as u64)?.checked_add(self.annotations)?;
        (index < self.annotation_slots).then_some(at)
    }

    /// Where a site's description begins, and how many bytes there are from there on.
    pub fn site(&self, number: u16) -> Option<(u64, u64)> {
        let within = u64::from(number).checked_mul(8)?;
        let rest = self.sites_size.checked_sub(within)?;
        (number != 0 && rest != 0).then_some((self.sites.checked_add(within)?, rest))
    }
}

/// What changes in the first page: they are counted while others write, and no sum holds them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How many processes have written.
    pub processes: u64,
    /// Bytes of sites that are taken.
    pub sites_used: u64,
    /// Sites that found no room.
    pub sites_lost: u64,
    /// Events that were dropped because their site found no room.
    pub undescribed: u64,
    /// Threads that found no slot.
    pub threads_refused: u64,
    /// Events that were dropped because their thread has no slot.
    pub unplaced: u64,
    /// Threads for whose ring there was no memory, or no room on the disk.
    pub no_space: u64,
    /// Slots that went from a thread that had ended to another.
    pub reused: u64,
    /// Annotations that found no slot.
    pub annotations_lost: u64,
}

impl Counters {
    /// Reads them from the first bytes of the file, [`header::END`] at least.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let at = |offset| word(page, offset);
        Some(Self {
            processes: at(header::PROCESSES)?,
            sites_used: at(header::SITES_USED)?,
            sites_lost: at(header::SITES_LOST)?,
            undescribed: at(header::UNDESCRIBED)?,
            threads_refused: at(header::THREADS_REFUSED)?,
            unplaced: at(header::UNPLACED)?,
            no_space: at(header::NO_SPACE)?,
            reused: at(header::REUSED)?,
            annotations_lost: at(header::ANNOTATIONS_LOST)?,
        })
    }
}

#[cfg(test)]
mod tests;
