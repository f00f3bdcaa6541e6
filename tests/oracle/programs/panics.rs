//! A Rust program: iterators, boxed closures, hash maps, formatting, a caught panic, a thread.

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

fn main() {
    let counts = words("a rose is a rose is a rose, said she, and so is this");
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let add: Vec<Box<dyn Fn(u32) -> u32>> = (0..4u32).map(|n| Box::new(move |x: u32| x + n) as Box<dyn Fn(u32) -> u32>).collect();
    let sum = add.iter().fold(0, |sum, f| f(sum));
    let caught = (0..3).filter(|&n| panic::catch_unwind(|| fails(n)).is_err()).count();
    let joined = std::thread::spawn(move || words("one two two").len()).join().unwrap_or(0);
    println!("{sorted:?} {sum} {caught} {joined}");
}
