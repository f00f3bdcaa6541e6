//! What a program says: events, and annotations.

use surestack_recorder::{Field, layout::site};

/// Keeps the last value of a key: in every report, and in the recorder. Keys are cut at 32 bytes, text at 240.
///
/// Before a recorder is started, and where no slot is left for another key, nothing happens but that the latter is counted.
///
/// ```
/// use surestack::recorder::annotate;
///
/// annotate("version", "4.2.1");
/// annotate("connections", 17);
/// ```
#[inline]
pub fn annotate(key: &str, value: impl Field) {
    // Whether it is there is in the recorder itself.
    let _ = surestack_recorder::annotate(key, value);
}

/// Whether there is a recorder.
#[inline(always)]
pub fn enabled() -> bool {
    surestack_recorder::started().is_some()
}

/// The number of a level, while compiling.
pub const fn level(name: &str) -> u8 {
    let mut level = site::LEVELS.len() - 1;
    while level > 0 && !same(site::LEVELS[level].as_bytes(), name.as_bytes()) {
        level -= 1;
    }
    level as u8
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Writes an event into this thread's ring: its name, and up to twelve fields with their types.
///
/// A field is a number, a `bool`, a `&str`, a pointer, a [`Formatted`](crate::recorder::Formatted) or a
/// [`Value`](crate::recorder::Value). A name alone is a variable of that name. A level may come first: `error`, `warn`, `info`,
/// `debug` or `trace`. Where there is no recorder, it costs a load and a branch: no field is looked at.
///
/// ```
/// use surestack::recorder::{Formatted, event};
///
/// let (key, peer) = (42, std::net::Ipv4Addr::LOCALHOST);
/// event!("cache miss");
/// event!("cache miss", key, hit_rate = 0.93, path = "/index");
/// event!(warn: "connection lost", peer = Formatted::<16>::of(format_args!("{peer}")));
/// ```
///
/// It can be written in a signal handler. More than twelve fields are refused while compiling:
///
/// ```compile_fail
/// # use surestack::recorder::event;
/// event!("many", a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i = 9, j = 10, k = 11, l = 12, m = 13);
/// ```
#[macro_export]
macro_rules! event {
    (error: $($rest:tt)+) => { $crate::event!(@ "error", $($rest)+) };
    (warn: $($rest:tt)+) => { $crate::event!(@ "warn", $($rest)+) };
    (info: $($rest:tt)+) => { $crate::event!(@ "info", $($rest)+) };
    (debug: $($rest:tt)+) => { $crate::event!(@ "debug", $($rest)+) };
    (trace: $($rest:tt)+) => { $crate::event!(@ "trace", $($rest)+) };
    (@ $level:literal, $name:expr $(, $field:ident $(= $value:expr)?)* $(,)?) => {{
        if $crate::recorder::enabled() {
            // Items are seen by the fields' expressions, which must not mean them.
            const SURESTACK_FIELDS: &[&str] = &[$(stringify!($field)),*];
            const { assert!(SURESTACK_FIELDS.len() <= 12, "an event has at most twelve fields") };
            static SURESTACK_SITE: $crate::recorder::Site = $crate::recorder::Site::new(
                $name,
                module_path!(),
                file!(),
                line!(),
                const { $crate::recorder::level($level) },
                SURESTACK_FIELDS,
            );
            // Whether it is there is in the recorder itself.
            let _ = $crate::recorder::write(
                &SURESTACK_SITE,
                &[$($crate::event!(# $field $(= $value)?)),*],
            );
        }
    }};
    (# $field:ident) => { $crate::recorder::Field::value(&$field) };
    (# $field:ident = $value:expr) => { $crate::recorder::Field::value(&$value) };
    ($name:expr $(, $($rest:tt)*)?) => { $crate::event!(@ "", $name $(, $($rest)*)?) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_numbered_as_the_format_has_them() {
        assert_eq!(["", "error", "warn", "info", "debug", "trace", "other"].map(level), [0, 1, 2, 3, 4, 5, 0]);
    }
}
