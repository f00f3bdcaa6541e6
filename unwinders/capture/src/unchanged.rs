//! Whether code still is what its file holds: no page of it is private to this process (`PAGEMAP_SCAN`, Linux 6.7).

use crate::syscall::{self, Descriptor};

/// `struct pm_scan_arg`, `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_length: u64,
    most_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

/// Whether it is shown that nothing from `low` to `high` was written to.
pub fn is_unchanged(pagemap: Option<Descriptor>, low: u64, high: u64) -> bool {
    /// `_IOWR('f', 16, struct pm_scan_arg)`
    const PAGEMAP_SCAN: usize = 0xc060_6610;
    const FILE: u64 = 4;
    const PRESENT: u64 = 8;
    const SWAPPED: u64 = 16;
    // start, end, categories of one run of pages
    let mut region = [0_u64; 3];
    let mut scan = Scan {
        size: u64::try_from(size_of::<Scan>()).unwrap_or_default(),
        start: low,
        end: high,
        regions: u64::try_from((&raw mut region).expose_provenance()).unwrap_or_default(),
        regions_length: 1,
        most_pages: 1,
        // Pages that are there and are not the file's.
        inverted: FILE,
        all_of: FILE,
        any_of: PRESENT | SWAPPED,
        returned: FILE,
        ..Scan::default()
    };
    let Some(pagemap) = pagemap else { return false };
    // SAFETY: the structure is the request's, and leads to room for one region.
    let found = unsafe { syscall::ioctl(pagemap, PAGEMAP_SCAN, &mut scan) };
    found == Ok(0) && scan.walk_end >= high
}
