//! Times as people and machines write them.

use std::time::SystemTime;

const DAY: u64 = 24 * 60 * 60;

/// A time by RFC 3339, in UTC and to the millisecond: `2026-11-21T17:20:00.125Z`.
pub(super) fn utc(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second, milli) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The day that comes so many days after 1 January 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = |year| if is_leap(year) { 366 } else { 365 };
    // Whole periods of the calendar first: a damaged record may be of any year.
    let (periods, mut day) = (days / 146_097, days % 146_097);
    let mut year = 1970;
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (periods * 400 + year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_is_written_as_date_does() {
        let at = |seconds: u64| utc(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        // `date -u -d @N +%FT%T`
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(1_709_210_096), "2024-02-29T12:34:56.007Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.007Z");
        assert_eq!(at(4_102_444_800), "2100-01-01T00:00:00.007Z");
        assert_eq!(at(13_574_563_200), "2400-02-29T00:00:00.007Z");
        assert_eq!(at(18_446_744_073), "2554-07-21T23:34:33.007Z");
    }
}
