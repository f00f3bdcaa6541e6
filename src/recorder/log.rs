//! What is logged with the `log` crate, as events.

use super::event::{enabled, level};
use log::{Level, LevelFilter, Log, Metadata, Record};
use surestack_recorder::{Formatted, Site, Value, write};

/// Most bytes of a message; what is longer is cut.
const MESSAGE: usize = 768;
/// What each event says.
const FIELDS: &[&str] = &["message", "target", "file", "line"];

/// Keeps what is logged as events named `log`, each with its message, target, file and line. Nothing is allocated.
///
/// It may be the program's logger, or stand behind one that hands records on.
///
/// ```
/// use surestack::recorder::{self, Options};
///
/// recorder::start(Options::memory())?;
/// recorder::log::Sink::default().install(log::LevelFilter::Debug).expect("the first logger");
/// log::warn!("{} connections left", 3);
/// # Ok::<(), recorder::StartError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sink;

impl Sink {
    /// Makes it the program's logger, of records up to this level.
    ///
    /// # Errors
    /// Where the program has one already.
    pub fn install(self, most: LevelFilter) -> Result<(), log::SetLoggerError> {
        log::set_logger(&Self)?;
        log::set_max_level(most);
        Ok(())
    }
}

impl Log for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        enabled()
    }

    fn log(&self, record: &Record<'_>) {
        if !enabled() {
            return;
        }
        let message = Formatted::<MESSAGE>::of(*record.args());
        let file = record.file().unwrap_or_default();
        let line = Value::Unsigned(record.line().unwrap_or_default().into());
        let values = [Value::Text(message.text()), Value::Text(record.target()), Value::Text(file), line];
        // Whether it is there is in the recorder itself.
        let _ = write(site(record.level()), &values);
    }

    fn flush(&self) {}
}

/// The site of each level: where something was logged differs, what is said about it does not.
fn site(at: Level) -> &'static Site {
    const fn new(name: &str) -> Site {
        Site::new("log", "log", "", 0, level(name), FIELDS)
    }
    static SITES: [Site; 5] = [new("error"), new("warn"), new("info"), new("debug"), new("trace")];
    match at {
        Level::Error => &SITES[0],
        Level::Warn => &SITES[1],
        Level::Info => &SITES[2],
        Level::Debug => &SITES[3],
        Level::Trace => &SITES[4],
    }
}
