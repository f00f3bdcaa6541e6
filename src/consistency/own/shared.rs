//! Memory that a process and the child that it forked both see, at the same place, and values in it one behind the other.
//!
//! What is written are values without pointers into anybody's heap ([`Carry`](super::carry::Carry) sees to that), and the
//! child is the same program, so what one wrote as a type the other may read as that type.

use std::ptr::NonNull;

/// There is no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Memory that is shared with children.
pub(super) struct Shared {
    start: NonNull<u8>,
    size: usize,
}

impl Shared {
    /// So many bytes, of which only what is written to is ever there.
    pub fn new(size: usize) -> Option<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let start = NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED)?;
        Some(Self { start, size })
    }

    /// Where it lies.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = self.start.as_ptr().expose_provenance() as u64;
        start..start.saturating_add(self.size as u64)
    }

    /// Writes from the beginning on.
    pub fn writer(&mut self) -> Writer<'_> {
        Writer { shared: self, at: 0 }
    }

    /// Reads from the beginning on what a [`Writer`] wrote there.
    ///
    /// # Safety
    /// In the order and with the types in which it was written, by somebody who does not write any more.
    pub unsafe fn reader(&self) -> Reader<'_> {
        Reader { shared: self, at: 0 }
    }

    /// Where a value of this type goes, from `at` on, and where the next one begins.
    fn place<T>(&self, at: usize) -> Option<(NonNull<T>, usize)> {
        let start = at.checked_next_multiple_of(align_of::<T>())?;
        let end = start.checked_add(size_of::<T>()).filter(|end| *end <= self.size)?;
        // SAFETY: as just seen, all of it is in the mapping.
        Some((unsafe { self.start.add(start) }.cast(), end))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped with this size, and nobody borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Writes values one behind the other. Allocates nothing.
pub(super) struct Writer<'s> {
    shared: &'s mut Shared,
    at: usize,
}

impl Writer<'_> {
    /// Writes a value.
    pub fn put<T: Copy>(&mut self, value: T) -> Result<(), Full> {
        let (place, next) = self.shared.place(self.at).ok_or(Full)?;
        // SAFETY: aligned, in the mapping, and nobody else's.
        unsafe { place.write(value) };
        self.at = next;
        Ok(())
    }
}

/// Reads values one behind the other.
pub(super) struct Reader<'s> {
    shared: &'s Shared,
    at: usize,
}

impl Reader<'_> {
    /// Reads a value.
    pub fn take<T: Copy>(&mut self) -> Option<T> {
        let (place, next) = self.shared.place(self.at)?;
        self.at = next;
        // SAFETY: aligned, in the mapping, and as promised when this was made, a value of this type was written there.
        Some(unsafe { place.read() })
    }
}
