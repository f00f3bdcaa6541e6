//! The programs that are stepped, and how far.

use crate::error::{Error, Result};
use crate::measure::Plan;
use crate::programs;
use crate::session::Begin;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Which targets to run, and how far each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// About a minute: for CI.
    Short,
    /// The numbers to publish.
    Full,
}

/// How much of a target is sampled: every Nth instruction, at most so many instructions.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    every: u64,
    peers_every: u64,
    max_steps: u64,
}

/// Where a target's program comes from.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// Installed on the system.
    Installed(&'static str),
    /// Built from this source among ours, with these flags.
    Ours(&'static str, &'static [&'static str]),
    /// gcc's own helper of this name.
    GccHelper(&'static str),
    /// A program of the Rust toolchain itself; the one on the path only starts it.
    RustTool(&'static str),
}

/// One program to step.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in the tables; unique.
    pub name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
    input: &'static str,
    begin: Begin,
    inject: Option<(i32, u64)>,
    short: Option<Budget>,
    full: Option<Budget>,
}

impl Target {
    /// How it is sampled in `set`, if it belongs to it.
    pub fn plan(&self, set: Set) -> Option<Plan> {
        let budget = match set {
            Set::Short => self.short,
            Set::Full => self.full,
        }?;
        let Budget { every, peers_every, max_steps } = budget;
        Some(Plan { begin: self.begin, every, peers_every, max_steps, inject: self.inject })
    }

    /// The command that runs it, in a directory of its own with an environment that is always the same.
    pub fn command(&self) -> Result<Command> {
        let mut command = match self.program {
            Program::Installed(path) => Command::new(path),
            Program::Ours(source, flags) => Command::new(programs::build(source, self.name, flags)?),
            Program::GccHelper(name) => Command::new(said_by("gcc", &format!("-print-prog-name={name}"))?),
            Program::RustTool(name) => {
                Command::new(Path::new(&said_by("rustc", "--print=sysroot")?).join("bin").join(name))
            }
        };
        let directory = programs::workplace(self.name)?;
        let stdin = File::open(directory.join(self.input)).map_or_else(|_| Stdio::null(), Stdio::from);
        command.args(self.arguments).current_dir(directory).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("PERL_HASH_SEED", "0"),
            ("PYTHONHASHSEED", "0"),
        ]);
        Ok(command)
    }
}

/// What a compiler says when it is asked where something is.
fn said_by(compiler: &str, question: &str) -> Result<String> {
    let output = Command::new(compiler).arg(question).output();
    let output = output.map_err(|e| Error::system(format!("cannot run {compiler}"), e))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

const fn installed(name: &'static str, path: &'static str, arguments: &'static [&'static str]) -> Target {
    Target {
        name,
        program: Program::Installed(path),
        arguments,
        input: "",
        begin: Begin::Entry,
        inject: None,
        short: None,
        full: None,
    }
}

const fn gcc_helper(name: &'static str, arguments: &'static [&'static str]) -> Target {
    let target = installed(name, "", arguments);
    Target { program: Program::GccHelper(name), ..target }
}

const fn rust_tool(name: &'static str, arguments: &'static [&'static str]) -> Target {
    let target = installed(name, "", arguments);
    Target { program: Program::RustTool(name), ..target }
}

const fn ours(name: &'static str, source: &'static str, flags: &'static [&'static str]) -> Target {
    let target = installed(name, "", &[]);
    Target { program: Program::Ours(source, flags), ..target }
}

impl Target {
    const fn since_exec(self) -> Target {
        Target { begin: Begin::Kernel, ..self }
    }

    const fn reading(self, input: &'static str) -> Target {
        Target { input, ..self }
    }

    const fn given(self, arguments: &'static [&'static str]) -> Target {
        Target { arguments, ..self }
    }

    const fn signalled(self, signal: i32, every: u64) -> Target {
        Target { inject: Some((signal, every)), ..self }
    }

    const fn short(self, every: u64, max_steps: u64) -> Target {
        Target { short: Some(Budget { every, peers_every: 1, max_steps }), ..self }
    }

    const fn full(self, max_steps: u64) -> Target {
        Target { full: Some(Budget { every: 12, peers_every: 4, max_steps }), ..self }
    }
}

const K: u64 = 1000;
const M: u64 = 1000 * K;

/// All targets: `short` says how each is sampled (every Nth instruction) and both how far it runs (so many instructions).
#[rustfmt::skip] // One line for each target.
pub const TARGETS: &[Target] = &[
    installed("true", "/usr/bin/true", &[]).since_exec().short(20, 150 * K).full(M),
    installed("ls", "/usr/bin/ls", &["-l", "--color=always", "/etc/apt"]).since_exec().short(50, 200 * K).full(M),
    installed("sort", "/usr/bin/sort", &["-n", "-k2", "words.txt"]).short(50, 150 * K).full(M),
    installed("mawk", "/usr/bin/mawk", &["{ s[$5] += $1; gsub(/a/, \"b\") } END { for (k in s) print k, s[k] }", "words.txt"]).short(50, 150 * K).full(M),
    installed("gzip", "/usr/bin/gzip", &["-9", "-c", "words.txt"]).short(50, 100 * K).full(M),
    installed("grep", "/usr/bin/grep", &["-nE", "(0[1-9])+.*(alpha|beta)$", "words.txt"]).short(50, 150 * K).full(M),
    installed("dash", "/usr/bin/dash", &["script.sh"]).signalled(libc::SIGUSR1, 997).short(50, 150 * K).full(M),
    installed("sqlite3", "/usr/bin/sqlite3", &["-batch", ":memory:"]).reading("script.sql").full(2 * M),
    installed("perl", "/usr/bin/perl", &["script.pl"]).full(1500 * K),
    installed("python3", "/usr/bin/python3", &["-S", "-E", "script.py"]).full(2 * M),
    installed("openssl", "/usr/bin/openssl", &["dgst", "-sha1", "words.txt"]).full(1500 * K),
    ours("openssl-assembly", "crypto.c", &["-O2", "-l:libcrypto.so.3"]).full(2 * M),
    gcc_helper("cc1", &["-quiet", "-O2", "small.c", "-o", "small.s"]).full(3 * M),
    gcc_helper("cc1plus", &["-quiet", "-O1", "small.cc", "-o", "small.s"]).full(1500 * K),
    installed("clang", "/usr/bin/clang", &["-cc1", "-O1", "-emit-obj", "-x", "c", "small.c", "-o", "small.o"]).full(1500 * K),
    installed("gdb", "/usr/bin/gdb", &["-nx", "-batch", "-ex", "info line main", "/usr/bin/true"]).full(1500 * K),
    installed("vim", "/usr/bin/vim", &["-es", "-u", "NONE", "+%s/alpha/beta/g", "+sort", "+q!", "words.txt"]).full(1500 * K),
    installed("bash", "/usr/bin/bash", &["script.sh"]).full(1500 * K),
    installed("node", "/usr/bin/node", &["-v"]).full(1500 * K),
    installed("git", "/usr/bin/git", &["init"]).full(M),
    installed("ld", "/usr/bin/ld", &["--version"]).full(M),
    installed("as", "/usr/bin/as", &["-o", "small.o", "small.s"]).full(800 * K),
    installed("objdump", "/usr/bin/objdump", &["-d", "-j", ".init", "/usr/bin/true"]).full(800 * K),
    installed("readelf", "/usr/bin/readelf", &["-lW", "/usr/bin/true"]).since_exec().full(400 * K),
    installed("gcc", "/usr/bin/gcc", &["-###", "-O2", "small.c"]).since_exec().full(800 * K),
    installed("make", "/usr/bin/make", &["-n", "-f", "rules.mk"]).since_exec().full(800 * K),
    installed("tar", "/usr/bin/tar", &["-cf", "all.tar", "words.txt", "small.c"]).since_exec().full(400 * K),
    installed("find", "/usr/bin/find", &["/etc/apt", "-name", "*.list", "-size", "-9k"]).full(400 * K),
    installed("diff", "/usr/bin/diff", &["-u", "words.txt", "script.sh"]).since_exec().full(400 * K),
    installed("sed", "/usr/bin/sed", &["-E", "s/([0-9]+) (alpha|omega)$/\\2:\\1/;5,9d;$!N", "words.txt"]).since_exec().full(400 * K),
    installed("bc", "/usr/bin/bc", &["-l", "script.bc"]).full(400 * K),
    installed("file", "/usr/bin/file", &["words.txt"]).since_exec().full(400 * K),
    installed("zstd", "/usr/bin/zstd", &["-q", "-c", "words.txt"]).since_exec().full(400 * K),
    installed("curl", "/usr/bin/curl", &["-q", "-s", "file:///etc/hostname"]).full(800 * K),
    installed("date", "/usr/bin/date", &["-d", "2020-02-29 + 3 months", "+%c %j"]).since_exec().full(400 * K),
    rust_tool("rustfmt", &["--check", "small.rs"]).full(1500 * K),
    rust_tool("rustdoc", &["--version"]).full(800 * K),
    rust_tool("cargo", &["--version"]).full(800 * K),
    installed("nginx", "/usr/sbin/nginx", &["-V"]).since_exec().full(800 * K),
    installed("redis", "/usr/bin/redis-server", &["--version"]).since_exec().full(800 * K),
    installed("lldb", "/usr/bin/lldb", &["--version"]).full(M),
    installed("lld", "/usr/bin/ld.lld", &["--version"]).full(800 * K),
    installed("llc", "/usr/bin/llc-14", &["-O1", "small.ll", "-o", "small.out"]).full(1500 * K),
    installed("xz", "/usr/bin/xz", &["-c", "words.txt"]).since_exec().full(800 * K),
    installed("eu-readelf", "/usr/bin/eu-readelf", &["-hld", "/usr/bin/true"]).since_exec().full(800 * K),
    installed("tclsh", "/usr/bin/tclsh", &["script.tcl"]).since_exec().full(1200 * K),
    installed("jq", "/usr/bin/jq", &["-c", "[.[] | select(.a > 1) | {b, c: (.a * 2 | tostring)}] | sort_by(.b)", "words.json"]).since_exec().full(1200 * K),
    installed("gpg", "/usr/bin/gpg", &["--version"]).since_exec().full(800 * K),
    installed("apt-cache", "/usr/bin/apt-cache", &["--version"]).since_exec().full(M),
    installed("dpkg-deb", "/usr/bin/dpkg-deb", &["--version"]).since_exec().full(400 * K),
    installed("troff", "/usr/bin/troff", &["-Tascii", "small.c"]).since_exec().full(M),
    installed("strace", "/usr/bin/strace", &["-V"]).since_exec().full(400 * K),
    installed("patch", "/usr/bin/patch", &["--dry-run", "words.txt", "empty.txt"]).since_exec().full(400 * K),
    ours("frames", "frames.c", &["-O2"]).since_exec().short(20, 400 * K).full(M),
    ours("frames-O0", "frames.c", &["-O0"]).since_exec().full(M),
    ours("signals", "signals.c", &["-O2"]).since_exec().short(20, 400 * K).full(M),
    ours("signals-injected", "signals.c", &["-O2"]).given(&["150"]).since_exec().signalled(libc::SIGUSR1, 211).short(50, 400 * K).full(M),
    ours("jumps", "jumps.c", &["-O2"]).since_exec().short(20, 400 * K).full(M),
    ours("throws", "throws.cc", &["-O2"]).short(20, 300 * K),
    ours("throws-at-work", "throws.cc", &["-O2"]).given(&["1", "20"]).since_exec().full(4 * M),
    ours("threads", "threads.c", &["-O2"]).since_exec().short(20, 400 * K).full(M),
    ours("panics", "panics.rs", &[]).since_exec().short(20, 350 * K),
    ours("panics-at-work", "panics.rs", &[]).given(&["1", "180"]).since_exec().full(3 * M),
];
