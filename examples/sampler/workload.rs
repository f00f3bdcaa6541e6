//! Work as programs do it: sorting, callbacks from C, formatting, maps, recursion, memory, and the time.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

/// So many rounds of all of it.
#[inline(never)]
pub fn work(rounds: u64, seed: u64) -> u64 {
    let mut sum = 0;
    for number in 1..=rounds {
        sum ^= round(Numbers(seed * 1_000_003 + number));
    }
    sum
}

#[inline(never)]
fn round(mut numbers: Numbers) -> u64 {
    let words: Vec<u64> = numbers.by_ref().take(4000).collect();
    let texts = format_all(&words);
    sort(words.clone())
        ^ sort_in_c(words)
        ^ count(&texts)
        ^ search(18, numbers.0)
        ^ allocate(numbers)
        ^ look_at_the_clock()
}

/// xorshift.
struct Numbers(u64);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}

#[inline(never)]
fn sort(mut words: Vec<u64>) -> u64 {
    words.sort_by(|one, other| (one % 1000).cmp(&(other % 1000)).then_with(|| other.cmp(one)));
    words[words.len() / 2]
}

#[inline(never)]
fn sort_in_c(mut words: Vec<u64>) -> u64 {
    // SAFETY: as many words as it says.
    unsafe { libc::qsort(words.as_mut_ptr().cast(), words.len(), size_of::<u64>(), Some(compare)) };
    words[words.len() / 2]
}

extern "C" fn compare(one: *const c_void, other: *const c_void) -> c_int {
    // SAFETY: two of the words that are sorted.
    let (one, other) = unsafe { (*one.cast::<u64>(), *other.cast::<u64>()) };
    one.cmp(&other) as c_int
}

#[inline(never)]
fn format_all(words: &[u64]) -> Vec<String> {
    let mut texts = Vec::new();
    for word in words.iter().step_by(4) {
        let mut text = String::new();
        let _ = write!(text, "{:x} {} {:.3}", word, word % 977, *word as f64 / 3.0);
        texts.push(text);
    }
    texts
}

#[inline(never)]
fn count(texts: &[String]) -> u64 {
    let mut lengths = HashMap::<&str, u64>::new();
    for text in texts {
        for word in text.split(' ') {
            *lengths.entry(word).or_default() += 1;
        }
    }
    lengths.values().max().copied().unwrap_or(0)
}

/// Calls itself twice, in as many frames as the depth.
#[inline(never)]
fn search(depth: u32, place: u64) -> u64 {
    let place = black_box(place.rotate_left(depth));
    if depth < 3 { place } else { search(depth - 1, place) ^ search(depth - 2, !place).wrapping_add(1) }
}

#[inline(never)]
fn allocate(numbers: Numbers) -> u64 {
    let mut kept = [std::ptr::null_mut::<c_void>(); 64];
    for number in numbers.take(4000) {
        let place = &mut kept[(number % 64) as usize];
        // SAFETY: nobody's, or what was given here.
        unsafe { libc::free(*place) };
        // SAFETY: always.
        *place = unsafe { libc::malloc((number >> 32) as usize % 5000) };
    }
    // SAFETY: as above.
    kept.iter().for_each(|place| unsafe { libc::free(*place) });
    0
}

#[inline(never)]
fn look_at_the_clock() -> u64 {
    let begun = Instant::now();
    (0..1000).map(|_| begun.elapsed().subsec_nanos() as u64 & 1).sum::<u64>() >> 32
}
