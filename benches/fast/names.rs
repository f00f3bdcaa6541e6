//! A trace with names: about 85 frames of C, C++ and Rust, the C library and the C++ library; ours beside the `backtrace`
//! crate. Every name is asked for: functions, inlined ones too, demangled, with their files and lines.
//!
//! Cold is the first trace that is named in a process, each time a new one whose files the kernel has in memory; warm is
//! every other. Times are those that the thread ran.

#[path = "../../tests/names/mod.rs"]
mod wide;

use std::error::Error;
use std::ffi::c_void;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use surestack::this_process::{Names, Trace, refresh};
use surestack::walk::CodeAddress;
use wide::Wide;

/// How often each is measured, in turns.
const ROUNDS: usize = 15;
/// Rounds of the stack.
const DEPTH: usize = 7;

/// Who names.
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

/// The stack that is named, innermost first; the libraries it goes through are in `folder`.
fn stack(folder: &Path) -> Vec<CodeAddress> {
    let wide = Wide::load(folder);
    refresh();
    let mut pcs = Vec::new();
    wide.descend(DEPTH, &mut || {
        let trace: Box<Trace<128>> = Box::new(Trace::capture());
        pcs = trace.frames().map(|frame| frame.pc).collect();
    });
    pcs
}

/// In a child: names once, and says how long that took.
pub fn cold(whose: &str, folder: &str) {
    let pcs = stack(Path::new(folder));
    let begun = cpu();
    black_box(name(whose, &mut Names::new(), &pcs));
    println!("{}", cpu() - begun);
}

/// What tells the program that calls [`tables`] to call [`cold`], with what follows.
pub const WORD: &str = "--cold";

/// The table: who names, how much, and in which time; and our milliseconds, cold and warm. The program that calls this gives
/// `--cold WHO FOLDER` to [`cold`].
pub fn tables() -> Result<(String, [f64; 2]), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("surestack-names-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let table = table(&folder);
    std::fs::remove_dir_all(&folder)?;
    table
}

fn table(folder: &Path) -> Result<(String, [f64; 2]), Box<dyn Error>> {
    let pcs = stack(folder);
    let mut names = Names::new();
    let said = CONTENDERS.map(|whose| name(whose, &mut names, &pcs));
    let mut times = CONTENDERS.map(|_| [const { Vec::new() }; 2]);
    for _ in 0..ROUNDS {
        for (whose, [cold, warm]) in CONTENDERS.iter().zip(&mut times) {
            let child = Command::new(std::env::current_exe()?).args([WORD, whose]).arg(folder).output()?;
            cold.push(String::from_utf8(child.stdout)?.trim().parse()?);
            let begun = cpu();
            black_box(name(whose, &mut names, &pcs));
            warm.push(cpu() - begun);
        }
    }
    let times = times.map(|both| both.map(|times| median(times) / 1e6));
    let [ours, [peer_cold, peer_warm]] = times;
    let mut text = String::from(
        "| a trace with names | frames | functions | of them with a line | cold, ms | of `backtrace` | warm, ms | of `backtrace` |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for ((whose, (functions, lines)), [cold, warm]) in CONTENDERS.iter().zip(said).zip(times) {
        let (frames, of_cold, of_warm) = (pcs.len(), cold / peer_cold, warm / peer_warm);
        writeln!(
            text,
            "| {whose} | {frames} | {functions} | {lines} | {cold:.1} | {of_cold:.3} | {warm:.4} | {of_warm:.6} |"
        )?;
    }
    Ok((text, ours))
}

/// Nanoseconds that this thread has run.
fn cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is ours to write.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
