//! What `/proc` says about our own threads.

use super::asked;
use crate::syscall::{self, Answer, Descriptor, Errno};
use core::ffi::CStr;
use core::sync::atomic::{AtomicI32, Ordering};

/// `/proc/self/task`, opened at install; -1 where it could not be.
static DIRECTORY: AtomicI32 = AtomicI32::new(-1);

const AT_FDCWD: Descriptor = -100;
const O_DIRECTORY: i32 = 0o200_000;
const O_CLOEXEC: i32 = 0o2_000_000;
/// Bytes of entries that are read at once: a hundred threads.
const ENTRIES: usize = 4096;
/// Longest name of a thread.
const NAME: usize = 16;

/// A thread's name, without its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadName {
    bytes: [u8; NAME],
    length: usize,
}

impl ThreadName {
    /// From what the kernel tells the thread itself, which ends with a zero.
    pub(super) fn of(words: [u64; 2]) -> Self {
        let mut name = Self::default();
        for (place, byte) in name.bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_ne_bytes())) {
            *place = byte;
        }
        name.length = name.bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        name
    }

    /// Its bytes, at most 15.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Opens the list anew; what was opened before stays open, for whoever reads it.
pub(super) fn open() {
    let opened = syscall::open_at(AT_FDCWD, c"/proc/self/task", O_DIRECTORY | O_CLOEXEC, 0);
    DIRECTORY.store(opened.unwrap_or(-1), Ordering::Relaxed);
}

/// Whether it is open.
pub(super) fn is_open() -> bool {
    DIRECTORY.load(Ordering::Relaxed) >= 0
}

/// Calls `see` with the id of each thread.
pub(super) fn each(mut see: impl FnMut(u32)) -> Answer {
    // What was opened before a fork lists the parent's.
    if asked::forked() || DIRECTORY.load(Ordering::Relaxed) < 0 {
        open();
    }
    let directory = DIRECTORY.load(Ordering::Relaxed);
    syscall::rewind(directory)?;
    let mut buffer = [0; ENTRIES];
    loop {
        let read = syscall::directory_entries(directory, &mut buffer)?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        // struct linux_dirent64: inode, offset (8 bytes each), length (2), type (1), name.
        while let Some(length) = rest.get(16..18).and_then(<[u8]>::first_chunk) {
            let length = usize::from(u16::from_le_bytes(*length));
            let (Some(entry), Some(next)) = (rest.get(19..length), rest.get(length..)) else { return Err(Errno(5)) };
            if let Some(id) = number(entry) {
                see(id);
            }
            rest = next;
        }
    }
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = text.split(|byte| *byte == 0).next()?;
    let digit = |number: u32, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
}

/// The name of one of our threads. Opens a file.
///
/// # Errors
/// As the system says: it may have exited.
pub fn name(thread: u32) -> Answer<ThreadName> {
    let mut bytes = [0; NAME];
    let read = read(thread, b"/comm\0", &mut bytes)?;
    let length = bytes.iter().take(read).position(|byte| *byte == b'\n').unwrap_or(read);
    Ok(ThreadName { bytes, length })
}

/// The letter of a thread's state: `R`, `S`, `D`, `T`, `Z`… Opens a file.
///
/// # Errors
/// As the system says.
pub fn state(thread: u32) -> Answer<u8> {
    let mut bytes = [0; 128];
    let read = read(thread, b"/stat\0", &mut bytes)?;
    // Behind the name, which may hold anything but is short.
    let text = bytes.get(..read).unwrap_or_default();
    let behind = text.iter().rposition(|byte| *byte == b')').and_then(|at| at.checked_add(2));
    behind.and_then(|at| text.get(at)).copied().ok_or(Errno(5))
}

/// A set of signals that `/proc` shows of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Those it blocks.
    Blocked,
    /// Those queued for it.
    Pending,
}

/// Whether a signal is in such a set of a thread's. Opens a file.
///
/// # Errors
/// As the system says.
pub fn has(signals: Signals, thread: u32, signal: i32) -> Answer<bool> {
    let key = match signals {
        Signals::Blocked => b"\nSigBlk:\t",
        Signals::Pending => b"\nSigPnd:\t",
    };
    let mut bytes = [0; 2048];
    let read = read(thread, b"/status\0", &mut bytes)?;
    let text = bytes.get(..read).unwrap_or_default();
    let at = text.windows(key.len()).position(|window| window == key).ok_or(Errno(5))?;
    let digits = at.checked_add(key.len()).and_then(|at| text.get(at..)).and_then(<[u8]>::first_chunk::<16>);
    let digit = |mask: u64, byte: &u8| Some(mask << 4 | u64::from(char::from(*byte).to_digit(16)?));
    let mask = digits.and_then(|digits| digits.iter().try_fold(0, digit)).ok_or(Errno(5))?;
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1)).ok_or(Errno(22))?;
    Ok(mask.checked_shr(bit).unwrap_or(0) & 1 == 1)
}

/// Reads the beginning of a file about a thread; its name ends with a zero.
fn read(thread: u32, file: &[u8], into: &mut [u8]) -> Answer<usize> {
    let mut path = *b"/proc/self/task/\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let start = 16_usize;
    let (mut left, mut digits) = (thread, 0_usize);
    let mut reversed = [0; 10];
    for place in &mut reversed {
        *place = b'0'.wrapping_add(u8::try_from(left % 10).unwrap_or(0));
        left /= 10;
        digits = digits.saturating_add(1);
        if left == 0 {
            break;
        }
    }
    let number = reversed.iter().take(digits).rev();
    let places = path.get_mut(start..).unwrap_or_default();
    for (place, byte) in places.iter_mut().zip(number.chain(file)) {
        *place = *byte;
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno(22))?;
    let opened = syscall::open_at(AT_FDCWD, path, O_CLOEXEC, 0)?;
    let read = syscall::read(opened, into);
    let _ = syscall::close(opened);
    read
}
