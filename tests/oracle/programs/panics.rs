//! A Rust program: iterators, boxed closures, hash maps, formatting, a caught panic, a thread.
//!
//! panics [ROUNDS [WORK]]: without arguments the panics follow each other closely; with, WORK units of ordinary work lie
//! before each.

use std::collections::HashMap;
use std::panic;

#[inline(never)]
fn words(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_uppercase()).or_insert(0) += 1;
    }
    counts
}

#[inline(never)]
fn fails(depth: u32) -> u32 {
    let kept = vec![depth; 3];
    if depth == 0 {
        panic::resume_unwind(Box::new("bottom"));
    }
    fails(depth - 1) + kept.iter().sum::<u32>()
}

fn works(units: u32) -> usize {
    (0..units).map(|unit| words(&format!("a rose is {unit} roses, said {} and {}", unit * unit, unit % 7)).len()).sum()
}

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (rounds, units) = (numbers.first().copied().unwrap_or(3), numbers.get(1).copied().unwrap_or(0));
    let counts = words("a rose is a rose is a rose, said she, and so is this");
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let add: Vec<Box<dyn Fn(u32) -> u32>> = (0..4u32).map(|n| Box::new(move |x: u32| x + n) as Box<dyn Fn(u32) -> u32>).collect();
    let sum = add.iter().fold(0, |sum, f| f(sum));
    let caught = (0..rounds).filter(|&n| works(units) < usize::MAX && panic::catch_unwind(|| fails(n)).is_err()).count();
    let joined = std::thread::spawn(move || words("one two two").len()).join().unwrap_or(0);
    println!("{sorted:?} {sum} {caught} {joined}");
}
