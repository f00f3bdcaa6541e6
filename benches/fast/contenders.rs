//! Who takes the traces.

use crate::programs::Flavour;
use crate::stacks::Leaf;
use std::ffi::{CStr, c_int, c_void};

#[path = "framehop.rs"]
mod framehop;
#[path = "llvm.rs"]
mod llvm;
#[path = "libunwind.rs"]
mod nongnu;
#[path = "ours.rs"]
pub mod ours;

/// One of them.
#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    /// Which build of the programs it is given.
    pub flavour: Flavour,
    /// Once for each thread, before its first trace; an error says that it is not installed here.
    pub prepare: fn() -> Result<(), String>,
    /// Takes a trace: its pcs, innermost first, and how many.
    pub trace: fn(&Leaf<'_>, &mut [usize]) -> usize,
    /// Copies the pcs of the last trace from where it keeps them, which nobody measures.
    pub show: fn(&mut [usize]),
}

/// The yardstick.
pub const RAW: Contender =
    Contender { flavour: Flavour::FramePointers, ..other("raw frame-pointer chase", nothing, chase) };

/// The peers that gates are about.
pub const LIBGCC: Contender = other("libgcc `_Unwind_Backtrace`", nothing, libgcc);
pub const UNW_BACKTRACE: Contender = other("libunwind `unw_backtrace`", nongnu::prepare, nongnu::backtrace);

const PEERS: [Contender; 9] = [
    RAW,
    LIBGCC,
    other("glibc `backtrace()`", nothing, glibc),
    UNW_BACKTRACE,
    other("libunwind `unw_step`", nongnu::prepare, nongnu::step),
    other("LLVM libunwind `unw_step`", llvm::prepare, llvm::step),
    other("framehop, warm cache", framehop::prepare, framehop::warm),
    other("framehop, cold cache", framehop::prepare, framehop::cold),
    other("`backtrace` crate", nothing, backtrace_crate),
];

/// All that work here, or the yardstick and those that have this in their name.
pub fn prepared(named: &str) -> Vec<Contender> {
    let works = |contender: &&Contender| match (contender.prepare)() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("{} is left out: {why}", contender.name);
            false
        }
    };
    let wanted = |contender: &&Contender| contender.name == RAW.name || contender.name.contains(named);
    PEERS.iter().chain(ours::OURS).filter(wanted).filter(works).copied().collect()
}

/// By its name, prepared or not.
pub fn named(name: &str) -> Result<Contender, String> {
    let found = PEERS.iter().chain(ours::OURS).chain([&ours::NOT_READY]).find(|contender| contender.name == name);
    found.copied().ok_or_else(|| format!("no contender `{name}`"))
}

const fn other(
    name: &'static str,
    prepare: fn() -> Result<(), String>,
    trace: fn(&Leaf<'_>, &mut [usize]) -> usize,
) -> Contender {
    Contender { name, flavour: Flavour::Without, prepare, trace, show: |_| () }
}

fn nothing() -> Result<(), String> {
    Ok(())
}

/// One frame record after the other, nothing checked.
fn chase(leaf: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    let (mut record, mut count) = (leaf.frame, 0);
    while !record.is_null() {
        // SAFETY: a record of a program with frame pointers, the outermost of which is null; no stack is deeper than
        // `pcs`.
        unsafe {
            *pcs.as_mut_ptr().add(count) = *record.add(1);
            record = *record as *const usize;
        }
        count += 1;
    }
    count
}

/// What libgcc's callback fills.
struct Filled<'p> {
    pcs: &'p mut [usize],
    count: usize,
}

unsafe extern "C" {
    fn _Unwind_Backtrace(each: extern "C" fn(*mut c_void, *mut c_void) -> c_int, data: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    #[link_name = "backtrace"]
    fn glibc_backtrace(into: *mut *mut c_void, most: c_int) -> c_int;
}

fn libgcc(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    extern "C" fn each(context: *mut c_void, filled: *mut c_void) -> c_int {
        // SAFETY: as given below; nothing else uses it.
        let filled = unsafe { &mut *filled.cast::<Filled<'_>>() };
        // SAFETY: the context of a frame.
        let pc = unsafe { _Unwind_GetIP(context) };
        if let Some(place) = filled.pcs.get_mut(filled.count) {
            *place = pc;
            filled.count += 1;
        }
        0
    }
    let mut filled = Filled { pcs, count: 0 };
    // SAFETY: it is called back before this returns.
    unsafe { _Unwind_Backtrace(each, (&raw mut filled).cast()) };
    filled.count
}

fn glibc(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    // SAFETY: room for as many as is said.
    unsafe { filled_by(glibc_backtrace, pcs) }
}

/// By a function of `backtrace`'s shape.
///
/// # Safety
/// It is one.
unsafe fn filled_by(backtrace: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int, pcs: &mut [usize]) -> usize {
    let room = c_int::try_from(pcs.len()).unwrap_or(c_int::MAX);
    // SAFETY: as the caller promises.
    let count = unsafe { backtrace(pcs.as_mut_ptr().cast(), room) };
    usize::try_from(count).unwrap_or(0)
}

fn backtrace_crate(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    let mut count = 0;
    let each = |frame: &backtrace::Frame| {
        if let Some(place) = pcs.get_mut(count) {
            *place = frame.ip().addr();
            count += 1;
        }
        count < pcs.len()
    };
    // SAFETY: nobody else traces by this crate.
    unsafe { backtrace::trace_unsynchronized(each) };
    count
}

/// A library whose functions nobody else is to see: they have the names of others'.
struct Library(*mut c_void);

impl Library {
    fn open(name: &CStr) -> Result<Self, String> {
        // SAFETY: a system library, that runs what it runs.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() { Err(format!("no {}", name.to_string_lossy())) } else { Ok(Self(library)) }
    }

    /// # Safety
    /// `F` is what the function is.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the library stays open.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        // SAFETY: as the caller promises; it has the size of a pointer.
        if address.is_null() { Err(format!("no {name:?}")) } else { Ok(unsafe { std::mem::transmute_copy(&address) }) }
    }
}
