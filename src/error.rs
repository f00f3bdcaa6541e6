//! Why a target or a file cannot be read at all. What can be read in part is a snapshot with gaps, not an error.

mod refusal;

use std::io;
use std::path::PathBuf;

pub use refusal::Refusal;

/// Why something cannot be read, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to open or read a file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no core file of a kind that can be read.
    #[error("{} is not a core file: {why}; give the file the kernel wrote for the crash (`coredumpctl dump` extracts it)", path.display())]
    NotCore {
        /// The file.
        path: PathBuf,
        /// What it is instead, or what is missing.
        why: String,
    },
    /// The file is no record of a kind that can be read.
    #[error("{} is not a record: {why}; give the file that a handler of ours left (`NAME.surestack`)", path.display())]
    NotRecord {
        /// The file.
        path: PathBuf,
        /// What it is instead, or what is missing.
        why: String,
    },
    /// The file is no flight recorder of a kind that can be read.
    #[error("{} is not a flight recorder: {why}; give the file that the program's `recorder::start` made, or `--pid`", path.display())]
    NotRecorder {
        /// The file.
        path: PathBuf,
        /// What it is instead, or what is wrong with it.
        why: String,
    },
    /// The bytes are no ELF file of a kind that can be read.
    #[error("{what} is not a usable ELF file: {why}")]
    NotElf {
        /// The file, or where in the target's memory the bytes were.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not the file that is mapped lies at its path.
    #[error("{} is not the file that is mapped: {}, and what is mapped has {wanted}; was it replaced?", path.display(), identified(found.as_deref()))]
    OtherFile {
        /// The path.
        path: PathBuf,
        /// Build ID of what is mapped.
        wanted: String,
        /// That of the file.
        found: Option<String>,
    },
    /// A compressed file that does not decompress.
    #[error("{} does not decompress: {why}; is the file complete?", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// What the decompressor says.
        why: String,
    },
    /// A process that cannot be looked at.
    #[error("process {pid}: {what}: {source}; reading a process needs its owner's rights and ptrace permission")]
    Process {
        /// Its id.
        pid: u32,
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A process that cannot be stopped.
    #[error("process {pid} cannot be stopped: {why}")]
    Held {
        /// Its id.
        pid: u32,
        /// Why not.
        why: Refusal,
    },
    /// Our own threads cannot be held or judged.
    #[error("this process cannot check itself: {why}")]
    Ourselves {
        /// Why not.
        why: String,
    },
    /// The thread that was asked for is not there.
    #[error("there is no thread {id}; there are {}", list(known))]
    NoThread {
        /// The id that was asked for.
        id: u32,
        /// Those there are.
        known: Vec<u32>,
    },
    /// A function that the user named is not there.
    #[error("no symbol table has `{name}`; give its address instead")]
    NoSymbol {
        /// The name.
        name: String,
    },
    /// A line that names no target.
    #[error("`{target}` is no target: {why}; write a function's name, FILE:name, 0xLO-0xHI or buildid:HEX:0xLO-0xHI")]
    BadTarget {
        /// What was written.
        target: String,
        /// What is wrong with it.
        why: String,
    },
    /// No function has the name that was given.
    #[error("no function is called `{name}`{}", near_misses(near))]
    NoFunction {
        /// The name.
        name: String,
        /// Names that are almost the same.
        near: Vec<String>,
    },
    /// Several functions have the name that was given.
    #[error("{} functions are called `{name}`: {}; write FILE:{name}, or `{name} all`", found.len(), found.join(", "))]
    SeveralFunctions {
        /// The name.
        name: String,
        /// Where they are.
        found: Vec<String>,
    },
    /// The report cannot be written.
    #[error("cannot write the report: {0}")]
    Write(#[from] io::Error),
}

fn identified(build_id: Option<&str>) -> String {
    build_id.map_or_else(|| "it has no build ID".to_owned(), |id| format!("its build ID is {id}"))
}

fn near_misses(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}

/// The first of these ids, and how many more there are.
fn list(ids: &[u32]) -> String {
    const LISTED: usize = 16;
    let shown: Vec<_> = ids.iter().take(LISTED).map(u32::to_string).collect();
    match ids.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Error {
    /// Whether something was asked for that is not there, rather than the target being unreadable.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoThread { .. }
                | Self::NoSymbol { .. }
                | Self::BadTarget { .. }
                | Self::NoFunction { .. }
                | Self::SeveralFunctions { .. }
        )
    }

    /// Whether the input is not a core file at all, rather than a core file that could not be read.
    pub fn is_not_a_core(&self) -> bool {
        matches!(self, Self::NotCore { .. } | Self::Compressed { .. })
    }
}
