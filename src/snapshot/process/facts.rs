//! What `/proc` says about a task without the rights of ptrace.

use std::io;

/// The flag of kernel threads in `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Facts about one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its name; what is not UTF-8 is replaced.
    pub name: String,
    /// The letter of its state: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`.
    pub state: char,
    /// The process it is a thread of.
    pub process: u32,
    /// Who traces it; 0 for nobody.
    pub tracer: u32,
    /// Real, effective, saved user.
    pub users: [u32; 3],
    /// Whether it is a thread of the kernel.
    pub is_kernel: bool,
}

impl Facts {
    /// Of the task with this id.
    pub fn of(id: u32) -> io::Result<Self> {
        let status = std::fs::read(format!("/proc/{id}/status"))?;
        let stat = std::fs::read(format!("/proc/{id}/stat"))?;
        Ok(Self { is_kernel: flags(&stat).is_some_and(|flags| flags & PF_KTHREAD != 0), ..Self::parse(&status) })
    }

    fn parse(status: &[u8]) -> Self {
        let text = String::from_utf8_lossy(status);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim()
        };
        let number = |name: &str| field(name).parse().unwrap_or_default();
        let mut users = field("Uid").split_ascii_whitespace().map(|user| user.parse().unwrap_or_default());
        Self {
            name: field("Name").to_owned(),
            state: field("State").chars().next().unwrap_or('?'),
            process: number("Tgid"),
            tracer: number("TracerPid"),
            users: [(); 3].map(|()| users.next().unwrap_or_default()),
            is_kernel: false,
        }
    }

    /// Whether nothing of it will run again.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Its state in words, with the place in the kernel where it sleeps, if that is told.
    pub fn doing(&self, id: u32) -> String {
        let word = match self.state {
            'R' => "running",
            'S' => "sleeping",
            'D' => "in uninterruptible sleep",
            'T' => "stopped",
            't' => "traced",
            'Z' | 'X' | 'x' => "dead",
            'I' => "idle",
            _ => "in an unknown state",
        };
        let place = std::fs::read_to_string(format!("/proc/{id}/wchan")).unwrap_or_default();
        match place.trim() {
            "" | "0" => word.to_owned(),
            place => format!("{word} in {place}"),
        }
    }
}

/// The flags in `/proc/PID/stat`, which stand behind a name that may hold anything.
fn flags(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|&byte| byte == b')')?.checked_add(1)?;
    let rest = std::str::from_utf8(stat.get(after..)?).ok()?;
    rest.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// The threads of a process, ascending.
pub(super) fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    let mut ids: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_line_ends_hides_nothing() {
        assert_eq!(flags(b"12 (a) b) c) S 1 12 12 0 -1 2129984 0 0"), Some(2_129_984));
        assert_eq!(flags(b"12 (a"), None);
        let facts =
            Facts::parse(b"Name:\ta\\nTgid: 7\nState:\tD (disk sleep)\nTgid:\t12\nTracerPid:\t3\nUid:\t1\t2\t3\t4\n");
        let users = [1, 2, 3];
        let name = "a\\nTgid: 7".to_owned();
        assert_eq!(facts, Facts { name, state: 'D', process: 12, tracer: 3, users, is_kernel: false });
    }
}
