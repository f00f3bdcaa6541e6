//! The name of a record's file, which tells what it is about before it is opened.

use core::ffi::CStr;

/// `TIME-PID-SIGNATURE.surestack`: when, by UTC and to the millisecond; the process; what the crash was like
/// ([`super::Signature`]). Names sort by time.
///
/// ```
/// let name = surestack_capture::record::Name::new(1_795_281_600_125_000_000, 4711, 0x9feb_e502_60ce_4a45);
/// assert_eq!(name.as_bytes(), b"20261121T172000125-4711-9febe50260ce4a45.surestack");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Name {
    bytes: [u8; Self::ROOM],
    length: usize,
}

/// The end of every record's name.
pub const SUFFIX: &str = ".surestack";

impl Name {
    /// The longest name, and the zero behind it.
    const ROOM: usize = 64;

    /// The name of a record that was made so many nanoseconds after 1970.
    pub fn new(realtime: u64, pid: u32, signature: u64) -> Self {
        let mut name = Self { bytes: [0; Self::ROOM], length: 0 };
        let Moment { year, month, day, hour, minute, second, milli } = Moment::of(realtime);
        name.decimal(year, 4);
        name.decimal(month, 2);
        name.decimal(day, 2);
        name.push(b'T');
        name.decimal(hour, 2);
        name.decimal(minute, 2);
        name.decimal(second, 2);
        name.decimal(milli, 3);
        name.push(b'-');
        name.decimal(u64::from(pid), 1);
        name.push(b'-');
        (0..16u32).rev().for_each(|digit| name.push(hexadecimal(signature >> (digit * 4) & 15)));
        SUFFIX.bytes().for_each(|byte| name.push(byte));
        name
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The name as the kernel takes it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    /// The part of a name up to the suffix that every file about this record begins with, if `file` is the name of one: of
    /// the record or, with another suffix, of what was made of it.
    pub fn stem(file: &[u8]) -> Option<&[u8]> {
        let stem = file.split(|byte| *byte == b'.').next()?;
        let mut parts = stem.split(|byte| *byte == b'-');
        let (time, pid, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let (date, clock) = time.split_at_checked(8)?;
        let (mark, clock) = clock.split_first()?;
        let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let is_time = is_number(date) && *mark == b'T' && clock.len() == 9 && is_number(clock);
        let is_signature = signature.len() == 16 && signature.iter().all(u8::is_ascii_hexdigit);
        (is_time && is_number(pid) && is_signature && parts.next().is_none()).then_some(stem)
    }

    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.length).filter(|_| self.length < Self::ROOM - 1) {
            *free = byte;
            self.length = self.length.saturating_add(1);
        }
    }

    /// A number of so many digits at least.
    fn decimal(&mut self, number: u64, digits: u32) {
        let is_digit = |place: &u32| *place < digits || number >= power(*place);
        (0..20u32).rev().filter(is_digit).for_each(|place| {
            let digit = number.checked_div(power(place)).unwrap_or(0) % 10;
            self.push(b'0'.wrapping_add(u8::try_from(digit).unwrap_or(0)));
        });
    }
}

/// A power of ten, as far as there is one.
fn power(of: u32) -> u64 {
    10u64.checked_pow(of).unwrap_or(u64::MAX)
}

fn hexadecimal(digit: u64) -> u8 {
    b"0123456789abcdef".get(usize::try_from(digit).unwrap_or(0)).copied().unwrap_or(b'?')
}

/// A time by the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The year.
    pub year: u64,
    /// The month, 1 to 12.
    pub month: u64,
    /// The day of the month, 1 to 31.
    pub day: u64,
    /// The hour, 0 to 23.
    pub hour: u64,
    /// The minute.
    pub minute: u64,
    /// The second. There are no leap seconds.
    pub second: u64,
    /// The millisecond.
    pub milli: u64,
}

impl Moment {
    /// The time so many nanoseconds after 1970: before the year 2555, whatever they are.
    pub fn of(realtime: u64) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        let (seconds, milli) = (realtime / 1_000_000_000, realtime / 1_000_000 % 1000);
        let (mut day, second) = (seconds / DAY, seconds % DAY);
        let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut month) = (1970, 1);
        while let Some(rest) = day.checked_sub(if is_leap(year) { 366 } else { 365 }) {
            (day, year) = (rest, year.wrapping_add(1));
        }
        let february = if is_leap(year) { 29 } else { 28 };
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            let Some(rest) = day.checked_sub(length) else { break };
            (day, month) = (rest, u64::wrapping_add(month, 1));
        }
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        Self { year, month, day: day.wrapping_add(1), hour, minute, second, milli }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_the_calendar_says() {
        let name = |seconds: u64| Name::new(seconds * 1_000_000_000 + 7_999_999, 1, 0);
        // `date -u -d @N +%Y%m%dT%H%M%S`
        let dates: [(u64, &[u8]); 6] = [
            (0, b"19700101T000000007"),
            (1_709_210_096, b"20240229T123456007"),
            (1_735_689_599, b"20241231T235959007"),
            (4_102_444_800, b"21000101T000000007"),
            (13_574_563_200, b"24000229T000000007"),
            (18_446_744_073, b"25540721T233433007"),
        ];
        for (seconds, date) in dates {
            assert_eq!(name(seconds).as_bytes().split(|byte| *byte == b'-').next(), Some(date));
        }
        assert_eq!(Moment::of(u64::MAX).year, 2554);
    }

    #[test]
    fn the_longest_name_has_room_and_is_known_again() {
        let name = Name::new(u64::MAX, u32::MAX, u64::MAX);
        assert_eq!(name.as_bytes(), b"25540721T233433709-4294967295-ffffffffffffffff.surestack");
        assert_eq!(name.as_c_str().to_bytes(), name.as_bytes());
        let stem = b"25540721T233433709-4294967295-ffffffffffffffff".as_slice();
        assert_eq!(Name::stem(name.as_bytes()), Some(stem));
        assert_eq!(Name::stem(b"25540721T233433709-4294967295-ffffffffffffffff.txt"), Some(stem));
    }

    #[test]
    fn other_names_are_nobody_s_business() {
        let others: [&[u8]; 7] = [
            b"",
            b"notes.surestack",
            b"25540721T233433709-4294967295.surestack",
            b"25540721T233433709-x-ffffffffffffffff.surestack",
            b"25540721T23343370-1-ffffffffffffffff.surestack",
            b"25540721T233433709-1-fffffffffffffff.surestack",
            b"25540721T233433709-1-ffffffffffffffff-1.surestack",
        ];
        assert!(others.iter().all(|name| Name::stem(name).is_none()));
    }
}
