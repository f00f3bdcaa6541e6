//! What whoever runs the program says about its handler.

use super::builder::{Format, Handler};
use super::error::InstallError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The variable that turns everything off.
const DISABLE: &str = "SURESTACK_DISABLE";
/// The one that names the directory.
pub(super) const DIRECTORY: &str = "SURESTACK_DIR";
/// The one that lists formats.
const FORMAT: &str = "SURESTACK_FORMAT";
/// The one that gives the budget.
pub(super) const BUDGET: &str = "SURESTACK_BUDGET_MS";
/// The one that std reads as well.
const BACKTRACE: &str = "RUST_BACKTRACE";

/// How much is printed: what `RUST_BACKTRACE` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What happened, where, and where the record is.
    #[default]
    Short,
    /// The crashed thread's frames too.
    Frames,
    /// Everything.
    Full,
}

impl Handler {
    /// Itself with what the environment says; nothing if it turns handlers off.
    pub(super) fn with_environment(
        mut self,
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Option<Self>, InstallError> {
        let text = |name| variable(name).filter(|value| !value.is_empty()).map(|value| (name, lossy(value)));
        if let Some((name, value)) = text(DISABLE) {
            match value.as_str() {
                "1" => return Ok(None),
                "0" => {}
                _ => return Err(refused(name, value, "1 turns the crash handler off, 0 does not")),
            }
        }
        if let Some(path) = variable(DIRECTORY).filter(|value| !value.is_empty()) {
            self.directory = Some(PathBuf::from(path));
            self.variables.push(DIRECTORY);
        }
        if let Some((name, value)) = text(FORMAT) {
            let formats: Option<Vec<_>> = value.split(',').map(|name| format(name.trim())).collect();
            self.formats = formats.ok_or_else(|| refused(name, value, "a list of `text` and `json`"))?;
            self.variables.push(name);
        }
        if let Some((name, value)) = text(BUDGET) {
            let milliseconds = value.trim().parse().map(Duration::from_millis);
            self.budget = milliseconds.map_err(|_| refused(name, value, "a number of milliseconds"))?;
            self.variables.push(name);
        }
        // As std reads it: anything else means yes.
        self.detail = match text(BACKTRACE).map(|(_, value)| value).as_deref() {
            None | Some("0") => Detail::Short,
            Some("full") => Detail::Full,
            Some(_) => Detail::Frames,
        };
        Ok(Some(self))
    }
}

fn lossy(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

fn format(name: &str) -> Option<Format> {
    match name {
        "text" => Some(Format::Text),
        "json" => Some(Format::Json),
        _ => None,
    }
}

fn refused(variable: &'static str, value: String, expected: &'static str) -> InstallError {
    InstallError::Variable { variable, value, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Option<Handler>, InstallError> {
        let said = Handler::builder().budget(Duration::from_secs(9)).directory("/said").formats(&[]);
        said.with_environment(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn what_the_environment_says_takes_the_place_of_what_the_program_says() {
        let none = with(&[]).unwrap().unwrap();
        assert_eq!((none.budget, none.directory.as_deref()), (Duration::from_secs(9), Some("/said".as_ref())));
        assert_eq!((none.detail, none.variables.len()), (Detail::Short, 0));
        let all = [(DIRECTORY, "/d"), (FORMAT, "json, text"), (BUDGET, "250"), (BACKTRACE, "1"), (DISABLE, "0")];
        let all = with(&all).unwrap().unwrap();
        assert_eq!(all.directory.as_deref(), Some("/d".as_ref()));
        assert_eq!(all.formats, [Format::Json, Format::Text]);
        assert_eq!(all.budget, Duration::from_millis(250));
        assert_eq!(all.detail, Detail::Frames);
        assert_eq!(all.variable(BUDGET), Some(BUDGET));
        assert_eq!(with(&[(BACKTRACE, "full")]).unwrap().unwrap().detail, Detail::Full);
        assert_eq!(with(&[(BACKTRACE, "0")]).unwrap().unwrap().detail, Detail::Short);
        assert!(with(&[(DISABLE, "1"), (FORMAT, "never looked at")]).unwrap().is_none());
    }

    #[test]
    fn a_variable_that_nobody_understands_is_refused_with_its_name_and_what_it_may_say() {
        for (name, value, said) in [
            (
                FORMAT,
                "html",
                "SURESTACK_FORMAT=html is not understood: a list of `text` and `json`; correct it or unset it",
            ),
            (FORMAT, "text,", "SURESTACK_FORMAT=text, is not understood"),
            (BUDGET, "5s", "SURESTACK_BUDGET_MS=5s is not understood: a number of milliseconds"),
            (BUDGET, "-1", "SURESTACK_BUDGET_MS=-1 is not understood"),
            (DISABLE, "yes", "SURESTACK_DISABLE=yes is not understood: 1 turns the crash handler off"),
        ] {
            let error = with(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
