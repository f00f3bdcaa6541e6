//! What a report costs, from the fault to the complete record of the crashed thread, beside glibc's `backtrace()` and
//! `backtrace_symbols_fd()`; a report with 1,000 threads; and what an installed handler costs while nothing crashes.
//!
//! `cargo bench --bench crash -- --write README.md` puts the table between its markers. Files are on tmpfs. One thread faults
//! again and again, at the same depth; the handler that comes last steps over the instruction. Thread CPU time, rounds of both
//! in turn.

use std::arch::global_asm;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};
use surestack::crash::{Handler, Text, Threads};

const ROUNDS: usize = 40;
const FAULTS: usize = 25;
/// Frames between `main` and the fault.
const DEPTH: usize = 30;
const THREADS: usize = 1000;

// A load of two bytes, that is stepped over.
global_asm!(
    ".pushsection .text.bench_fault,\"ax\",@progbits",
    ".type bench_fault,@function",
    "bench_fault:",
    ".cfi_startproc",
    "mov eax, dword ptr [rdi]",
    "ret",
    ".cfi_endproc",
    ".size bench_fault, . - bench_fault",
    ".popsection",
);

unsafe extern "C" {
    fn bench_fault(at: usize);
    fn backtrace(into: *mut *mut libc::c_void, most: libc::c_int) -> libc::c_int;
    fn backtrace_symbols_fd(frames: *const *mut libc::c_void, count: libc::c_int, to: libc::c_int);
}

/// Where glibc's lines go.
static LINES: AtomicI32 = AtomicI32::new(-1);

/// Steps over the instruction.
extern "C" fn step_over(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: what the kernel passed.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] += 2 };
}

/// What a program does that has no crash handler to install.
extern "C" fn with_glibc(signal: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let mut frames = [std::ptr::null_mut(); 128];
    // SAFETY: room for as many as is said, and a file of ours.
    unsafe {
        let count = backtrace(frames.as_mut_ptr(), 128);
        backtrace_symbols_fd(frames.as_ptr(), count, LINES.load(Ordering::Relaxed));
    }
    step_over(signal, information, context);
}

type Action = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(action: Action) {
    // SAFETY: the handler reads and steps over.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        now.sa_sigaction = action as usize;
        // On the thread's own stack: glibc's `backtrace` does not fit on the alternate stack that std makes.
        now.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSEGV, &raw const now, std::ptr::null_mut());
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Faults so many frames down, and says how long it took to be back.
#[inline(never)]
fn down(levels: usize) -> Duration {
    if levels > 0 {
        let took = down(black_box(levels - 1));
        return black_box(took);
    }
    let began = cpu();
    // SAFETY: nothing is there, and the handler steps over it.
    unsafe { bench_fault(black_box(8)) };
    cpu().saturating_sub(began)
}

/// On tmpfs, gone when this is.
struct Directory(PathBuf);

impl Directory {
    fn new() -> std::io::Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/surestack-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn records(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    fn empty(&self) {
        self.records().for_each(|path| drop(fs::remove_file(path)));
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn handler(directory: &Directory) -> Handler {
    Handler::builder().directory(&directory.0).text(Text::None)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let write = arguments.iter().position(|word| word == "--write").and_then(|at| arguments.get(at + 1));
    let directory = Directory::new()?;
    let mut lines = crashed_thread(&directory)?;
    lines.push(many_threads(&directory)?);
    lines.push(nothing_crashes(&directory)?);
    let table = format!("| what | surestack | glibc | ratio |\n|---|--:|--:|--:|\n{}\n", lines.join("\n"));
    print!("{table}");
    write.map_or(Ok(()), |path| replace(Path::new(path), &table))
}

fn crashed_thread(directory: &Directory) -> Result<Vec<String>, Box<dyn Error>> {
    let file: File = OpenOptions::new().create(true).append(true).open(directory.0.join("lines"))?;
    LINES.store(file.as_raw_fd(), Ordering::Relaxed);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        handle(step_over);
        let guard = handler(directory).threads(Threads::Crashed).install()?;
        down(DEPTH);
        ours.extend((0..FAULTS).map(|_| down(DEPTH)));
        let records = directory.records().filter(|path| path.extension().is_some_and(|end| end == "surestack")).count();
        assert_eq!(records, FAULTS + 1, "each fault leaves a record");
        drop(guard);
        handle(with_glibc);
        down(DEPTH);
        theirs.extend((0..FAULTS).map(|_| down(DEPTH)));
        file.set_len(0)?;
        directory.empty();
    }
    let line = |what: &str, ours: Duration, theirs: Duration| {
        format!("| {what} | {ours:.0?} | {theirs:.0?} | {:.2} |", ours.as_secs_f64() / theirs.as_secs_f64())
    };
    let at = |times: &mut Vec<Duration>, percent: usize| {
        times.sort();
        times.get(times.len() * percent / 100).copied().unwrap_or_default()
    };
    Ok(vec![
        line("crashed thread, 38 frames, fault to complete record: median", at(&mut ours, 50), at(&mut theirs, 50)),
        line("the same, 99th percentile", at(&mut ours, 99), at(&mut theirs, 99)),
    ])
}

fn many_threads(directory: &Directory) -> Result<String, Box<dyn Error>> {
    handle(step_over);
    let guard = handler(directory).install()?;
    for _ in 0..THREADS {
        std::thread::Builder::new().stack_size(64 << 10).spawn(|| std::thread::sleep(Duration::from_secs(3600)))?;
    }
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let began = Instant::now();
            down(DEPTH);
            began.elapsed()
        })
        .collect();
    times.sort();
    drop(guard);
    directory.empty();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(format!("| a report with {THREADS} threads, by the clock: median | {median:.0?} | | |"))
}

/// Threads made and ended: the only thing that an installed handler takes part in.
fn nothing_crashes(directory: &Directory) -> Result<String, Box<dyn Error>> {
    let round = || {
        let began = Instant::now();
        for _ in 0..500 {
            drop(std::thread::spawn(|| black_box(1)).join());
        }
        began.elapsed() / 500
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        without.push(round());
        let guard = handler(directory).install()?;
        with.push(round());
        drop(guard);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (with, without) = (median(&mut with), median(&mut without));
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    Ok(format!(
        "| a thread made and joined, installed beside not installed: median | {with:.0?} | {without:.0?} | {ratio:.2} |"
    ))
}

/// Puts the table between its markers.
fn replace(path: &Path, table: &str) -> Result<(), Box<dyn Error>> {
    const MARKERS: (&str, &str) = ("<!-- figures:crash -->", "<!-- /figures -->");
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(MARKERS.0).ok_or("no marker")?;
    let (_, after) = rest.split_once(MARKERS.1).ok_or("no closing marker")?;
    fs::write(path, format!("{before}{}\n{table}{}{after}", MARKERS.0, MARKERS.1))?;
    Ok(())
}
