//! What runs at signal time: the system calls, seen by strace, and the library calls that must not happen, seen by a
//! preloaded library that stands before them.

use crate::contender::Contender;
use crate::run::{self, Ready};
use crate::scenes::Scene;
use crate::victim::Victim;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use surestack_oracle::error::{Error, Result};

/// Calls made in the thread that dies, after its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Into the allocator.
    pub allocator: u64,
    /// For a lock.
    pub locks: u64,
    /// Of `__tls_get_addr`.
    pub thread_locals: u64,
}

/// Runs `scene` and counts. Nothing where the victim does not know the moment of its fault to the instruction.
pub fn library(victim: &Victim, scene: &Scene, contender: Contender) -> Result<Option<Calls>> {
    let Ready { mut command, directory, path } =
        run::ready(victim, scene, contender, &format!("{}-count", scene.name))?;
    command.env("LD_PRELOAD", Path::new(run::LIBRARIES).join("count.so"));
    let began = std::time::Instant::now();
    let mut child = command.spawn().map_err(|e| Error::system(path.display(), e))?;
    let reader = run::reader(&mut child);
    let death = run::bury(child, reader, began, directory, &path)?;
    death.tidy();
    let truth = death.truths.iter().find(|t| t.pc.is_some() && t.armed);
    Ok(truth.map(|t| {
        let [allocator, locks, thread_locals] = t.calls;
        Calls { allocator, locks, thread_locals }
    }))
}

/// Runs `scene` under strace; the names of the system calls that each thread made between the arrival of a signal and its
/// return or end.
pub fn system(victim: &Victim, scene: &Scene, contender: Contender) -> Result<BTreeSet<String>> {
    let Ready { command, directory, path } = run::ready(victim, scene, contender, &format!("{}-strace", scene.name))?;
    let log = directory.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&log).arg(&path).current_dir(&directory).env_clear();
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = strace.stdin(Stdio::null()).output().map_err(|e| Error::system("cannot run strace", e))?;
    let text = fs::read_to_string(&log).map_err(|e| Error::system(log.display(), e))?;
    let calls = handled(&text);
    // What stays is no harm.
    let _ = fs::remove_dir_all(&directory);
    if calls.is_empty() {
        return Err(Error::new(format!("no signal came: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(calls)
}

fn handled(log: &str) -> BTreeSet<String> {
    let (mut depths, mut names) = (BTreeMap::<&str, usize>::new(), BTreeSet::new());
    for line in log.lines() {
        let Some((tid, what)) = line.split_once(' ') else { continue };
        let (depth, what) = (depths.entry(tid).or_default(), what.trim_start());
        // Nobody handles the death of a child.
        if what.starts_with("--- SIG") && !what.starts_with("--- SIGCHLD") {
            *depth += 1;
        } else if *depth > 0 && !what.starts_with("<... ") && !what.starts_with("+++") {
            if let Some((name, _)) = what.split_once('(') {
                names.insert(name.to_owned());
            }
            if what.starts_with("rt_sigreturn") {
                *depth -= 1;
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::handled;

    #[test]
    fn only_calls_between_a_signal_and_its_return_count() {
        let log = "7  read(0, \"\", 1) = 0\n7  --- SIGSEGV {si_signo=SIGSEGV} ---\n8  close(3) = 0\n7  write(2, \"x\", 1) = 1\n\
            8  --- SIGRT_5 {} ---\n8  gettid( <unfinished ...>\n7  rt_sigreturn({mask=[]}) = 0\n7  brk(NULL) = 0\n\
            8  <... gettid resumed>) = 8\n7  --- SIGSEGV {} ---\n7  +++ killed by SIGSEGV +++\n";
        assert_eq!(handled(log).into_iter().collect::<Vec<_>>(), ["gettid", "rt_sigreturn", "write"]);
    }
}
