//! Work that needs more stack than there may be: on an alternate stack of 12 KiB, on a thread with 16.
//!
//! ```text
//!   the stack that the thread is on │ …, surestack_work_elsewhere: saved rbp ◄ rbp
//!   ────────────────────────────────┼──────────────────────────────
//!   one of ours                     │ the work
//! ```
//!
//! Who takes one of our stacks sets its flag first and clears it last; nobody waits for one. Where all are in use the work is
//! not done, and that is said. Of what was never used there is no memory.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes that the work may need: four times what a walk was measured to take without optimisation.
const ROOM: usize = 64 << 10;
/// Of how many threads and handlers at once the work can be done.
const STACKS: usize = 64;

#[repr(C, align(4096))]
struct Bytes(UnsafeCell<[u8; ROOM]>);

struct Stack {
    bytes: Bytes,
    taken: AtomicBool,
}

// SAFETY: who has set `taken` alone is on the bytes.
unsafe impl Sync for Stack {}

static POOL: [Stack; STACKS] =
    [const { Stack { bytes: Bytes(UnsafeCell::new([0; ROOM])), taken: AtomicBool::new(false) } }; STACKS];

/// Does `work` where there is room for it. Says whether there was.
pub fn with_room(work: &mut dyn FnMut()) -> bool {
    // Acquire: what the last one wrote there is over. Pairs with the Release below.
    let take = |stack: &&Stack| stack.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
    let Some(stack) = POOL.iter().find(take) else { return false };
    let top = stack.bytes.0.get().addr().wrapping_add(ROOM);
    let mut work = work;
    // SAFETY: the stack is ours alone, and its end is aligned to pages.
    unsafe { switch::call_on(top, do_work, (&raw mut work).cast()) };
    stack.taken.store(false, Ordering::Release);
    true
}

unsafe extern "C" fn do_work(work: *mut c_void) {
    // SAFETY: what `with_room` passed, which waits for us.
    let work = unsafe { &mut *work.cast::<&mut dyn FnMut()>() };
    work();
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod switch {
    use core::ffi::c_void;

    core::arch::global_asm!(
        ".pushsection .text.surestack_work_elsewhere,\"ax\",@progbits",
        ".hidden surestack_work_elsewhere",
        ".globl surestack_work_elsewhere",
        ".type surestack_work_elsewhere,@function",
        "surestack_work_elsewhere:",
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
        ".size surestack_work_elsewhere, . - surestack_work_elsewhere",
        ".popsection",
    );

    unsafe extern "C" {
        fn surestack_work_elsewhere(top: usize, work: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    }

    /// Calls `work` on the stack that ends at `top`.
    ///
    /// # Safety
    /// The stack is nobody else's, large enough, and `top` is aligned to 16 bytes.
    pub(super) unsafe fn call_on(top: usize, work: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) {
        // SAFETY: as the caller promises.
        unsafe { surestack_work_elsewhere(top, work, argument) };
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod switch {
    use core::ffi::c_void;

    /// Stacks are not switched here yet.
    ///
    /// # Safety
    /// The stack that there is has room.
    pub(super) unsafe fn call_on(_top: usize, work: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) {
        // SAFETY: as the caller promises.
        unsafe { work(argument) };
    }
}
