//! What went wrong in the harness itself.

use std::{fmt, io};

/// Something the oracle could not do, with the system's reason.
#[derive(Clone, Debug)]
pub struct Error(String);

/// The oracle's own results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal in plain words.
    pub fn new(what: impl Into<String>) -> Error {
        Error(what.into())
    }

    /// What was being done, and the system's answer.
    pub fn system(what: impl fmt::Display, cause: io::Error) -> Error {
        Error(format!("{what}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
