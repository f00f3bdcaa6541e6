//! The memory that a recorder has: one shared mapping, laid out as [`crate::layout`] says.

use crate::layout::{PAGE, SMALLEST_RING, annotation, header, slot};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Where each part of an arena begins, in bytes, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of all of it.
    pub size: usize,
    /// Where annotations begin.
    pub annotations: usize,
    /// How many there can be.
    pub annotation_slots: usize,
    /// Where sites begin.
    pub sites: usize,
    /// Bytes of them.
    pub sites_size: usize,
    /// Where thread slots begin.
    pub threads: usize,
    /// How many threads can have one.
    pub thread_slots: usize,
    /// Where rings begin.
    pub rings: usize,
    /// Bytes of each.
    pub ring_size: usize,
}

impl Geometry {
    /// Most bytes of sites: what 16 bits can name, but for the last number.
    pub const MOST_SITES: usize = 8 * 0xffff;

    /// One with so many thread slots, rings of so many bytes, so many bytes for sites and so many annotations. Nothing where
    /// that is none: a ring is a power of two and not too small, and all of it has a size.
    pub const fn new(
        thread_slots: usize,
        ring_size: usize,
        sites_size: usize,
        annotation_slots: usize,
    ) -> Option<Self> {
        let is_ring = ring_size.is_power_of_two() && ring_size >= SMALLEST_RING && ring_size <= 1 << 26;
        let is_sites = sites_size <= Self::MOST_SITES && sites_size.is_multiple_of(8);
        if !is_ring || !is_sites || thread_slots > 1 << 20 || annotation_slots > 1 << 16 {
            return None;
        }
        let annotations = PAGE;
        let sites = (annotations + annotation_slots * annotation::SIZE).next_multiple_of(PAGE);
        let threads = (sites + sites_size).next_multiple_of(PAGE);
        let rings = (threads + thread_slots * slot::SIZE).next_multiple_of(PAGE);
        let Some(all) = ring_size.checked_mul(thread_slots) else { return None };
        let Some(size) = rings.checked_add(all) else { return None };
        Some(Self { size, annotations, annotation_slots, sites, sites_size, threads, thread_slots, rings, ring_size })
    }
}

/// A recorder's memory, as the process that writes sees it. What it goes by is kept here, not there: others may write there.
#[derive(Debug)]
pub struct Arena {
    base: AtomicPtr<u8>,
    geometry: Geometry,
    mode: u64,
    own: *const [AtomicU64; 2],
}

// SAFETY: all that is reached through it is atomic.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of this geometry at `base`, in which full rings do as `mode` says ([`crate::layout::mode`]). `own` are the
    /// process's own words: 0 at first, and 0 in a forked child.
    ///
    /// # Safety
    /// At `base` that many bytes are mapped, shared and writable, for ever; they are all zeros but for the fixed parts of the
    /// header. `own` is valid for ever.
    pub const unsafe fn new(base: *mut u8, geometry: Geometry, mode: u64, own: *const [AtomicU64; 2]) -> Self {
        Self { base: AtomicPtr::new(base), geometry, mode, own }
    }

    /// Where it begins.
    #[inline(always)]
    pub fn base(&self) -> *mut u8 {
        self.base.load(Ordering::Relaxed)
    }

    /// From now on it begins there: of a forked child, which leaves what it was in the middle of where that was.
    ///
    /// # Safety
    /// The same arena is mapped there as [`Self::new`] asks for it. This process has one thread. Where the arena began before,
    /// as many bytes stay mapped and writable.
    pub unsafe fn moved(&self, base: *mut u8) {
        self.base.store(base, Ordering::Relaxed);
    }

    /// How it is laid out.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) const fn mode(&self) -> u64 {
        self.mode
    }

    /// The number of this process among those that write here; 0 before anybody asked, and in a forked child.
    pub(crate) fn own(&self) -> &AtomicU64 {
        // SAFETY: valid for ever, as whoever made this promised.
        unsafe { &(&*self.own)[0] }
    }

    /// Says that the process that calls this is the one whose memory this is, and does not borrow it (`vfork`): to be called
    /// when the arena is begun, and in forked children.
    pub fn settle(&self) {
        // SAFETY: no more than a number.
        let process = unsafe { libc::getpid() };
        self.settled().store(u64::from(process.cast_unsigned()), Ordering::Relaxed);
    }

    /// The process whose memory this is; 0 where nobody has said.
    pub(crate) fn settled(&self) -> &AtomicU64 {
        // SAFETY: valid for ever, as whoever made this promised.
        unsafe { &(&*self.own)[1] }
    }

    /// A word at an offset, which is a multiple of eight below the size.
    #[inline(always)]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset < self.geometry.size);
        // SAFETY: all callers give offsets of the parts that the geometry has; the mapping is there for ever.
        unsafe { &*self.base().add(offset).cast::<AtomicU64>() }
    }

    /// A counter of the header.
    pub(crate) fn count(&self, counter: usize) -> u64 {
        debug_assert!(counter < header::END);
        self.word(counter).fetch_add(1, Ordering::Relaxed)
    }

    /// Where a thread slot begins.
    pub(crate) const fn slot(&self, index: usize) -> usize {
        self.geometry.threads + index * slot::SIZE
    }

    /// Where its ring begins.
    pub(crate) const fn ring(&self, index: usize) -> usize {
        self.geometry.rings + index * self.geometry.ring_size
    }
}

static STARTED: AtomicPtr<Arena> = AtomicPtr::new(core::ptr::null_mut());

/// A recorder was started before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyStarted;

/// From now on events and annotations go there.
///
/// # Errors
/// Where they go somewhere already: that lasts as long as the process.
pub fn publish(arena: &'static Arena) -> Result<(), AlreadyStarted> {
    let arena = core::ptr::from_ref(arena).cast_mut();
    // Release pairs with the Acquire in `started`: what the arena is was written before.
    let known = STARTED.compare_exchange(core::ptr::null_mut(), arena, Ordering::Release, Ordering::Relaxed);
    known.map(|_| ()).map_err(|_| AlreadyStarted)
}

/// Where events go.
#[inline(always)]
pub fn started() -> Option<&'static Arena> {
    // SAFETY: null, or what was published, which lives for ever.
    unsafe { STARTED.load(Ordering::Acquire).as_ref() }
}
