//! Our own memory, read from a handler.
//!
//! Inside ranges that are known to be mapped as long as the walk lasts (the thread's stack above its stack pointer, storage
//! of ours) words are just loaded. Elsewhere a load may fault: then it is done by one instruction at a known place, and the
//! handler of the fault, which is ours as well, goes on behind it with the answer that there is nothing ([`recover`]).
//!
//! ```text
//!   read ─► in a known range? ─ yes ─► load
//!                 │ no
//!                 └─► armed? ─ yes ─► load at surestack_load ─► the word
//!                        │ no                 └─ SIGSEGV, SIGBUS ─► handler ─► recover ─► Unreadable
//!                        └─► Unreadable
//! ```

use core::sync::atomic::{AtomicBool, Ordering};
use surestack_walk::{Error, Memory};

/// Smaller ones there are not.
const PAGE: usize = 4096;

/// Whether a handler is installed that calls [`recover`].
static ARMED: AtomicBool = AtomicBool::new(false);

/// Memory from one address to another, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub low: u64,
    /// One past the last.
    pub high: u64,
}

/// Our own memory.
#[derive(Clone, Copy, Debug)]
pub struct OwnMemory<'r> {
    known: &'r [Range],
}

impl<'r> OwnMemory<'r> {
    /// Memory of which `known` is mapped and readable as long as this is used.
    ///
    /// # Safety
    /// It is.
    pub const unsafe fn new(known: &'r [Range]) -> Self {
        Self { known }
    }

    fn is_known(&self, address: u64, length: u64) -> bool {
        let end = address.checked_add(length);
        self.known.iter().any(|range| range.low <= address && end.is_some_and(|end| end <= range.high))
    }
}

impl Memory for OwnMemory<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let unreadable = Error::Unreadable { address };
        let length = u64::try_from(into.len()).map_err(|_| unreadable)?;
        address.checked_add(length).ok_or(unreadable)?;
        let known = self.is_known(address, length);
        if !known && !ARMED.load(Ordering::Relaxed) {
            return Err(unreadable);
        }
        let mut at = usize::try_from(address).map_err(|_| unreadable)?;
        // Words that lie in one page, since the next may not be there; where there is none, byte by byte.
        let mut rest = into;
        while !rest.is_empty() {
            let take = if at % PAGE <= PAGE - 8 && rest.len() >= 8 { 8 } else { 1 };
            let (now, later) = rest.split_at_mut_checked(take).ok_or(unreadable)?;
            let value = if known {
                // SAFETY: in a range that is mapped, as whoever made this promised.
                Some(unsafe { plain(at, take) })
            } else {
                checked(at, take)
            };
            let bytes = value.ok_or(unreadable)?.to_le_bytes();
            now.copy_from_slice(bytes.get(..take).ok_or(unreadable)?);
            at = at.wrapping_add(take);
            rest = later;
        }
        Ok(())
    }

    fn word(&self, address: u64) -> Result<u64, Error> {
        // What a walk reads most: the stack's words.
        match usize::try_from(address) {
            // SAFETY: in a range that is mapped, as whoever made this promised.
            Ok(at) if address.is_multiple_of(8) && self.is_known(address, 8) => Ok(unsafe { plain(at, 8) }),
            _ => {
                let mut bytes = [0; 8];
                self.read(address, &mut bytes)?;
                Ok(u64::from_le_bytes(bytes))
            }
        }
    }
}

/// A word (8) or a byte.
///
/// # Safety
/// It is mapped.
unsafe fn plain(at: usize, size: usize) -> u64 {
    // SAFETY: as the caller promises. Volatile: others write there meanwhile, and whatever they write is an answer.
    unsafe {
        match size {
            8 if at.is_multiple_of(8) => core::ptr::with_exposed_provenance::<u64>(at).read_volatile(),
            8 => core::ptr::with_exposed_provenance::<u64>(at).read_unaligned(),
            _ => u64::from(core::ptr::with_exposed_provenance::<u8>(at).read_volatile()),
        }
    }
}

/// From now on, or no longer, faults at our loads come back to [`recover`]: whoever installs and removes the handler for
/// SIGSEGV and SIGBUS says so.
pub fn arm(armed: bool) {
    ARMED.store(armed, Ordering::Relaxed);
}

use stub::checked;
pub use stub::recover;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod stub {
    use core::arch::{asm, global_asm};

    // rdi: where from; rsi: where the value goes. Returns 1 in eax if it is there. Nothing else is touched.
    global_asm!(
        ".pushsection .text.surestack_load,\"ax\",@progbits",
        ".globl surestack_load_word, surestack_load_byte, surestack_load_failed",
        ".hidden surestack_load_word, surestack_load_byte, surestack_load_failed",
        ".type surestack_load_word,@function",
        "surestack_load_word:",
        ".cfi_startproc",
        "mov rax, qword ptr [rdi]",
        "mov qword ptr [rsi], rax",
        "mov eax, 1",
        "ret",
        ".cfi_endproc",
        ".size surestack_load_word, . - surestack_load_word",
        ".type surestack_load_byte,@function",
        "surestack_load_byte:",
        ".cfi_startproc",
        "movzx eax, byte ptr [rdi]",
        "mov qword ptr [rsi], rax",
        "mov eax, 1",
        "ret",
        ".cfi_endproc",
        ".size surestack_load_byte, . - surestack_load_byte",
        ".type surestack_load_failed,@function",
        "surestack_load_failed:",
        ".cfi_startproc",
        "xor eax, eax",
        "ret",
        ".cfi_endproc",
        ".size surestack_load_failed, . - surestack_load_failed",
        ".popsection",
    );

    unsafe extern "C" {
        fn surestack_load_word();
        fn surestack_load_byte();
        fn surestack_load_failed();
    }

    /// A word in one page (8) or a byte, if it can be read; a handler that calls [`recover`] is installed.
    pub(super) fn checked(at: usize, size: usize) -> Option<u64> {
        let load = if size == 8 { surestack_load_word as *const () } else { surestack_load_byte as *const () };
        let (mut value, there): (u64, u32);
        value = 0;
        // SAFETY: the functions above keep to the ABI's calling convention and touch no more than is named here. The pointer is
        // to a word of ours. `call` writes below the stack pointer, so the red zone is not used (no `nostack`).
        unsafe {
            asm!(
                "call {load}",
                load = in(reg) load,
                in("rdi") at,
                in("rsi") &raw mut value,
                out("eax") there,
            );
        }
        (there == 1).then_some(value)
    }

    /// Where to go on after a fault at `pc`, if that is one of our loads; the fault is then nobody's business.
    pub fn recover(pc: u64) -> Option<u64> {
        let is = |load: unsafe extern "C" fn()| u64::try_from((load as *const ()).addr()) == Ok(pc);
        let ours = is(surestack_load_word) || is(surestack_load_byte);
        ours.then(|| u64::try_from((surestack_load_failed as *const ()).addr()).ok()).flatten()
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod stub {
    /// There is no such load here yet.
    pub(super) fn checked(_at: usize, _size: usize) -> Option<u64> {
        None
    }

    /// Where to go on after a fault at `pc`: nothing here faults on purpose yet.
    pub fn recover(_pc: u64) -> Option<u64> {
        None
    }
}
