//! The recorder of a process that runs.

use super::{Live, Source};
use crate::error::Error;
use std::fs::{self, File};
use std::io;
use surestack_recorder::decode::Header;
use surestack_recorder::layout::{MAGIC, header};

/// A shared mapping of a process.
struct Mapped {
    low: u64,
    high: u64,
    range: String,
}

/// The recorder that a process has mapped: the one that it began itself, or else the first.
///
/// Its file is opened by way of the mapping, so that a memfd and a file that has been removed are found too; where the
/// system does not allow that, the process's memory is read instead, and that ends with the process.
///
/// # Errors
/// Where there is none, or the process cannot be looked at.
pub fn of_process(pid: u32) -> Result<Live, Error> {
    let failed = |what| move |source| Error::Process { pid, what, source };
    let maps = fs::read(format!("/proc/{pid}/maps")).map_err(failed("reading its mappings"))?;
    let maps = String::from_utf8_lossy(&maps);
    let (mut first, mut refused) = (None, None);
    for mapped in maps.lines().filter_map(mapped) {
        match open(pid, &mapped) {
            Ok(Some((live, own))) if own => return Ok(live),
            Ok(Some((live, _))) => first = first.or(Some(live)),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::NotFound, "it has none mapped");
    first.ok_or_else(|| failed("looking for its recorder")(refused.unwrap_or_else(none)))
}

/// A line of `maps`, if it is of the beginning of something that is shared and writable.
fn mapped(line: &str) -> Option<Mapped> {
    let mut words = line.split_whitespace();
    let (range, permissions, offset) = (words.next()?, words.next()?, words.next()?);
    let (low, high) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (low, high) = (number(low)?, number(high)?);
    (permissions == "rw-s" && number(offset)? == 0).then(|| Mapped { low, high, range: range.to_owned() })
}

/// What is mapped there, if it is a recorder, and whether the process began it itself.
fn open(pid: u32, mapped: &Mapped) -> io::Result<Option<(Live, bool)>> {
    let path = format!("/proc/{pid}/map_files/{}", mapped.range);
    let live = match fs::metadata(&path) {
        // Devices are mapped like this too, and are not to be opened.
        Ok(file) if !file.is_file() => return Ok(None),
        known => match known.and_then(|_| Live::open(path.as_ref())) {
            Ok(live) => live,
            Err(_) => Live::memory(
                File::open(format!("/proc/{pid}/mem"))?,
                mapped.low,
                mapped.high.saturating_sub(mapped.low),
            ),
        },
    };
    let mut begin = [0; header::SIZE];
    if !live.read(0, &mut begin) || !begin.starts_with(&MAGIC) {
        return Ok(None);
    }
    let found = Header::decode(&begin).ok();
    let own = found.is_some_and(|header| header.process == pid);
    Ok(Some((live.of_size(found.map(|header| header.file_size)), own)))
}
