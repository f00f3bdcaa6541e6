//! The file of a record: unnamed when it was opened, named as soon as there is something in it.

use crate::plan::Plan;
use crate::record::Sink;
use crate::syscall::{self, Answer, Descriptor, Errno};
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether the file that was opened at install holds a record already.
static USED: AtomicBool = AtomicBool::new(false);

/// Where a record goes.
pub(crate) struct File {
    to: Option<Descriptor>,
    directory: Option<Descriptor>,
    name: Option<Name>,
}

impl File {
    /// The file prepared by the plan; another one in its directory where that is used already, or where this process is not
    /// the one that prepared it and would share it.
    pub fn new(plan: &Plan, process: u32) -> Self {
        /// `O_TMPFILE | O_RDWR | O_CLOEXEC`
        const UNNAMED: i32 = 0o20_200_000 | 0o2 | 0o2_000_000;
        const PRIVATE: usize = 0o600;
        let own = process == plan.process && !USED.swap(true, Ordering::Relaxed);
        let fresh = || syscall::open_at(plan.directory?, c".", UNNAMED, PRIVATE).ok();
        Self { to: if own { plan.record } else { fresh().or(plan.record) }, directory: plan.directory, name: None }
    }

    /// Gives the file a name, or another one.
    pub fn name(&mut self, name: Name) -> Answer {
        let (Some(to), Some(directory)) = (self.to, self.directory) else { return Ok(()) };
        match &self.name {
            None => syscall::link_at(Name::of_descriptor(to).text(), directory, name.text())?,
            Some(old) => syscall::rename_at(directory, old.text(), name.text())?,
        }
        self.name = Some(name);
        Ok(())
    }

    /// The name it has.
    pub fn named(&self) -> Option<&CStr> {
        self.name.as_ref().map(Name::text)
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

/// Room for a name.
const ROOM: usize = 80;

/// A file's name, with the zero behind it.
pub(crate) struct Name {
    bytes: [u8; ROOM],
    length: usize,
}

impl Name {
    /// `SECONDS-PROCESS-SIGNATURE.surestack`, so that names sort by time.
    pub fn of_record(seconds: u64, process: u32, signature: Option<u64>) -> Self {
        let mut name = Self::new().number(seconds, 10, 10).text_of(b"-").number(u64::from(process), 10, 1);
        if let Some(signature) = signature {
            name = name.text_of(b"-").number(signature, 16, 16);
        }
        name.text_of(b".surestack")
    }

    /// The link that leads to an open file.
    fn of_descriptor(file: Descriptor) -> Self {
        Self::new().text_of(b"/proc/self/fd/").number(u64::from(file.unsigned_abs()), 10, 1)
    }

    const fn new() -> Self {
        Self { bytes: [0; ROOM], length: 0 }
    }

    fn text_of(mut self, text: &[u8]) -> Self {
        for byte in text {
            // The last byte stays 0.
            if let Some(place) = self.bytes.get_mut(self.length).filter(|_| self.length < ROOM - 1) {
                *place = *byte;
                self.length = self.length.saturating_add(1);
            }
        }
        self
    }

    fn number(self, number: u64, base: u64, least: usize) -> Self {
        let (mut digits, mut used, mut rest) = ([b'0'; 20], 0_usize, number);
        for place in digits.iter_mut().rev() {
            if rest == 0 && used >= least {
                break;
            }
            let digit = u8::try_from(rest % base).unwrap_or_default();
            *place = if digit < 10 { b'0'.wrapping_add(digit) } else { b'a'.wrapping_add(digit.wrapping_sub(10)) };
            used = used.saturating_add(1);
            rest /= base;
        }
        self.text_of(digits.get(digits.len().saturating_sub(used)..).unwrap_or_default())
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_end_with_the_signature() {
        let name = Name::of_record(987_654_321, 42, Some(0xabc));
        assert_eq!(name.text(), c"0987654321-42-0000000000000abc.surestack");
        assert_eq!(Name::of_record(1_763_000_000, 4_194_304, None).text(), c"1763000000-4194304.surestack");
        assert_eq!(Name::of_descriptor(7).text(), c"/proc/self/fd/7");
    }
}
