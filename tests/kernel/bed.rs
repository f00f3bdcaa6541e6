//! Real probes of the kernel, and programs to plant them in.
#![allow(dead_code, reason = "the tests and the table of scenes each use their part")]

use object::{Object, ObjectSegment, ObjectSymbol};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How a program keeps its frames.
pub const BUILDS: [(&str, &str); 2] = [("fp", "-fno-omit-frame-pointer"), ("no-fp", "-fomit-frame-pointer")];

/// A built program.
pub struct Program {
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl Program {
    /// `tests/kernel/stack.c`, with frame pointers or without.
    pub fn build((name, flag): (&str, &str)) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel").join(name);
        fs::create_dir_all(&folder).expect("a folder under target/");
        let path = folder.join(format!("stack-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/stack.c");
        if !path.exists() {
            let built = path.with_extension(format!("{:?}", std::thread::current().id()));
            let gcc = Command::new("gcc").args(["-O1", "-g", "-no-pie", flag, "-o"]).arg(&built).arg(&source).status();
            assert!(gcc.expect("gcc is installed").success());
            fs::rename(&built, &path).expect("it was just built");
        }
        let bytes = fs::read(&path).expect("it was just built");
        Self { path, bytes }
    }

    fn elf(&self) -> object::File<'_> {
        object::File::parse(&*self.bytes).expect("an ELF file")
    }

    /// Address and size of a function.
    pub fn function(&self, name: &str) -> (u64, u64) {
        let elf = self.elf();
        let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap_or_else(|| panic!("no {name}"));
        (symbol.address(), symbol.size())
    }

    /// The function that covers an address.
    pub fn named(&self, address: u64) -> Option<String> {
        let elf = self.elf();
        let covers = |symbol: &object::Symbol<'_, '_>| address.wrapping_sub(symbol.address()) < symbol.size();
        elf.symbols().find(covers).and_then(|symbol| Some(symbol.name().ok()?.to_owned()))
    }

    /// Whether it has a function of this name.
    pub fn defines(&self, name: &str) -> bool {
        self.elf().symbols().any(|symbol| symbol.name() == Ok(name) && symbol.size() > 0)
    }

    fn offset(&self, address: u64) -> u64 {
        let elf = self.elf();
        let inside = |part: &object::Segment<'_, '_>| address.wrapping_sub(part.address()) < part.size();
        let segment = elf.segments().find(inside).expect("a mapped address");
        address - segment.address() + segment.file_range().0
    }

    /// Where the instructions of a function begin.
    pub fn instructions(&self, start: u64, size: u64) -> Vec<u64> {
        let from = usize::try_from(self.offset(start)).expect("in the file");
        let code = &self.bytes[from..from + usize::try_from(size).expect("in the file")];
        iced_x86::Decoder::with_ip(64, code, start, 0).into_iter().map(|found| found.ip()).collect()
    }

    /// Starts it, with addresses that are the same every time.
    pub fn start(&self, what: &str) -> Running {
        self.begin(&[what], false)
    }

    /// The same, to show what glibc's `backtrace()` says where it would wait.
    pub fn start_to_report(&self, what: &str) -> Running {
        self.begin(&[what, "report"], false)
    }

    /// Starts it traced by this thread: it stops before its first instruction.
    pub fn start_stopped(&self, what: &str) -> Running {
        self.begin(&[what], true)
    }

    fn begin(&self, what: &[&str], traced: bool) -> Running {
        let mut command = Command::new(&self.path);
        command.args(what).stdout(Stdio::piped()).stderr(Stdio::null()).env_clear();
        let prepare = move || {
            // SAFETY: changes only this process's personality.
            let fixed = unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) };
            let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: `unlimited` outlives the call.
            let cores = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &unlimited) };
            // A shell lets what it starts in the background ignore it, and whoever that starts.
            // SAFETY: takes no pointers.
            unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
            // SAFETY: takes no pointers with PTRACE_TRACEME.
            let trace = if traced { unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } } else { 0 };
            if fixed == -1 || cores == -1 || trace == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        let folder = self.path.with_extension(format!("{}-{:?}", what.join("-"), std::thread::current().id()));
        fs::create_dir_all(&folder).expect("a folder under target/");
        command.current_dir(&folder);
        // SAFETY: `prepare` makes system calls alone.
        unsafe { command.pre_exec(prepare) };
        Running { child: command.spawn().expect("it starts"), folder }
    }

    /// Starts it and waits until its innermost function waits.
    pub fn waiting(&self) -> Running {
        self.waiting_in("wait")
    }

    /// The same, for something else that it does.
    pub fn waiting_in(&self, what: &str) -> Running {
        let mut running = self.start(what);
        let mut ready = [0];
        running.child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it says when it is ready");
        while !running.is_asleep() {
            std::thread::yield_now();
        }
        running
    }

    /// Probes the instruction at `address`, or the return of the function that begins there; an error where the kernel
    /// refuses.
    pub fn probe(&self, kind: Kind, address: u64) -> io::Result<Probe> {
        let kind_of_event = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
        let path = std::ffi::CString::new(self.path.as_os_str().as_encoded_bytes()).expect("no zero byte");
        let mut attributes = Attributes {
            kind: kind_of_event.trim().parse().map_err(io::Error::other)?,
            size: 128,
            config: u64::from(kind == Kind::Return),
            config1: path.as_ptr().expose_provenance() as u64,
            config2: self.offset(address),
            ..Attributes::default()
        };
        let (any_process, first_cpu, no_group) = (-1, 0, -1);
        // SAFETY: `attributes` has the size it says, and `path` outlives the call.
        let event = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw mut attributes, any_process, first_cpu, no_group, 0)
        };
        let event = RawFd::try_from(event).ok().filter(|event| *event >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just given it to us.
        Ok(Probe { _event: unsafe { OwnedFd::from_raw_fd(event) } })
    }
}

/// Which probe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A uprobe.
    Entry,
    /// A uretprobe.
    Return,
}

/// A probe, which is there as long as this is.
pub struct Probe {
    _event: OwnedFd,
}

/// `struct perf_event_attr`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    unused: [u64; 5],
    config1: u64,
    config2: u64,
    rest: [u64; 7],
}

/// A running program; killed when this is dropped.
pub struct Running {
    pub child: Child,
    folder: PathBuf,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn is_asleep(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    }

    /// Its core, after it has ended by `signal`, or by itself with 0.
    pub fn core(mut self, signal: i32) -> PathBuf {
        let pid = i32::try_from(self.pid()).expect("a pid");
        if signal != 0 {
            // SAFETY: takes no pointers.
            assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        }
        self.child.wait().expect("it ends");
        let is_core = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"));
        let files = fs::read_dir(&self.folder).expect("its folder").map(|entry| entry.expect("an entry").path());
        let core = files.into_iter().find(is_core).expect("the kernel wrote a core");
        let kept = core.with_file_name(format!("kept-{pid}"));
        fs::rename(core, &kept).expect("it can be renamed");
        kept
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps two tests from probing the same file at once, and whole runs too.
pub fn alone() -> File {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel.lock")).expect("a lock file");
    // SAFETY: the descriptor is open.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
    lock
}
