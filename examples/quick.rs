//! q
use std::hint::black_box;
use std::time::Instant;
use surestack::this_process::{Backtrace, Layers, prepare, tables};
static mut B: Backtrace<512> = Backtrace::EMPTY;
#[inline(never)]
fn leaf() {
    let b = unsafe { &mut *(&raw mut B) };
    let l = match std::env::args().nth(3).as_deref() {
        Some("e") => Layers::Evaluator,
        Some("t") => Layers::NoCache,
        Some("c") => Layers::NoMemory,
        _ => Layers::All,
    };
    b.capture_here();
    println!("{} frames {:?} {l:?}", b.depth(), b.end());
    let n: u32 = std::env::args().nth(2).map_or(20000, |n| n.parse().unwrap());
    for _ in 0..3 {
        let t = Instant::now();
        for _ in 0..n {
            b.capture_with(l);
            black_box(&b);
        }
        let e = t.elapsed().as_nanos() as f64 / n as f64;
        println!("{:.1} ns a trace, {:.2} a frame", e, e / b.depth() as f64);
    }
}
macro_rules! f { ($($n:ident $m:ident $k:expr),*) => { $(#[inline(never)] fn $n(d: usize) -> usize { let mut a = [d as u64; $k]; black_box(&mut a); if d == 0 { leaf(); } else { $m(d - 1); } black_box(a[0] as usize) })* } }
f!(a b 1, b c 5, c d 9, d e 20, e f 3, f g 7, g h 40, h i 2, i j 11, j k 100, k l 6, l m 8, m n 33, n o 1, o p 4, p a 2);
fn main() {
    let _prepared = prepare();
    tables();
    let d: usize = std::env::args().nth(1).map_or(80, |n| n.parse().unwrap());
    black_box(a(d));
}
