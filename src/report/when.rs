//! Times as people and machines write them.

use std::time::SystemTime;
use surestack_capture::record::Moment;

/// A time by RFC 3339, in UTC and to the millisecond: `2026-11-21T17:20:00.125Z`.
pub(super) fn utc(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let Moment { year, month, day, hour, minute, second, milli } =
        Moment::of(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}
