//! What a forked child does first: it has the recorder at another address.
//!
//! A handler may fork in the middle of an event. The child then goes on in the middle of it, with addresses in the ring of its
//! parent, which goes on with it too; two writers of one ring would spoil each other's events. So what lies at these addresses
//! is nobody's in the child:
//!
//! ```text
//!   parent   [ recorder, shared ]
//!   child    [ zeros, private   ]       [ recorder, shared ]
//!              an event that was under way     all that begins later
//!              ends here, and is gone
//! ```
//!
//! Who forks past the C library (`_Fork`, a bare `clone`) has its child go on at the same address: that is safe but in the
//! middle of an event.

use super::error::StartError;
use super::space;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use surestack_recorder::started;

/// Has every child do so.
pub fn prepare() -> Result<(), StartError> {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if PREPARED.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: the handler is there as long as the code.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => PREPARED.store(true, Ordering::Relaxed),
        error => {
            let source = io::Error::from_raw_os_error(error);
            return Err(StartError::System { what: "having forked children move", source });
        }
    }
    Ok(())
}

/// Where any of it is refused, the child goes on at the same address.
extern "C" fn in_child() {
    let Some(arena) = started() else { return };
    arena.settle();
    let (size, rings, old) = (arena.geometry().size, arena.geometry().rings, arena.base());
    // SAFETY: of a shared mapping, no bytes of it moved is all of it mapped a second time, somewhere.
    let new = unsafe { libc::mremap(old.cast(), 0, size, libc::MREMAP_MAYMOVE) };
    if new == libc::MAP_FAILED {
        return;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: in the place of the first mapping, of which only what is under way in this thread has an address.
    unsafe { libc::mmap(old.cast(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    // SAFETY: mapped above; a child has one thread, and the old place is as large as before.
    unsafe { arena.moved(new.cast()) };
    // Rings that the child takes are in its cores; those of others are in theirs.
    let _ = space::leave_out_of_cores(new.cast::<u8>().wrapping_add(rings), size - rings);
}
