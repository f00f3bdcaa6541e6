//! Stacks made to order, and what is true of them.

use crate::programs::{Link, Programs};
use std::arch::global_asm;
use std::ffi::c_void;

// Where every stack ends: no frame pointer, and unwind information that knows no caller.
global_asm!(
    ".type bench_outermost,@function",
    "bench_outermost:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    "xor ebp, ebp",
    "call rsi",
    "pop rbp",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size bench_outermost, . - bench_outermost",
);

unsafe extern "C" {
    fn bench_outermost(chain: *mut c_void, first: Link) -> usize;
}

/// Return addresses that there is room for.
const NOTES: usize = 1024;

/// Where a trace is taken.
pub struct Leaf<'l> {
    /// The innermost frame record, in programs with frame pointers.
    pub frame: *const usize,
    /// The return addresses of the frames on the stack, outermost first: each function wrote down its own.
    pub truth: &'l [usize],
}

impl Leaf<'_> {
    /// How many of the true return addresses are among these, innermost first and in their order.
    pub fn found(&self, pcs: &[usize]) -> usize {
        let mut rest = pcs;
        let in_rest = |address: &&usize| {
            let at = rest.iter().position(|pc| pc == *address);
            rest = at.and_then(|at| rest.get(at + 1..)).unwrap_or(rest);
            at.is_some()
        };
        self.truth.iter().rev().filter(in_rest).count()
    }
}

/// `struct chain` of `chain.h`, and what only we look at.
#[repr(C)]
struct Chain<'c> {
    next: *const Link,
    noted: *mut usize,
    leaf: unsafe extern "C" fn(*mut Chain<'_>, *const usize),
    notes: *const usize,
    visit: &'c mut dyn FnMut(&Leaf<'_>),
}

/// Calls one function after the other, each by the one before, and `visit` at the leaf.
pub fn stack(links: &[Link], visit: &mut dyn FnMut(&Leaf<'_>)) {
    let [first, rest @ ..] = links else { return };
    let mut notes = [0; NOTES];
    let start = notes.as_mut_ptr();
    let mut chain = Chain { next: rest.as_ptr(), noted: start, leaf: at_leaf, notes: start, visit };
    // SAFETY: the last of the links calls the leaf, none calls another after it, and there is room for their notes.
    unsafe { bench_outermost((&raw mut chain).cast(), *first) };
}

unsafe extern "C" fn at_leaf(chain: *mut Chain<'_>, frame: *const usize) {
    // SAFETY: the chain of `stack`, which waits.
    let chain = unsafe { &mut *chain };
    // SAFETY: as many as were noted.
    let truth = unsafe { std::slice::from_raw_parts(chain.notes, chain.noted.offset_from_unsigned(chain.notes)) };
    (chain.visit)(&Leaf { frame, truth });
}

/// Numbers that look random and are the same each time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}

impl Programs {
    /// One function, so deep.
    pub fn recursion(&self, deep: usize) -> Vec<Link> {
        let mut links = vec![self.recursive; deep - 1];
        links.push(self.leaf);
        links
    }

    /// About 80 frames of every kind and object, other ones for each number.
    pub fn wide(&self, numbers: &mut Numbers) -> Vec<Link> {
        const LINKS: usize = 47;
        let mut links: Vec<Link> =
            (0..LINKS).filter_map(|_| self.kinds.get(numbers.below(self.kinds.len()))).copied().collect();
        links.push(self.leaf);
        links
    }

    /// The same with a signal in the middle.
    pub fn interrupted(&self, numbers: &mut Numbers) -> Vec<Link> {
        let mut links = self.wide(numbers);
        links.insert(links.len() / 2, self.by_signal);
        links
    }
}

/// Chains of all the functions, each of them in one chain.
pub fn shuffled(functions: &[Link], leaf: Link, numbers: &mut Numbers) -> Vec<Vec<Link>> {
    const LENGTH: usize = 60;
    let mut all = functions.to_vec();
    for last in (1..all.len()).rev() {
        all.swap(last, numbers.below(last + 1));
    }
    all.chunks(LENGTH).map(|links| [links, &[leaf]].concat()).collect()
}
