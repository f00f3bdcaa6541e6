//! The file of a record: unnamed when it was opened, named as soon as there is something in it.

use crate::plan::Plan;
use crate::record::{Name, Sink, Storm};
use crate::syscall::{self, Answer, Descriptor, Errno};
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether the file that was opened at install has its name.
static NAMED: AtomicBool = AtomicBool::new(false);

/// Writes the record of last resort to the file that was opened at install, and names that if nobody has.
pub(crate) fn write_last(plan: &Plan, storm: &Storm) -> Answer {
    let mut file = File { to: plan.record, directory: plan.directory, name: None, own: None };
    file.put(&storm.to_bytes())?;
    if NAMED.load(Ordering::Relaxed) { Ok(()) } else { file.name(Name::new(storm.realtime, storm.pid, 0)) }
}

/// Where a record goes.
pub(crate) struct File {
    to: Option<Descriptor>,
    directory: Option<Descriptor>,
    name: Option<Name>,
    /// The same, where nobody else has it.
    own: Option<Descriptor>,
}

impl File {
    /// The file prepared by the plan; another one in its directory where that is used already, or where this process is not
    /// the one that prepared it and would share it.
    pub fn new(plan: &Plan, process: u32) -> Self {
        /// `O_TMPFILE | O_RDWR | O_CLOEXEC`
        const UNNAMED: i32 = 0o20_200_000 | 0o2 | 0o2_000_000;
        const PRIVATE: usize = 0o600;
        if process == plan.process && !plan.used.swap(true, Ordering::Relaxed) {
            NAMED.store(false, Ordering::Relaxed);
            return Self { to: plan.record, directory: plan.directory, name: None, own: None };
        }
        let own = plan.directory.and_then(|place| syscall::open_at(place, c".", UNNAMED, PRIVATE).ok());
        Self { to: own.or(plan.record), directory: plan.directory, name: None, own }
    }

    /// Gives the file a name, or another one.
    pub fn name(&mut self, name: Name) -> Answer {
        let (Some(to), Some(directory)) = (self.to, self.directory) else { return Ok(()) };
        match &self.name {
            None => {
                let link = link_of(to);
                syscall::link_at(CStr::from_bytes_until_nul(&link).unwrap_or_default(), directory, name.as_c_str())?;
            }
            Some(old) => syscall::rename_at(directory, old.as_c_str(), name.as_c_str())?,
        }
        self.name = Some(name);
        if self.own.is_none() {
            NAMED.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Closes the file, if it was opened for this record alone.
    pub fn close(&mut self) {
        if let Some(own) = self.own.take() {
            let _ = syscall::close(own);
            self.to = None;
        }
    }

    /// The name it has.
    pub fn named(&self) -> Option<&CStr> {
        self.name.as_ref().map(Name::as_c_str)
    }
}

impl Sink for File {
    type Error = Errno;

    fn put(&mut self, bytes: &[u8]) -> Answer {
        match self.to {
            Some(to) => syscall::write_all(to, bytes),
            None => Ok(()),
        }
    }
}

/// The link that leads to an open file: 13 bytes, a number, and a zero.
fn link_of(file: Descriptor) -> [u8; 24] {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0";
    let number = file.unsigned_abs();
    let digits = number.checked_ilog10().unwrap_or(0).saturating_add(1);
    for (place, power) in path.iter_mut().skip(14).take(9).zip((0..digits).rev()) {
        let digit = number / 10_u32.pow(power) % 10;
        *place = b'0'.wrapping_add(u8::try_from(digit).unwrap_or_default());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_linked_to_by_its_number() {
        assert_eq!(CStr::from_bytes_until_nul(&link_of(0)).unwrap(), c"/proc/self/fd/0");
        assert_eq!(CStr::from_bytes_until_nul(&link_of(512)).unwrap(), c"/proc/self/fd/512");
        assert_eq!(CStr::from_bytes_until_nul(&link_of(999_999_999)).unwrap(), c"/proc/self/fd/999999999");
    }
}
