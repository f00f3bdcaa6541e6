//! What `/proc` says about the thread that is asked about: whether it stands still, and whose it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The flag of the kernel's threads.
const PF_KTHREAD: u64 = 0x0020_0000;
/// A line is shorter: 52 numbers and a name.
const LINE: usize = 2048;

/// A thread. What it was opened for is what it shows: once the thread has ended nobody else takes its place, though its
/// number may be used again.
pub struct Task(File);

/// What a thread is doing, and for which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The letter of its state.
    pub letter: char,
    /// Whether it is a thread of the kernel.
    pub is_kernel: bool,
    /// Where the code of its program begins and ends, and where its initial stack began; zeros when it is not told.
    pub program: [u64; 3],
}

impl State {
    /// Whether somebody keeps it stopped.
    pub fn is_stopped(&self) -> bool {
        matches!(self.letter, 't' | 'T')
    }

    /// Whether it has exited.
    pub fn is_dead(&self) -> bool {
        matches!(self.letter, 'Z' | 'X' | 'x')
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The name may hold anything.
        let after = line.iter().rposition(|&byte| byte == b')')?.checked_add(1)?;
        let rest = std::str::from_utf8(line.get(after..)?).ok()?;
        let mut words = rest.split_ascii_whitespace();
        let letter = words.next()?.chars().next()?;
        let mut number = |skip: usize| words.nth(skip)?.parse::<u64>().ok();
        let (flags, start_code) = (number(5)?, number(16)?);
        let program = [start_code, number(0)?, number(0)?];
        Some(Self { letter, is_kernel: flags & PF_KTHREAD != 0, program })
    }
}

impl Task {
    /// Thread `tid` of process `pid`.
    pub fn open(pid: u32, tid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/task/{tid}/stat")).map(Self)
    }

    /// What it is doing now; an error once it has ended.
    pub fn state(&self) -> io::Result<State> {
        let mut line = [0; LINE];
        let length = self.0.read_at(&mut line, 0)?;
        let line = line.get(..length).unwrap_or_default();
        State::parse(line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let line = b"7 (a) R 1) t 1 7 7 0 -1 2097152 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29";
        let state = State { letter: 't', is_kernel: true, program: [26, 27, 28] };
        assert_eq!(State::parse(line), Some(state));
        assert!(state.is_stopped());
        assert_eq!(State::parse(b"7 (a"), None);
    }

    #[test]
    fn a_thread_that_ended_says_so_and_a_running_one_is_not_stopped() {
        let own = Task::open(std::process::id(), std::process::id()).unwrap().state().unwrap();
        assert!(!own.is_kernel && own.program[0] != 0, "{own:?}");
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let task = Task::open(child.id(), child.id()).unwrap();
        child.wait().unwrap();
        assert!(task.state().is_err());
    }
}
