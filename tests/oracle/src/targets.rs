//! The programs that are stepped, and how far.

use crate::error::Result;
use crate::measure::Plan;
use crate::programs;
use crate::session::Begin;
use std::fs::File;
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
        let Budget { every, max_steps } = budget;
        Some(Plan { begin: self.begin, every, max_steps, inject: self.inject })
    }

    /// The command that runs it, in a directory of its own with an environment that is always the same.
    pub fn command(&self) -> Result<Command> {
        let mut command = match self.program {
            Program::Installed(path) => Command::new(path),
            Program::Ours(source, flags) => Command::new(programs::build(source, self.name, flags)?),
            Program::GccHelper(name) => {
                let asked = Command::new("gcc").arg(format!("-print-prog-name={name}")).output();
                let path = asked.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
                Command::new(path.unwrap_or_else(|_| name.to_owned()))
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

const fn at_most(every: u64, max_steps: u64) -> Option<Budget> {
    Some(Budget { every, max_steps })
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

const fn ours(name: &'static str, source: &'static str, flags: &'static [&'static str]) -> Target {
    Target { program: Program::Ours(source, flags), begin: Begin::Kernel, ..installed(name, "", &[]) }
}

const fn gcc_helper(name: &'static str, helper: &'static str, arguments: &'static [&'static str]) -> Target {
    Target { program: Program::GccHelper(helper), ..installed(name, "", arguments) }
}

const K: u64 = 1000;
const M: u64 = 1000 * K;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { begin: Begin::Kernel, short: at_most(10, 150 * K), full: at_most(4, M), ..installed("true", "/usr/bin/true", &[]) },
    Target {
        begin: Begin::Kernel,
        short: at_most(50, 300 * K),
        full: at_most(10, M),
        ..installed("ls", "/usr/bin/ls", &["-l", "--color=always", "/etc/apt"])
    },
    Target { short: at_most(50, 200 * K), full: at_most(10, M), ..installed("sort", "/usr/bin/sort", &["-n", "-k2", "words.txt"]) },
    Target {
        short: at_most(50, 150 * K),
        full: at_most(10, M),
        ..installed("mawk", "/usr/bin/mawk", &["{ s[$5] += $1; gsub(/a/, \"b\") } END { for (k in s) printf \"%s %d\\n\", k, s[k] }", "words.txt"])
    },
    Target { short: at_most(50, 150 * K), full: at_most(10, M), ..installed("gzip", "/usr/bin/gzip", &["-9", "-c", "words.txt"]) },
    Target { short: at_most(50, 150 * K), full: at_most(10, M), ..installed("grep", "/usr/bin/grep", &["-nE", "(0[1-9])+.*(alpha|beta)$", "words.txt"]) },
    Target {
        inject: Some((libc::SIGUSR1, 997)),
        short: at_most(50, 150 * K),
        full: at_most(10, M),
        ..installed("dash", "/usr/bin/dash", &["script.sh"])
    },
    Target { input: "script.sql", full: at_most(10, 2 * M), ..installed("sqlite3", "/usr/bin/sqlite3", &["-batch", ":memory:"]) },
    Target { full: at_most(10, 2 * M), ..installed("perl", "/usr/bin/perl", &["script.pl"]) },
    Target { full: at_most(20, 4 * M), ..installed("python3", "/usr/bin/python3", &["-S", "-E", "script.py"]) },
    Target { full: at_most(20, 2 * M), ..installed("openssl-sha1", "/usr/bin/openssl", &["dgst", "-sha1", "words.txt"]) },
    Target { full: at_most(20, 2 * M), ..installed("openssl-aes", "/usr/bin/openssl", &["enc", "-aes-256-cbc", "-pbkdf2", "-iter", "20", "-k", "secret", "-in", "words.txt"]) },
    Target { full: at_most(20, 3 * M), ..installed("openssl-ec", "/usr/bin/openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]) },
    Target { full: at_most(20, 3 * M), ..gcc_helper("cc1", "cc1", &["-quiet", "-O2", "small.c", "-o", "small.s"]) },
    Target { full: at_most(20, 3 * M), ..gcc_helper("cc1plus", "cc1plus", &["-quiet", "-O1", "small.cc", "-o", "small.s"]) },
    Target { short: at_most(20, 400 * K), full: at_most(5, M), ..ours("frames", "frames.c", &["-O2"]) },
    Target { full: at_most(5, M), ..ours("frames-O0", "frames.c", &["-O0"]) },
    Target { short: at_most(20, 400 * K), full: at_most(5, M), ..ours("signals", "signals.c", &["-O2"]) },
    Target {
        arguments: &["150"],
        inject: Some((libc::SIGUSR1, 211)),
        short: at_most(50, 400 * K),
        full: at_most(5, M),
        ..ours("signals-injected", "signals.c", &["-O2"])
    },
    Target { short: at_most(20, 400 * K), full: at_most(5, M), ..ours("jumps", "jumps.c", &["-O2"]) },
    Target { begin: Begin::Entry, short: at_most(20, 300 * K), full: at_most(5, M), ..ours("throws", "throws.cc", &["-O2"]) },
    Target { short: at_most(20, 400 * K), full: at_most(5, M), ..ours("threads", "threads.c", &["-O2"]) },
    Target { short: at_most(20, 300 * K), full: at_most(5, M), ..ours("panics", "panics.rs", &[]) },
];
