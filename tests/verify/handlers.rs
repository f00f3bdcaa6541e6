//! Signal handlers in Rust. Each root is `extern "C"`.

use std::cell::Cell;
use std::io::Write as _;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

unsafe extern "C" {
    fn write(fd: i32, from: *const u8, length: usize) -> isize;
}

fn put(text: &[u8]) {
    unsafe { write(2, text.as_ptr(), text.len()) };
}

/// Something that lines are written to.
trait Sink {
    fn line(&mut self, text: &[u8]);
    fn end(&mut self) {}
}

/// Writes them.
struct Direct;

impl Sink for Direct {
    fn line(&mut self, text: &[u8]) {
        put(text);
    }
}

/// Keeps them.
struct Kept(Vec<u8>);

impl Sink for Kept {
    fn line(&mut self, text: &[u8]) {
        self.0.extend_from_slice(text);
    }

    fn end(&mut self) {
        put(&self.0);
    }
}

#[inline(never)]
fn report(sink: &mut dyn Sink) {
    sink.line(b"it crashed\n");
    sink.end();
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

#[unsafe(no_mangle)]
extern "C" fn clean(number: i32) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let mut line = *b"signal 00\n";
    let digits = line.iter_mut().rev().skip(1).take(2);
    let mut left = number.unsigned_abs();
    for digit in digits {
        *digit = b'0'.wrapping_add(u8::try_from(left % 10).unwrap_or(0));
        left /= 10;
    }
    put(&line);
}

#[unsafe(no_mangle)]
extern "C" fn virtually_clean(_: i32) {
    report(&mut Direct);
}

#[unsafe(no_mangle)]
extern "C" fn virtually_pushes(number: i32) {
    let mut kept = Kept(Vec::new());
    let mut direct = Direct;
    let sinks: [&mut dyn Sink; 2] = [&mut direct, &mut kept];
    for (index, sink) in sinks.into_iter().enumerate() {
        if usize::try_from(number) == Ok(index) {
            report(sink);
        }
    }
    std::mem::forget(kept);
}

#[inline(never)]
fn note(numbers: &mut Vec<i32>, number: i32) {
    numbers.push(number);
}

#[unsafe(no_mangle)]
extern "C" fn pushes(number: i32) {
    let mut numbers = Vec::new();
    note(&mut numbers, number);
    put(if numbers.len() > 1 { b"1" } else { b"0" });
    std::mem::forget(numbers);
}

#[unsafe(no_mangle)]
extern "C" fn indexes(number: i32) {
    const NAMES: [&[u8]; 3] = [b"one", b"two", b"three"];
    put(NAMES[number as usize]);
}

#[unsafe(no_mangle)]
extern "C" fn prints(number: i32) {
    let _ = writeln!(std::io::stderr(), "signal {number}");
}

type Step = fn(i32);

fn first(_: i32) {
    put(b"first\n");
}

fn second(number: i32) {
    put(if number == 2 { b"second\n" } else { b"other\n " });
}

fn third(number: i32) {
    drop(vec![number; 100]);
    put(b"third\n");
}

static GOOD: [Step; 2] = [first, second];
static BAD: [Step; 3] = [first, second, third];

#[unsafe(no_mangle)]
extern "C" fn steps(number: i32) {
    GOOD[(number & 1) as usize](number);
}

#[unsafe(no_mangle)]
extern "C" fn bad_steps(number: i32) {
    BAD[number as usize % 3](number);
}

static CHOSEN: AtomicPtr<extern "C" fn(i32)> = AtomicPtr::new(std::ptr::null_mut());

#[unsafe(no_mangle)]
extern "C" fn unknown(number: i32) {
    let chosen = CHOSEN.load(Ordering::Acquire);
    if let Some(step) = unsafe { chosen.as_ref() } {
        step(number);
    }
}

#[unsafe(no_mangle)]
extern "C" fn choose(step: extern "C" fn(i32)) {
    CHOSEN.store(Box::leak(Box::new(step)), Ordering::Release);
}

thread_local! {
    static NUMBER: Cell<i32> = const { Cell::new(0) };
}

#[unsafe(no_mangle)]
extern "C" fn thread_local_storage(number: i32) {
    let before = NUMBER.replace(number);
    put(if before == number { b"again\n" } else { b"first\n" });
}

pub fn main() {
    let number = i32::try_from(std::env::args().count()).unwrap_or(0);
    choose(pushes);
    for handler in ALL {
        handler(number);
    }
}

#[used]
static ALL: [extern "C" fn(i32); 10] = [
    clean,
    virtually_clean,
    virtually_pushes,
    pushes,
    indexes,
    prints,
    steps,
    bad_steps,
    unknown,
    thread_local_storage,
];
