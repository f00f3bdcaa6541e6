//! Reading our own memory where it is and where it is not.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use surestack_capture::{OwnMemory, Range, arm, recover};
use surestack_walk::{Error, Memory};

const PAGE: usize = 4096;
static FAULTS: AtomicUsize = AtomicUsize::new(0);
/// The handler is the whole process's.
static ALONE: Mutex<()> = Mutex::new(());

extern "C" fn on_fault(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the kernel's, for the length of the handler.
    let rip = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] };
    match recover(u64::from_ne_bytes(rip.to_ne_bytes())) {
        Some(on) => *rip = i64::from_ne_bytes(on.to_ne_bytes()),
        // SAFETY: takes no pointers. Not ours: the instruction faults again, with the default action.
        None => drop(unsafe { libc::signal(signal, libc::SIG_DFL) }),
    }
}

/// Runs `test` with the handler installed.
fn armed<T>(test: impl FnOnce() -> T) -> T {
    let _alone = ALONE.lock().unwrap();
    // SAFETY: all of the structure may be zero; the handler makes no calls but of `recover`.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    }
    arm(true);
    let said = test();
    arm(false);
    said
}

/// Two pages, of which the second cannot be read.
fn pages() -> u64 {
    // SAFETY: a new mapping.
    unsafe {
        let both = libc::mmap(
            std::ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(both, libc::MAP_FAILED);
        for at in 0..PAGE {
            both.cast::<u8>().add(at).write(at as u8);
        }
        assert_eq!(libc::mprotect(both.add(PAGE), PAGE, libc::PROT_NONE), 0);
        both.expose_provenance() as u64
    }
}

#[test]
fn what_is_mapped_is_read_at_every_offset_and_what_is_not_is_an_error() {
    let low = pages();
    // SAFETY: nothing is promised.
    let memory = unsafe { OwnMemory::new(&[]) };
    armed(|| {
        for start in 0..24u64 {
            let mut bytes = [0; 40];
            memory.read(low + start, &mut bytes).unwrap();
            let expected: Vec<u8> = (start..start + 40).map(|byte| byte as u8).collect();
            assert_eq!(bytes[..], expected[..], "{start}");
        }
        let end = low + PAGE as u64;
        for before in 1..24u64 {
            let mut bytes = vec![0; before as usize];
            assert_eq!(memory.read(end - before, &mut bytes), Ok(()), "{before} bytes up to the last");
            bytes.push(0);
            let unreadable = Error::Unreadable { address: end - before };
            assert_eq!(memory.read(end - before, &mut bytes), Err(unreadable), "and one more");
        }
        for address in [0, 8, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0000_0000, u64::MAX - 7, u64::MAX] {
            assert_eq!(memory.word(address), Err(Error::Unreadable { address }));
        }
    });
}

#[test]
fn a_page_of_a_file_that_became_shorter_is_an_error_and_no_bus_error() {
    let path = std::env::temp_dir().join(format!("surestack-shorter-{}", std::process::id()));
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(PAGE as u64).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a new mapping of a file that is open.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, descriptor, 0) };
    assert_ne!(mapped, libc::MAP_FAILED);
    let address = mapped.expose_provenance() as u64;
    // SAFETY: nothing is promised.
    let memory = unsafe { OwnMemory::new(&[]) };
    armed(|| {
        assert_eq!(memory.word(address), Ok(0));
        file.set_len(0).unwrap();
        let before = FAULTS.load(Ordering::Relaxed);
        assert_eq!(memory.word(address), Err(Error::Unreadable { address }));
        assert_eq!(FAULTS.load(Ordering::Relaxed), before + 1);
    });
}

#[test]
fn known_ranges_are_read_without_a_handler_and_nothing_else_is() {
    let _alone = ALONE.lock().unwrap();
    let words = [1u64, 2, 3, 4];
    let low = words.as_ptr().expose_provenance() as u64;
    let known = [Range { low, high: low + 32 }];
    // SAFETY: the array is there to the end.
    let memory = unsafe { OwnMemory::new(&known) };
    assert_eq!([0, 8, 16, 24].map(|offset| memory.word(low + offset)), [1, 2, 3, 4].map(Ok));
    assert_eq!(memory.word(low + 4), Ok(2 << 32), "and not only whole words");
    for address in [low - 1, low + 25, low + 32, u64::MAX - 3] {
        assert_eq!(memory.word(address), Err(Error::Unreadable { address }));
    }
}
