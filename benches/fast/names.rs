//! A trace with names: about 85 frames of C, C++ and Rust, the C library and the C++ library.
//!
//! Cold is the first trace that is named in a process, each time a new one; warm is every other.

#[path = "../../tests/names/mod.rs"]
mod wide;

use std::ffi::c_void;
use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use surestack::this_process::{Names, Trace, refresh};
use surestack::walk::CodeAddress;
use wide::Wide;

const ROUNDS: usize = 11;
const DEPTH: usize = 7;

/// Who names, by what is written in the table; the first word is what a child is asked for.
const CONTENDERS: [&str; 2] = ["surestack", "backtrace"];

/// Names all of these; how many functions there were, inlined ones too, and how many of them had a line.
fn name(whose: &str, names: &mut Names, pcs: &[CodeAddress]) -> (usize, usize) {
    let mut seen = (0, 0);
    if whose == CONTENDERS[0] {
        for named in names.of(pcs) {
            for function in &named.symbol().functions {
                seen.0 += 1;
                seen.1 += usize::from(function.location.as_ref().is_some_and(|location| location.line.is_some()));
            }
        }
        return seen;
    }
    for pc in pcs {
        backtrace::resolve(std::ptr::without_provenance_mut::<c_void>(pc.value() as usize), |symbol| {
            seen.0 += usize::from(symbol.name().map(|name| black_box(name.to_string())).is_some());
            seen.1 += usize::from(black_box(symbol.filename()).is_some() && symbol.lineno().is_some());
        });
    }
    seen
}

/// The stack that is named.
fn pcs() -> Vec<CodeAddress> {
    let folder = std::env::temp_dir().join(format!("surestack-names-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let wide = Wide::load(&folder);
    refresh();
    let mut pcs = Vec::new();
    wide.descend(DEPTH, &mut || {
        let trace: Box<Trace<256>> = Box::new(Trace::capture());
        pcs = trace.frames().map(|frame| frame.pc).collect();
    });
    FOLDER.with(|held| *held.borrow_mut() = Some(Folder(folder)));
    pcs
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    static FOLDER: std::cell::RefCell<Option<Folder>> = const { std::cell::RefCell::new(None) };
}

/// In a child: names once, and says how long that took.
pub fn cold(whose: &str) {
    let pcs = pcs();
    let begun = cpu();
    black_box(name(whose, &mut Names::new(), &pcs));
    println!("{}", cpu() - begun);
}

pub fn tables() -> String {
    let mut text = String::new();
    let pcs = pcs();
    if std::env::var_os("SHOW").is_some() {
        for named in Names::new().of(&pcs) {
            println!("{named}");
        }
    }
    for whose in CONTENDERS {
        let this = std::env::current_exe().expect("us");
        let mut colds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let out = Command::new(&this).args(["--cold", whose]).output().expect("a child");
                String::from_utf8_lossy(&out.stdout).trim().parse::<f64>().expect("a number") / 1e6
            })
            .collect();
        let mut names = Names::new();
        let said = name(whose, &mut names, &pcs);
        let mut warms: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let begun = cpu();
                black_box(name(whose, &mut names, &pcs));
                (cpu() - begun) / 1e6
            })
            .collect();
        let (cold, warm) = (median(&mut colds), median(&mut warms));
        let _ = writeln!(text, "{whose}: {} frames, {said:?}, cold {cold:.2} ms, warm {warm:.4} ms", pcs.len());
    }
    text
}

/// Nanoseconds that this thread has run.
fn cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is ours to write.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
