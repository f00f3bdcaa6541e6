//! What a handler is to do, before it is installed.

use super::environment::Detail;
use super::error::InstallError;
use super::guard::{self, Guard};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use surestack_capture::{Chain, Threads};

/// Which threads get an alternate stack, without which an overflowed stack cannot be reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlternateStacks {
    /// All there are, and all that are made later with `pthread_create` (feature `threads`).
    #[default]
    EveryThread,
    /// The one that installs.
    This,
    /// None: those that have one keep it.
    None,
}

/// Which program turns the record into text and JSON while the crashed process waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Helper {
    /// None: `surestack report` or `surestack::previous_crash` do so later.
    #[default]
    None,
    /// The `surestack` at this path.
    Path(PathBuf),
}

/// Where the report is printed, besides its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Text {
    /// On standard error, in the length that `RUST_BACKTRACE` asks for.
    #[default]
    Stderr,
    /// Nowhere.
    None,
}

/// What the helper makes of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text as `surestack report` prints it.
    Text,
    /// JSON as `surestack report --json` prints it.
    Json,
}

/// The signals of crashes: what a handler catches if nothing else is said.
pub const FATAL: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// A handler that is not installed yet.
///
/// What is not said has the value written at each method. The environment, which whoever runs the program sets, comes before
/// what the program says here:
///
/// | variable | takes the place of |
/// |---|---|
/// | `SURESTACK_DISABLE=1` | everything: nothing is installed, and the guard guards nothing |
/// | `SURESTACK_DIR` | [`Handler::directory`] |
/// | `SURESTACK_FORMAT`: `text`, `json` or `text,json` | [`Handler::formats`] |
/// | `SURESTACK_BUDGET_MS` | [`Handler::budget`] |
/// | `RUST_BACKTRACE`: `0` or unset, `1`, `full` | how much [`Text::Stderr`] prints: what happened, the crashed thread's frames too, everything |
///
/// It is read once, by [`Handler::install`].
#[derive(Clone, Debug)]
#[must_use = "nothing is installed before `install` is called"]
pub struct Handler {
    pub(super) signals: Vec<i32>,
    pub(super) chain: Chain,
    pub(super) alternate_stacks: AlternateStacks,
    pub(super) directory: Option<PathBuf>,
    pub(super) formats: Vec<Format>,
    pub(super) helper: Helper,
    pub(super) budget: Duration,
    pub(super) threads: Threads,
    pub(super) text: Text,
    pub(super) detail: Detail,
    /// Environment variables that took a setting's place.
    pub(super) variables: Vec<&'static str>,
}

impl Handler {
    /// A handler with everything as it is if nothing else is said.
    pub fn builder() -> Self {
        Self {
            signals: FATAL.to_vec(),
            chain: Chain::default(),
            alternate_stacks: AlternateStacks::default(),
            directory: None,
            formats: vec![Format::Text],
            helper: Helper::default(),
            budget: Duration::from_secs(5),
            threads: Threads::default(),
            text: Text::default(),
            detail: Detail::default(),
            variables: Vec::new(),
        }
    }

    /// The signals to catch; [`FATAL`] if not said.
    pub fn signals(mut self, signals: &[i32]) -> Self {
        self.signals = signals.to_vec();
        self
    }

    /// When the handlers that were there before get their turn; [`Chain::After`] if not said.
    pub fn chain(mut self, chain: Chain) -> Self {
        self.chain = chain;
        self
    }

    /// Who gets an alternate stack; [`AlternateStacks::EveryThread`] if not said.
    pub fn alternate_stacks(mut self, stacks: AlternateStacks) -> Self {
        self.alternate_stacks = stacks;
        self
    }

    /// Where records are written. It is made if it is not there. If not said: `surestack-UID` in the directory for
    /// temporary files, which only this user can read.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// What the helper makes of the record; text if not said.
    pub fn formats(mut self, formats: &[Format]) -> Self {
        self.formats = formats.to_vec();
        self
    }

    /// Who turns the record into something readable; [`Helper::None`] if not said.
    pub fn helper(mut self, helper: Helper) -> Self {
        self.helper = helper;
        self
    }

    /// How long a report may take; 5 s if not said.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Whose traces a report has; [`Threads::All`] if not said.
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Where the report is printed; [`Text::Stderr`] if not said.
    pub fn text(mut self, text: Text) -> Self {
        self.text = text;
        self
    }

    /// Installs it, until the guard is dropped.
    ///
    /// # Errors
    /// What was refused, and what to do about it. Then everything is as it was.
    pub fn install(self) -> Result<Guard, InstallError> {
        match self.with_environment(std::env::var_os)? {
            Some(handler) => guard::install(handler.checked()?),
            None => Ok(Guard::inert()),
        }
    }

    /// Itself, if all of it can be done.
    fn checked(mut self) -> Result<Self, InstallError> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(InstallError::Unsupported);
        }
        if self.budget < Duration::from_millis(1) {
            let variable = self.variable(super::environment::BUDGET);
            return Err(InstallError::Budget { budget: self.budget, variable });
        }
        if self.signals.is_empty() {
            return Err(InstallError::NoSignals);
        }
        let possible = |signal: i32| (1..=31).contains(&signal) && ![libc::SIGKILL, libc::SIGSTOP].contains(&signal);
        if let Some(&signal) = self.signals.iter().find(|signal| !possible(**signal)) {
            return Err(InstallError::Signal { signal });
        }
        // Caught twice, a signal would be passed on from us to us.
        self.signals.sort_unstable();
        self.signals.dedup();
        if let Helper::Path(path) = &self.helper {
            can_be_run(path).map_err(|source| InstallError::Helper { path: path.clone(), source })?;
        }
        Ok(self)
    }

    /// This variable, if it was set in place of what the program said.
    pub(super) fn variable(&self, name: &'static str) -> Option<&'static str> {
        self.variables.contains(&name).then_some(name)
    }
}

fn can_be_run(path: &Path) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with zero.
    if unsafe { libc::access(path.as_ptr(), libc::X_OK) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
