//! The pages of a process that were read since it was stopped: each read of them costs a system call.

use super::memory::ProcessMemory;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use surestack_walk::{Error, Memory};

const PAGE: usize = 4096;
/// Most pages that are kept: a trace of thirty frames touches a dozen.
const MOST: usize = 64;
/// More than this is read at once, and not kept.
const LARGE: usize = 8 * PAGE;

/// Pages that were read, shared by the memory that fills them and whoever knows that they are no longer true.
#[derive(Clone, Default)]
pub(super) struct Pages(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    pages: Vec<Page>,
    /// How many of them are true; the rest is room.
    used: usize,
}

struct Page {
    address: u64,
    bytes: Box<[u8; PAGE]>,
}

impl Pages {
    /// Forgets what was read: the process ran.
    pub fn forget(&self) {
        self.0.borrow_mut().used = 0;
    }
}

/// The memory of a process, read by pages.
pub(super) struct PagedMemory {
    pub memory: ProcessMemory,
    pub pages: Pages,
}

impl Memory for PagedMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        if into.len() > LARGE {
            return self.memory.read(address, into);
        }
        let mut kept = self.pages.0.borrow_mut();
        let (mut at, mut rest) = (address, &mut *into);
        while !rest.is_empty() {
            let offset = usize::try_from(at % PAGE as u64).map_err(|_| Error::Overflow { address })?;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE - offset));
            let Some(bytes) = kept.page(&self.memory, at - at % PAGE as u64) else {
                return self.memory.read(address, into);
            };
            now.copy_from_slice(bytes.get(offset..offset + now.len()).ok_or(Error::Unreadable { address })?);
            at = at.checked_add(now.len() as u64).ok_or(Error::Overflow { address })?;
            rest = later;
        }
        Ok(())
    }

    fn next_held(&self, range: Range<u64>) -> Option<u64> {
        self.memory.next_held(range)
    }
}

impl Kept {
    /// The page at `address`; `None` where it cannot be read as a whole.
    fn page(&mut self, memory: &ProcessMemory, address: u64) -> Option<&[u8; PAGE]> {
        let known = self.pages.iter().take(self.used).rposition(|page| page.address == address);
        let index = match known {
            Some(index) => index,
            None => self.fill(memory, address)?,
        };
        self.pages.get(index).map(|page| &*page.bytes)
    }

    fn fill(&mut self, memory: &ProcessMemory, address: u64) -> Option<usize> {
        if self.used == MOST {
            self.used = 0;
        }
        let index = self.used;
        if index == self.pages.len() {
            self.pages.push(Page { address, bytes: Box::new([0; PAGE]) });
        }
        let page = self.pages.get_mut(index)?;
        memory.read(address, &mut *page.bytes).ok()?;
        page.address = address;
        self.used = index + 1;
        Some(index)
    }
}
