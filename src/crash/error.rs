//! Why no handler was installed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why no handler was installed, and what to do about it. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// There is one already.
    #[error("a handler is installed already; drop its guard first, or install once at the beginning of `main`")]
    Installed,
    /// No handler is written for this machine.
    #[error(
        "there is no crash handler for {}-{} yet, only for x86_64-linux; leave `install` out there",
        std::env::consts::ARCH,
        std::env::consts::OS
    )]
    Unsupported,
    /// A report may take no time at all.
    #[error("a budget of {budget:?} leaves no time to write a report; give at least a millisecond{}", said_by(*variable))]
    Budget {
        /// What was asked for.
        budget: Duration,
        /// The environment variable that asked for it, if one did.
        variable: Option<&'static str>,
    },
    /// A signal that cannot be caught, or is none.
    #[error("signal {signal} cannot be caught; take it out of `signals`")]
    Signal {
        /// Its number.
        signal: i32,
    },
    /// A list of nothing.
    #[error("no signals were given; leave `signals` out for the default, or set SURESTACK_DISABLE=1 for none")]
    NoSignals,
    /// An environment variable that says what nobody understands.
    #[error("{variable}={value} is not understood: {expected}; correct it or unset it")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// No file can be made in the directory for reports.
    #[error("cannot write reports into {}: {source}; give a directory that this user may write to{}", path.display(), said_by(*variable))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The environment variable that named it, if one did.
        variable: Option<&'static str>,
        /// The system's reason.
        source: io::Error,
    },
    /// The helper cannot be run.
    #[error("cannot run the helper {}: {source}; give the path of an executable file, or no helper", path.display())]
    Helper {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused something that the handler cannot do without.
    #[error("{what}: {source}; the limits on memory and open files may be too low")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

fn said_by(variable: Option<&'static str>) -> String {
    variable.map_or_else(String::new, |name| format!(" ({name} is what was set)"))
}
