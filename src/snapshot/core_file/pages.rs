//! The bytes of a core file, read page by page.
//!
//! Not mapped: the kernel maps many pages around each one that is touched, and the stacks of a thousand threads would
//! stay resident. Here no more than [`PAGES`] pages are, whatever the size of the core.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a page. Stacks are read upwards a few hundred bytes at a time.
const PAGE: usize = 4096;
/// Pages kept: 256 KiB, more than the working set of a walk (the stack's page, and text or data that is in the core).
const PAGES: usize = 64;

/// The contents of a file, in pages.
pub(super) struct Pages {
    file: File,
    size: u64,
    kept: RefCell<Vec<Page>>,
}

/// One page of the file.
#[derive(Clone)]
struct Page {
    /// Its number in the file; none while the place is free.
    number: Option<u64>,
    bytes: Box<[u8]>,
}

impl Pages {
    /// The first `size` bytes of `file`.
    pub fn new(file: File, size: u64) -> Self {
        Self { file, size, kept: RefCell::default() }
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `into` from `offset`; whether all of it could be had.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let length = u64::try_from(into.len()).unwrap_or(u64::MAX);
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return false;
        }
        // Nobody looks at large pieces twice.
        if into.len() >= PAGE {
            return self.file.read_exact_at(into, offset).is_ok();
        }
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let page = PAGE as u64;
            let skip = usize::try_from(at % page).unwrap_or(0);
            let room = rest.len().min(PAGE - skip);
            let (now, later) = rest.split_at_mut(room);
            if !self.page(at / page, |bytes| bytes.get(skip..skip + room).map(|from| now.copy_from_slice(from))) {
                return false;
            }
            at = at.saturating_add(u64::try_from(room).unwrap_or(u64::MAX));
            rest = later;
        }
        true
    }

    /// Lends a page to `look`; whether it could be had and `look` found what it wanted.
    fn page(&self, number: u64, look: impl FnOnce(&[u8]) -> Option<()>) -> bool {
        let mut kept = self.kept.borrow_mut();
        if kept.is_empty() {
            *kept = vec![Page { number: None, bytes: Box::default() }; PAGES];
        }
        let place = usize::try_from(number % PAGES as u64).unwrap_or(0);
        let Some(page) = kept.get_mut(place) else { return false };
        if page.number != Some(number) {
            page.number = None;
            let start = number.saturating_mul(PAGE as u64);
            let held = usize::try_from(self.size.saturating_sub(start)).unwrap_or(PAGE).min(PAGE);
            if page.bytes.len() != PAGE {
                page.bytes = vec![0; PAGE].into();
            }
            let Some(bytes) = page.bytes.get_mut(..held) else { return false };
            if self.file.read_exact_at(bytes, start).is_err() {
                return false;
            }
            page.number = Some(number);
        }
        look(&page.bytes).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of `size` bytes in which byte n is n modulo 251, which no page size divides.
    fn pages(size: usize) -> Pages {
        let path = std::env::temp_dir().join(format!("surestack-pages-{}-{size}", std::process::id()));
        std::fs::write(&path, (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>()).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        Pages::new(file, size as u64)
    }

    #[test]
    fn a_read_across_pages_gives_the_bytes_of_both() {
        let pages = pages(3 * PAGE);
        for offset in [0, 1, PAGE - 3, 2 * PAGE - 1, 3 * PAGE - 16] {
            let mut bytes = [0; 16];
            assert!(pages.read(offset as u64, &mut bytes));
            assert!(bytes.iter().enumerate().all(|(at, byte)| usize::from(*byte) == (offset + at) % 251), "{offset}");
        }
    }

    #[test]
    fn pages_that_share_a_place_do_not_mix() {
        let pages = pages((PAGES + 2) * PAGE);
        let byte = |offset: usize| {
            let mut byte = [0];
            assert!(pages.read(offset as u64, &mut byte));
            usize::from(byte[0])
        };
        for _ in 0..2 {
            assert_eq!(byte(5), 5);
            assert_eq!(byte(PAGES * PAGE + 5), (PAGES * PAGE + 5) % 251);
        }
    }

    #[test]
    fn a_read_that_leaves_the_file_fails() {
        let pages = pages(PAGE + 10);
        assert!(pages.read(PAGE as u64 + 2, &mut [0; 8]));
        assert!(!pages.read(PAGE as u64 + 3, &mut [0; 8]));
        assert!(!pages.read(u64::MAX, &mut [0; 8]));
        assert!(!pages.read(0, &mut vec![0; 2 * PAGE]));
    }
}
