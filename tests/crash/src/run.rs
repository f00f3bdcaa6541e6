//! Lets a victim die, with a limit on the time.

use crate::contender::Contender;
use crate::judge::{self, Trace};
use crate::record::{self, Left};
use crate::said;
use crate::scenes::{Outside, Scene};
use crate::truth::{self, Truth};
use crate::victim::{Layout, Victim};
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use surestack_oracle::error::{Error, Result};

/// What has not ended by then hangs.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Where the libraries are that victims load.
pub const LIBRARIES: &str = env!("CRASH_LIBRARIES");
/// Of the handler's text so much is kept.
const TEXT_LIMIT: u64 = 16 << 20;

/// How a victim ended and what was left of it.
#[derive(Clone, Debug)]
pub struct Death {
    /// As `waitpid` says; nothing if it had to be killed.
    pub status: Option<i32>,
    /// Everything on standard error.
    pub text: String,
    /// What the victim knew, one for each thread that began a chain.
    pub truths: Vec<Truth>,
    /// What was mapped.
    pub layout: Layout,
    /// From start to end.
    pub took: Duration,
    /// What our own handler left.
    pub records: Vec<Left>,
    /// Where it ran; reports lie here.
    pub directory: PathBuf,
}

impl Death {
    /// The status that matters: that of the child whose death the scene is about, else the victim's own.
    pub fn fate(&self) -> Option<i32> {
        let inner = self.truths.iter().find_map(|t| t.inner);
        self.status.map(|own| inner.unwrap_or(own) & !0x80)
    }

    /// Takes away what it left. What stays is no harm.
    pub fn tidy(&self) {
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Whether the scene could not be set up: this machine does not allow it, or this program is not linked for it.
    pub fn is_unable(&self) -> bool {
        self.truths.iter().any(|t| t.unable != 0)
    }

    /// What the handler's report is worth.
    pub fn trace(&self, contender: Contender, victim: &Victim) -> Trace {
        let traces = match contender {
            Contender::Ours if !self.records.is_empty() => {
                self.records.iter().map(|left| left.frames.clone()).collect()
            }
            _ => said::traces(contender, &self.text),
        };
        judge::best(&traces, &self.truths, victim, &self.layout)
    }

    /// The registers that our own handler reports: general ones in the order of DWARF's numbers, then the pc.
    pub fn registers(&self) -> Option<[u64; 17]> {
        match self.records.as_slice() {
            [] => said::registers(&self.text),
            records => records.iter().find_map(|left| left.registers),
        }
    }

    /// Whether they are those that the victim had. Nothing where the victim did not know them.
    pub fn registers_are_right(&self) -> Option<bool> {
        let reported = self.registers();
        let is = |(general, pc): ([u64; 16], u64)| reported.is_some_and(|r| r.iter().eq(general.iter().chain([&pc])));
        let known: Vec<_> = self.truths.iter().filter_map(|t| t.registers.zip(t.pc)).collect();
        (!known.is_empty()).then(|| known.into_iter().any(is))
    }
}

/// A victim that can be started now.
#[derive(Debug)]
pub struct Ready {
    /// What starts it.
    pub command: Command,
    /// Where it will run.
    pub directory: PathBuf,
    /// Its program.
    pub path: PathBuf,
}

/// Runs `scene` under `contender` in a fresh directory.
pub fn run(victim: &Victim, scene: &Scene, contender: Contender) -> Result<Death> {
    let Ready { mut command, directory, path } = ready(victim, scene, contender, scene.name)?;
    let began = Instant::now();
    let mut child = spawn(&mut command).map_err(|e| Error::system(path.display(), e))?;
    let reader = reader(&mut child);
    if scene.outside == Outside::Signal {
        signal_when_armed(&child, &directory.join("truth"), began);
    }
    bury(child, reader, began, directory, &path)
}

/// Starts it. A copy of a program is busy as long as a child that was forked meanwhile has it open for writing.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..200 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            started => return started,
        }
    }
    command.spawn()
}

/// Lays out a directory of this name and an empty truth.
pub fn ready(victim: &Victim, scene: &Scene, contender: Contender, name: &str) -> Result<Ready> {
    let directory = fresh_directory(name, contender)?;
    let truth = directory.join("truth");
    truth::prepare(&truth)?;
    let mut path = victim.path.clone();
    if scene.outside == Outside::Copied {
        path = directory.join("victim");
        fs::copy(&victim.path, &path).map_err(|e| Error::system(path.display(), e))?;
    }
    let mut command = Command::new(&path);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.env("CRASH_SCENE", scene.name).env("CRASH_CONTENDER", contender.name());
    command.env("CRASH_TRUTH", truth).env("CRASH_LIBRARIES", LIBRARIES);
    command.env("RUST_BACKTRACE", contender.rust_backtrace()).env("SURESTACK_DIR", directory.join("reports"));
    if let Outside::Preloaded(library) = scene.outside {
        command.env("LD_PRELOAD", Path::new(LIBRARIES).join(library));
    }
    command.current_dir(&directory).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(Ready { command, directory, path })
}

/// Takes what the victim says, so that it does not wait for anybody to read it.
pub fn reader(child: &mut Child) -> Option<JoinHandle<String>> {
    let pipe = child.stderr.take()?;
    Some(thread::spawn(move || {
        let mut text = Vec::new();
        let mut kept = pipe.take(TEXT_LIMIT);
        // A victim may be killed in the middle of a word; what came is what there is.
        let _ = kept.read_to_end(&mut text);
        let _ = io::copy(&mut kept.into_inner(), &mut io::sink());
        String::from_utf8_lossy(&text).into_owned()
    }))
}

/// Waits for the end of a victim, or puts one to it, and gathers what it left.
pub fn bury(
    mut child: Child,
    reader: Option<JoinHandle<String>>,
    began: Instant,
    directory: PathBuf,
    path: &Path,
) -> Result<Death> {
    let status = wait(&mut child, began);
    let took = began.elapsed();
    // Whatever it started, and itself if it hangs, in the group that it leads.
    // SAFETY: a plain system call on a group that the child made.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
    let _ = child.wait();
    let text = reader.and_then(|r| r.join().ok()).unwrap_or_default();
    let truths = truth::read(&directory.join("truth"))?;
    let layout = Layout::read(&directory.join("truth.maps"), path);
    let records = record::all(&directory.join("reports"));
    Ok(Death { status, text, truths, layout, took, records, directory })
}

fn fresh_directory(name: &str, contender: Contender) -> Result<PathBuf> {
    let base = std::env::temp_dir().join("surestack-crash").join(std::process::id().to_string());
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let directory = base.join(format!("{name}-{}-{run}", contender.name()));
    // One of an earlier process of the same number; it is seldom there. What matters is that the next call succeeds.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("reports")).map_err(|e| Error::system(directory.display(), e))?;
    Ok(directory)
}

fn signal_when_armed(child: &Child, truth: &Path, began: Instant) {
    while began.elapsed() < LIMIT / 4 {
        thread::sleep(Duration::from_millis(5));
        if truth::read(truth).is_ok_and(|truths| truths.iter().any(|t| t.armed)) {
            // It arms itself right before it begins to wait.
            thread::sleep(Duration::from_millis(50));
            // SAFETY: a plain system call on a child that was not yet waited for.
            unsafe { libc::kill(child.id() as i32, libc::SIGSEGV) };
            return;
        }
    }
}

fn wait(child: &mut Child, began: Instant) -> Option<i32> {
    while began.elapsed() < LIMIT {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.into_raw()),
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
    None
}
