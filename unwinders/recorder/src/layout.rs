//! Where everything lies in a recorder's file: fixed offsets, little endian, words of eight bytes at multiples of eight.
//!
//! ```text
//!   0        header, two copies, and the counters that go with it            one page
//!   4096     annotations: slots of 1,088 bytes
//!            sites: what events mean, one description behind the other
//!            threads: slots of 128 bytes
//!            rings: one for each thread slot, whole pages
//! ```
//!
//! The header says where each part begins, and how large it is. Its fixed part is there twice, each copy with its own sum.

/// Bytes of a page: what is overwritten at once, and what no record crosses.
pub const PAGE: usize = 4096;

/// What a recorder's file begins with.
pub const MAGIC: [u8; 16] = *b"\x89surestackflight";
/// The version of the format. Another one is not read.
pub const VERSION: u32 = 1;

/// The header, by byte offsets in each of its copies.
pub mod header {
    /// Where the copies of the fixed part begin.
    pub const COPIES: [usize; 2] = [0, 2048];
    /// Bytes of a copy.
    pub const SIZE: usize = 512;
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::VERSION`] in the lower half; the upper one is 0.
    pub const VERSION: usize = 16;
    /// Bytes of the whole file.
    pub const FILE_SIZE: usize = 24;
    /// Where annotations begin.
    pub const ANNOTATIONS: usize = 32;
    /// How many slots they have.
    pub const ANNOTATION_SLOTS: usize = 40;
    /// Where sites begin.
    pub const SITES: usize = 48;
    /// Bytes for them: at most 512 KiB, since sites are named by 16 bits.
    pub const SITES_SIZE: usize = 56;
    /// Where thread slots begin.
    pub const THREADS: usize = 64;
    /// How many there are.
    pub const THREAD_SLOTS: usize = 72;
    /// Where rings begin.
    pub const RINGS: usize = 80;
    /// Bytes of each, a power of two, [`super::SMALLEST_RING`] at least.
    pub const RING_SIZE: usize = 88;
    /// What happens where a ring is full: [`super::mode`].
    pub const MODE: usize = 96;
    /// The process that began it.
    pub const PROCESS: usize = 104;
    /// When that was: nanoseconds of the monotonic clock.
    pub const MONOTONIC: usize = 112;
    /// The same moment in nanoseconds since 1970.
    pub const REALTIME: usize = 120;
    /// When the process began, in the kernel's ticks since the machine began (field 22 of `/proc/PID/stat`).
    pub const PROCESS_STARTED: usize = 128;
    /// A random number that no other recorder has.
    pub const IDENTITY: usize = 136;
    /// Length of the path of the program.
    pub const PROGRAM_LENGTH: usize = 144;
    /// That path, its end where it is longer.
    pub const PROGRAM: usize = 152;
    /// Most bytes of it.
    pub const PROGRAM_ROOM: usize = 256;
    /// The sum over all bytes of this copy before it ([`super::sum`]).
    pub const SUM: usize = 504;

    // What changes is in the first page once, behind the first copy.

    /// How many processes have written: the next one's number.
    pub const PROCESSES: usize = 512;
    /// The next thread slot that nobody has had.
    pub const NEXT_THREAD: usize = 576;
    /// Bytes of sites that are taken.
    pub const SITES_USED: usize = 640;
    /// Sites that found no room.
    pub const SITES_LOST: usize = 704;
    /// Events that were dropped because their site found no room.
    pub const UNDESCRIBED: usize = 712;
    /// Threads that found no slot.
    pub const THREADS_REFUSED: usize = 720;
    /// Events that were dropped because their thread has no slot.
    pub const UNPLACED: usize = 728;
    /// Threads for whose ring there was no memory, or no room on the disk.
    pub const NO_SPACE: usize = 736;
    /// Slots that went from a thread that had ended to another.
    pub const REUSED: usize = 744;
    /// Annotations that found no slot.
    pub const ANNOTATIONS_LOST: usize = 752;
    /// One past the last counter.
    pub const END: usize = 760;
}

/// What happens where a ring is full.
pub mod mode {
    /// The oldest page goes.
    pub const OVERWRITE: u64 = 0;
    /// New events go, and are counted.
    pub const DROP_NEWEST: u64 = 1;
}

/// A thread's slot.
pub mod slot {
    /// Bytes of it.
    pub const SIZE: usize = 128;
    /// [`state`](super::state).
    pub const STATE: usize = 0;
    /// The thread in the lower half, its process in the upper one.
    pub const OWNER: usize = 8;
    /// The first position that is this thread's: what lies before was another's.
    pub const BASE: usize = 16;
    /// When it took the slot, in nanoseconds of the monotonic clock.
    pub const BEGAN: usize = 24;
    /// The number of its process ([`super::header::PROCESSES`]).
    pub const GENERATION: usize = 32;
    /// Its name, up to 16 bytes, zeros behind it.
    pub const NAME: usize = 40;

    // What a writer changes, in a line of its own.

    /// Positions below are taken.
    pub const RESERVE: usize = 64;
    /// Positions below are whole, but for what the record's own sum says.
    pub const COMMIT: usize = 72;
    /// Who is under way: in the lowest four bits how many writers, each interrupted by the next; in the others the stack
    /// pointer of the outermost.
    pub const NEST: usize = 80;
    /// The bits that count.
    pub const NEST_BITS: u64 = 15;
    /// Events dropped because the ring was full.
    pub const DROPPED: usize = 88;
    /// Events refused because writers were nested too deeply, or left no room for each other.
    pub const REFUSED: usize = 96;
    /// Writers that never ended, because a handler that had interrupted them jumped elsewhere.
    pub const LEFT: usize = 104;
}

/// What a thread slot is.
pub mod state {
    /// Nobody has had it.
    pub const FREE: u64 = 0;
    /// Somebody is about to have it.
    pub const CLAIMED: u64 = 1;
    /// Somebody has it, or had when it ended.
    pub const USED: u64 = 2;
}

/// Bytes of the smallest ring: what writers that interrupt each other may take at most must be a small part of it.
pub const SMALLEST_RING: usize = 8 * PAGE;
/// Writers of one thread that may be under way at once.
pub const DEEPEST: u64 = 8;

/// A record in a ring: a head, the time in nanoseconds of the monotonic clock, and a word or more for each field.
///
/// ```text
///    63      48 47    40 39      24 23          0
///   ┌──────────┬────────┬──────────┬─────────────┐
///   │ site     │ words  │ sum      │ position/8  │   site 0: nothing, `words` long
///   └──────────┴────────┴──────────┴─────────────┘
/// ```
///
/// A head is one only at its own position, and only with its sum: whatever lies in the place of a record that was never
/// finished is told from one.
pub mod record {
    /// Most words of a record, its head and its time among them.
    pub const LONGEST: usize = 128;
    /// Most fields of an event.
    pub const FIELDS: usize = 12;
    /// Bits of the position.
    pub const POSITION_BITS: u32 = 24;
    /// Where the sum lies in the head.
    pub const SUM_SHIFT: u32 = 24;
    /// Where the number of words lies.
    pub const WORDS_SHIFT: u32 = 40;
    /// Where the site lies.
    pub const SITE_SHIFT: u32 = 48;
}

/// What a field is: four bits each in a site's kinds, the first field lowest.
pub mod kind {
    /// No field.
    pub const NONE: u64 = 0;
    /// A number without a sign: one word.
    pub const UNSIGNED: u64 = 1;
    /// A number with a sign: one word.
    pub const SIGNED: u64 = 2;
    /// IEEE 754, 64 bits: one word.
    pub const FLOAT: u64 = 3;
    /// 0 or 1: one word.
    pub const BOOL: u64 = 4;
    /// An address: one word.
    pub const ADDRESS: u64 = 5;
    /// Text: a word with its length in bytes in the lower half and how many of them follow in the upper one, then those,
    /// zeros up to the next word.
    pub const TEXT: u64 = 6;
}

/// A description of a site, what an event means: at its number times eight in the sites. The first eight bytes of the
/// sites are not used.
///
/// ```text
///   head     words of the description (16 bits), their sum (16), level (8), fields (8), 0; not 0 once it is whole
///   kinds    what each field is
///   line     line of the source (32 bits), bytes of the strings (16), 0
///   strings  event, target, file, then one for each field: a length (8 bits) and that many bytes
/// ```
pub mod site {
    /// Words before the strings.
    pub const HEAD: usize = 3;
    /// Longest string.
    pub const STRING: usize = 120;
    /// No level was given.
    pub const NO_LEVEL: u8 = 0;
    /// Levels: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub const LEVELS: [&str; 6] = ["", "error", "warn", "info", "debug", "trace"];
}

/// An annotation: a key, and four cells of which the one with the highest ticket whose sum is right has the value.
pub mod annotation {
    /// Bytes of a slot.
    pub const SIZE: usize = 1088;
    /// 0 free, 1 being made, 2 ready.
    pub const STATE: usize = 0;
    /// Somebody is about to have the slot.
    pub const CLAIMED: u64 = 1;
    /// The key is there.
    pub const READY: u64 = 2;
    /// Tickets given: the next writer's.
    pub const TICKETS: usize = 8;
    /// The key, zeros behind it.
    pub const KEY: usize = 16;
    /// Most bytes of a key.
    pub const KEY_ROOM: usize = 32;
    /// Where cells begin.
    pub const CELLS: usize = 64;
    /// How many there are. The writer with ticket t has cell t mod 4.
    pub const COUNT: usize = 4;
    /// Bytes of a cell.
    pub const CELL: usize = 256;
    /// In a cell: ticket plus one (32 bits), sum (16), bytes of the value that are there (8), what it is (8); 0 while it
    /// is written.
    pub const HEAD: usize = 0;
    /// Bytes of the whole value.
    pub const LENGTH: usize = 8;
    /// The value: text, or one word.
    pub const VALUE: usize = 16;
    /// Most bytes of it.
    pub const VALUE_ROOM: usize = 240;

    /// The slot, of so many, at which a key of these words is looked for first; then come those behind it, and round.
    pub fn belongs(key: impl Iterator<Item = u64>, slots: u64) -> u64 {
        let mixed = key.fold(0_u64, |mixed, word| (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
        // The upper half of the product: a share of the slots, without a division.
        ((u128::from(mixed) * u128::from(slots)) >> 64) as u64
    }
}

/// The sum of words that belong together: 16 bits.
#[derive(Clone, Copy, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing but a first word: for a record and a cell their head with zeros for the sum itself.
    #[inline(always)]
    pub const fn of(first: u64) -> Self {
        Self(first ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// With another word.
    #[inline(always)]
    pub const fn and(self, word: u64) -> Self {
        Self(self.0.rotate_left(19) ^ word)
    }

    /// As it stands in a head.
    #[inline(always)]
    pub const fn value(self) -> u64 {
        self.0.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 48
    }
}

/// The sum over the fixed part of the header (FNV-1a, 64 bits).
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
