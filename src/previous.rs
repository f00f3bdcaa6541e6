//! What a crash handler left behind, taken up when the program starts again.
//!
//! ```no_run
//! while let Some(crash) = surestack::previous_crash()? {
//!     println!("{}", crash.text()?);
//!     crash.remove()?;
//! }
//! # Ok::<(), surestack::Error>(())
//! ```
//!
//! A record is handed out once, the newest first, and to one process only: a file beside it, `NAME.taken`, says that it was.
//! The record keeps its name, which may stand in somebody's log.

use crate::analyze::{self, Options};
use crate::error::Error;
use crate::report::text::{Colour, Length, Text};
use crate::report::{Printer, Report, json::Json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use surestack_capture::record::{Name, SUFFIX};

/// Names the directory, as for the handler.
const DIRECTORY: &str = "SURESTACK_DIR";
/// The suffix of the file that says that a record was handed out.
const TAKEN: &str = "taken";

/// A record that was not handed out before.
#[derive(Debug)]
pub struct PreviousCrash {
    path: PathBuf,
}

/// The newest crash that was not handed out before, in the directory that `SURESTACK_DIR` names, or else in the one where
/// the handler writes if nobody says where: `surestack-UID` in the directory for temporary files.
///
/// # Errors
/// As [`previous_crash_in`].
pub fn previous_crash() -> Result<Option<PreviousCrash>, Error> {
    if let Some(directory) = std::env::var_os(DIRECTORY).filter(|path| !path.is_empty()) {
        return previous_crash_in(Path::new(&directory));
    }
    // SAFETY: asks for a number.
    let user = unsafe { libc::geteuid() };
    let directory = std::env::temp_dir().join(format!("surestack-{user}"));
    // Anybody may have made it, or a link of its name.
    match fs::symlink_metadata(&directory) {
        Ok(found) if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 => {
            previous_crash_in(&directory)
        }
        _ => Ok(None),
    }
}

/// The newest crash in `directory` that was not handed out before. None where there is no such directory.
///
/// # Errors
/// When the directory cannot be read, or it cannot be noted there that the record was handed out.
pub fn previous_crash_in(directory: &Path) -> Result<Option<PreviousCrash>, Error> {
    for (stem, files) in files(directory)?.into_iter().rev() {
        let has = |suffix: &str| files.iter().any(|file| file.path.extension() == Some(OsStr::new(suffix)));
        if !has(SUFFIX.trim_start_matches('.')) || has(TAKEN) {
            continue;
        }
        let path = directory.join(&stem).with_extension(SUFFIX.trim_start_matches('.'));
        match File::create_new(path.with_extension(TAKEN)) {
            Ok(_) => return Ok(Some(PreviousCrash { path })),
            // Another process that started as well was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(written(&path.with_extension(TAKEN))(error)),
        }
    }
    Ok(None)
}

impl PreviousCrash {
    /// The record.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole report, with names and verdicts by the files that are there now.
    ///
    /// # Errors
    /// When the record cannot be read, here and below.
    pub fn report(&self) -> Result<Report, Error> {
        let mut report = Report::default();
        self.print(&mut report)?;
        Ok(report)
    }

    /// The report as text.
    ///
    /// # Errors
    /// As [`PreviousCrash::report`].
    pub fn text(&self) -> Result<String, Error> {
        let mut bytes = vec![];
        self.print(&mut Text::new(&mut bytes, Length::Full, Colour::Never))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The report as JSON (`docs/report.schema.json`).
    ///
    /// # Errors
    /// As [`PreviousCrash::report`].
    pub fn json(&self) -> Result<String, Error> {
        let mut bytes = vec![];
        self.print(&mut Json::new(&mut bytes))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes the report as text beside the record, `NAME.txt`, and says where that is.
    ///
    /// # Errors
    /// As [`PreviousCrash::report`], and when the file cannot be written.
    pub fn write_text(&self) -> Result<PathBuf, Error> {
        self.write("txt", &self.text()?)
    }

    /// Writes the report as JSON beside the record, `NAME.json`, and says where that is.
    ///
    /// # Errors
    /// As [`PreviousCrash::write_text`].
    pub fn write_json(&self) -> Result<PathBuf, Error> {
        self.write("json", &self.json()?)
    }

    /// Removes the record and what was made of it.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        for suffix in ["txt", "json", SUFFIX.trim_start_matches('.'), TAKEN] {
            remove(&self.path.with_extension(suffix))?;
        }
        Ok(())
    }

    fn print(&self, printer: &mut dyn Printer) -> Result<(), Error> {
        analyze::record(&self.path, &Options::default(), printer).map(|_| ())
    }

    fn write(&self, suffix: &str, report: &str) -> Result<PathBuf, Error> {
        let path = self.path.with_extension(suffix);
        fs::write(&path, report).map_err(written(&path))?;
        Ok(path)
    }
}

/// How much a directory may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most records.
    pub records: usize,
    /// Most bytes of them and of what was made of them.
    pub bytes: u64,
}

impl Default for Limits {
    /// A hundred records, and 256 MiB.
    fn default() -> Self {
        Self { records: 100, bytes: 256 << 20 }
    }
}

/// Removes the oldest records in `directory`, with what was made of them, until the others are within `limits`; the newest
/// stays in any case. Files of other names are not looked at. Returns how many records were removed.
///
/// # Errors
/// When the directory cannot be read, or a file in it cannot be removed.
pub fn limit(directory: &Path, limits: Limits) -> Result<usize, Error> {
    let all = files(directory)?;
    let size = |files: &[Found]| files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
    let (mut records, mut bytes) = (all.len(), all.values().fold(0u64, |sum, files| sum.saturating_add(size(files))));
    let mut removed = 0;
    for files in all.values() {
        if records <= 1 || records <= limits.records && bytes <= limits.bytes {
            break;
        }
        files.iter().try_for_each(|file| remove(&file.path))?;
        (records, bytes) = (records.saturating_sub(1), bytes.saturating_sub(size(files)));
        removed += 1;
    }
    Ok(removed)
}

/// A file about a record.
struct Found {
    path: PathBuf,
    size: u64,
}

/// The files about records in a directory by the stem of their names, which sort by time.
fn files(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<Found>>, Error> {
    let refused = |source| Error::Read { path: directory.to_owned(), source };
    let mut all: BTreeMap<PathBuf, Vec<Found>> = BTreeMap::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(refused(error)),
    };
    for entry in entries {
        let entry = entry.map_err(refused)?;
        let name = entry.file_name();
        let Some(stem) = Name::stem(name.as_bytes()) else { continue };
        // Removed meanwhile, it is nobody's business any more.
        let Ok(size) = entry.metadata().map(|metadata| metadata.len()) else { continue };
        all.entry(PathBuf::from(OsStr::from_bytes(stem))).or_default().push(Found { path: entry.path(), size });
    }
    Ok(all)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(written(path)(error)),
        _ => Ok(()),
    }
}

fn written(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Write(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
